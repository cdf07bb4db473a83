#!/usr/bin/env bash
# Checks and times a release archive on a machine with a GPU: op tests against the CPU engine, the model tests
# on the CUDA engine, the rates of ops, training speed and memory of LLaMA-2-7B's shape. Every part has a time
# limit, and goes on where another failed. Prints a summary; details are in OUT.
#   scripts/gpu_check.sh ARCHIVE OUT [PART...]    parts: kernels ops plans sanitizer saves speed tests; default ops
#     tests speed
set -uo pipefail
archive=$1
out=$2
shift 2
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(tests ops speed)
root=$(mktemp -d)
mkdir -p "$out"
tar xJf "$archive" -C "$root" --strip-components=1
libraries=$(ls -d /usr/local/cuda/lib64 /usr/local/cuda/targets/*/lib 2>/dev/null | paste -sd:)
export LD_LIBRARY_PATH=$libraries:/usr/local/cuda/extras/CUPTI/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
programs=$root/libexec/qft

nvidia-smi --query-gpu=name,driver_version,memory.used --format=csv,noheader

run_tests() {
  local test name
  for test in "$programs"/kernels_*_test; do
    name=$(basename "$test")
    (timeout 120 "$test" >"$out/$name.txt" 2>&1; echo "$? $name" >>"$out/results") &
  done
  wait
  (export QFT_TEST_ENGINE=cuda
   timeout 300 "$programs/model_test" >"$out/model_test.txt" 2>&1; echo "$? model_test" >>"$out/results")
  sort "$out/results"
  grep -hE '^\[  FAILED  \] [^ ]+ \(' "$out"/*_test.txt
}

run_sanitizer() {
  local tool test
  for tool in memcheck racecheck initcheck synccheck; do
    for test in "$programs"/kernels_*_test; do echo "$tool $test $out"; done
  done | xargs -P "$(nproc)" -L 1 bash -c 'timeout 400 compute-sanitizer --tool "$0" --error-exitcode 9 "$1" \
    >"$2/$0.$(basename "$1").txt" 2>&1; code=$?; echo "$0 $(basename "$1"): $code"' | sort
}

# Each line: a name and the options of qft bench. docs/benchmarks.md quotes what this prints.
run_speed() {
  local name options
  while read -r name options; do
    # shellcheck disable=SC2086  # several options
    timeout 150 "$root/bin/qft" bench --seq 2048 --json --set engine=cuda $options \
      >"$out/bench_$name.json" 2>"$out/bench_$name.err"
    echo "$name: $?"
    grep -E '"(tokens_per_second|peak_device_bytes|(recomputed|regated|renewed)_blocks|share_of_limit)"' \
      "$out/bench_$name.json" || tail -n 1 "$out/bench_$name.err"
  done <<'EOF'
fused_4x2048 --model llama-2-7b --batch 4 --steps 4 --gradients fused
fused_4x2048_42G --model llama-2-7b --batch 4 --steps 4 --gradients fused --device-memory-limit 42G
fused_5x2048_42G_no_plane --model llama-2-7b --batch 5 --steps 4 --gradients fused --device-memory-limit 42G --set residual_bits=0
fused_3x2048_30G --model llama-2-7b --batch 3 --steps 4 --gradients fused --device-memory-limit 30G
fused_3x2048_30G_no_plane --model llama-2-7b --batch 3 --steps 4 --gradients fused --device-memory-limit 30G --set residual_bits=0
fused_3x2048_30G_32_features --model llama-2-7b --batch 3 --steps 4 --gradients fused --device-memory-limit 30G --set critical_features=32
fused_1x2048_17G_no_plane --model llama-2-7b --batch 1 --steps 4 --gradients fused --device-memory-limit 17G --set residual_bits=0
stack_65536_30G_no_plane --model llama-2-7b --batch 2 --micro-batches 16 --steps 1 --gradients stack --device-memory-limit 30G --set residual_bits=0 --set accumulation=horizontal
13b_stack_48G_no_plane --model llama-2-13b --batch 1 --steps 2 --gradients stack --device-memory-limit 48G --set residual_bits=0
qwen_3x2048_42G --model qwen2.5-7b --batch 3 --steps 4 --gradients fused --device-memory-limit 42G
EOF
}

# Steps while a checkpoint of 7B is written to memory, beside training and with training standing still.
# Where a step's time goes; tracing adds to it.
run_kernels() {
  QFT_KERNEL_TIMES=$out/kernels_3x2048_30G.txt CUDA_INJECTION64_PATH=$programs/libqft_kernel_times.so \
    timeout 150 "$root/bin/qft" bench --seq 2048 --json --set engine=cuda --model llama-2-7b --batch 3 --steps 4 \
    --gradients fused --device-memory-limit 30G --set residual_bits=0 >"$out/kernels_bench.json"
  head -n 30 "$out/kernels_3x2048_30G.txt"
}

run_saves() {
  local snapshot steps
  while read -r snapshot steps; do
    timeout 280 "$root/bin/qft" bench --seq 2048 --json --set engine=cuda --model llama-2-7b --batch 4 --steps "$steps" \
      --gradients fused --set residual_bits=0 --set snapshot="$snapshot" --save /dev/shm/qft_saves \
      >"$out/saves_$snapshot.json" 2>"$out/saves_$snapshot.err"
    echo "snapshot=$snapshot: $?"
    grep -E '"(begin_seconds|save_seconds|step_[a-z_]*|steps_[a-z]*|saves|checkpoint_bytes|peak_device_bytes)"' \
      "$out/saves_$snapshot.json" || tail -n 1 "$out/saves_$snapshot.err"
    rm -rf /dev/shm/qft_saves
  done <<'EOF'
host 12
none 3
EOF
}

run_plans() {
  "$(dirname "${BASH_SOURCE[0]}")/../bench/planner/planned_measured.sh" "$root/bin/qft" "$out/plans" | tee "$out/plans.txt"
}

for part in "${parts[@]}"; do
  echo "== $part"
  case $part in
    tests) run_tests ;;
    plans) run_plans ;;
    ops) timeout 120 "$programs/bench_cuda_ops" 2>&1 | tee "$out/ops.txt" ;;
    sanitizer) run_sanitizer ;;
    speed) run_speed ;;
    kernels) run_kernels ;;
    saves) run_saves ;;
    *) echo "there is no part $part" >&2 ;;
  esac
done
rm -rf "$root"
