#!/usr/bin/env bash
# Runs the table on a machine with GPUs, from files that were carried there, and leaves OUT/accuracy.tar.xz,
# which report.py reads once unpacked. Needs Python with PyTorch, transformers, safetensors.
#   bench/accuracy/table/gpu_call.sh ARCHIVE MODEL TOKENS SITE OUT SECONDS [OPTIONS OF run.py]
#   ARCHIVE   the release archive     SITE  .tar.xz of a Python path with bitsandbytes and gguf
#   PREVIOUS=FILE (environment): an accuracy.tar.xz; runs that are whole in it are not made again
#   MPS=0 (environment): GPUs are shared in turns even where the driver could do better
set -uo pipefail
archive=$1 model=$2 tokens=$3 site=$4 out=$5 seconds=$6
shift 6
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
work=$(mktemp -d)
mkdir -p "$work/qft" "$work/site" "$work/accuracy" "$out"
tar xf "$archive" -C "$work/qft" --strip-components=1 || exit 1
tar xf "$site" -C "$work/site" || exit 1
[ -z "${PREVIOUS:-}" ] || tar xf "$PREVIOUS" -C "$work" || exit 1
export PYTHONPATH=$work/site PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
models=$(mktemp -d -p /dev/shm)
nvidia-smi --query-gpu=name,driver_version,memory.used --format=csv,noheader |
  tee "$work/accuracy/gpus.txt"
gpus=$(wc -l <"$work/accuracy/gpus.txt")

python3 "$root/bench/accuracy/table/prepare_models.py" --model "$model" --library "$work/qft/lib" \
  --out "$models" || exit 1
echo "models after $SECONDS s"

# With the multi-process service kernels of several runs share a GPU at the same time.
per_gpu=3
export CUDA_MPS_PIPE_DIRECTORY=$work/mps CUDA_MPS_LOG_DIRECTORY=$work/mps_log
mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
probe="import torch; assert float(torch.ones(8, device='cuda').sum()) == 8"
if [ "${MPS:-1}" != 0 ] && timeout 20 nvidia-cuda-mps-control -d && timeout 40 python3 -c "$probe"; then
  per_gpu=6
else
  echo "no multi-process service"
  echo quit | timeout 10 nvidia-cuda-mps-control 2>/dev/null
  unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
fi
echo "$per_gpu runs a GPU, after $SECONDS s"

cuda=$(printf '%s:' /usr/local/cuda/lib64 /usr/local/cuda*/targets/x86_64-linux/lib)
python3 "$root/bench/accuracy/table/run.py" --library "$work/qft/lib" --cuda-libraries "$cuda" \
  --models "$models" --tokens "$tokens" --out "$work/accuracy" --engine cuda --gpus "$gpus" \
  --jobs-per-gpu "$per_gpu" --seconds $((seconds - SECONDS - 20)) "$@"
rc=$?
[ "$per_gpu" = 3 ] || echo quit | timeout 10 nvidia-cuda-mps-control
rm -rf "$models"
tar cf - -C "$work" accuracy | xz -T0 -1 >"$out/accuracy.tar.xz"
ls -l "$out/accuracy.tar.xz"
echo "over after $SECONDS s"
exit $rc
