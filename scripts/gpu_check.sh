#!/usr/bin/env bash
# Checks and times a release archive on a machine with a GPU: op tests against the CPU engine, the model tests
# on the CUDA engine, the rates of ops, training speed and memory of LLaMA-2-7B's shape. Every part has a time
# limit, and goes on where another failed. Prints a summary; details are in OUT.
#   scripts/gpu_check.sh ARCHIVE OUT [PART...]    parts: ops tests sanitizer speed; default all but sanitizer
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
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
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
    for test in "$programs"/kernels_*_test; do
      timeout 200 compute-sanitizer --tool "$tool" --error-exitcode 9 "$test" \
        >"$out/$tool.$(basename "$test").txt" 2>&1
      echo "$tool $(basename "$test"): $?"
    done
  done
}

# What the README and docs/benchmarks.md quote.
run_speed() {
  local bench=("$root/bin/qft" bench --model llama-2-7b --seq 2048 --json --set engine=cuda)
  local name
  while read -r name options; do
    # shellcheck disable=SC2086  # several options
    timeout 150 "${bench[@]}" $options >"$out/bench_$name.json" 2>"$out/bench_$name.err"
    echo "$name: $? $(tr -d '\n ' <"$out/bench_$name.json" | cut -c1-700)"
    tail -n 1 "$out/bench_$name.err"
  done <<'EOF'
fused_2x2048_30G --batch 2 --steps 5 --gradients fused --device-memory-limit 30G
fused_4x2048_42G --batch 4 --steps 5 --gradients fused --device-memory-limit 42G
fused_1x2048_17G --batch 1 --steps 5 --gradients fused --device-memory-limit 17G --set residual_bits=0
stack_65536_30G --batch 2 --micro-batches 16 --steps 1 --gradients stack --device-memory-limit 30G --set residual_bits=0
EOF
}

for part in "${parts[@]}"; do
  echo "== $part"
  case $part in
    tests) run_tests ;;
    ops) timeout 120 "$programs/bench_cuda_ops" 2>&1 | tee "$out/ops.txt" ;;
    sanitizer) run_sanitizer ;;
    speed) run_speed ;;
    *) echo "there is no part $part" >&2 ;;
  esac
done
rm -rf "$root"
