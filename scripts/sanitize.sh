#!/usr/bin/env bash
# Builds the tests into build/KIND and runs them so that mistakes with memory or threads show; fails on
# any finding. docs/durability.md says what that gave. Further arguments go to ctest.
#   scripts/sanitize.sh address [-R NthFailure]     AddressSanitizer with LeakSanitizer, and
#                                                   UndefinedBehaviorSanitizer; default: all tests
#   scripts/sanitize.sh threads [-R BackgroundSave] ThreadSanitizer; default: what runs several threads
#   scripts/sanitize.sh valgrind                    memcheck: the misuse from C, and qft while it trains
# Environment: BUILD (default: build/KIND); JOBS (default: cores).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kind=${1:?address, threads or valgrind}
shift
build=${BUILD:-$root/build/$kind}
jobs=${JOBS:-$(nproc)}

build_all() {
  cmake -S "$root" -B "$build" -G Ninja -DQFT_CUDA=OFF "$@" >/dev/null
  cmake --build "$build" -j "$jobs"
}

# Two steps with a save beside each; then the second again from the checkpoint of the first, and export.
train() {
  local program=$1 folder
  folder=$(mktemp -d)
  printf '{"text": "%s"}\n' one two three four five six seven eight >"$folder/data.jsonl"
  "${valgrind[@]}" "$program" finetune --model "$root/examples/tiny-model" --output "$folder/run" \
    --data "$folder/data.jsonl" --steps 2 --save-every 1 --set snapshot=host \
    --micro-batch-tokens 64 --sequence 64 --threads 2
  "${valgrind[@]}" "$program" finetune --resume "$folder/run/checkpoints/step_1" \
    --export "$folder/export"
  rm -r "$folder"
}

case $kind in
address)
  build_all -DQFT_SANITIZE=ON
  ctest --test-dir "$build" --output-on-failure -j "$jobs" --timeout 3600 "$@"
  ;;
threads)
  build_all -DQFT_SANITIZE_THREADS=ON
  several='ThreadPool|CopyThread|CopiesTest|HandleTest|CheckpointTest|BackgroundSave|CallbackFiles'
  several+='|SaveBeside|SameBits|MomentumPlace|MomentumStream|NvmeFaults|StoreTest|StoreFaults|CheckpointWays|misuse|BatchQueue|MixedData|DataDoor'
  [ $# -gt 0 ] || set -- -R "$several"
  TSAN_OPTIONS="suppressions=$root/tests/tsan.supp" \
    ctest --test-dir "$build" --output-on-failure -j "$jobs" --timeout 3600 "$@"
  ;;
valgrind)
  build_all
  valgrind=(valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite
    --show-leak-kinds=definite --suppressions="$root/tests/valgrind.supp")
  for part in core model state save data; do "${valgrind[@]}" "$build/bin/misuse_${part}_test"; done
  train "$build/bin/qft"
  ;;
*)
  echo "address, threads or valgrind, not $kind" >&2
  exit 2
  ;;
esac
