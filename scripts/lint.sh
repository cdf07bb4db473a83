#!/usr/bin/env bash
# Checks all C, C++ and CUDA files with clang-format, and all C and C++ sources that a configured build
# folder compiles with clang-tidy; fails on any finding. Sources that were clean and have not changed since are not
# looked at again.
#   scripts/lint.sh [BUILD_FOLDER]    default: build
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$(cd "${1:-$root/build}" && pwd)

# Another version lays out other lines and has other checks.
version=14
for tool in clang-format clang-tidy; do
  if [[ $("$tool" --version) != *"version $version."* ]]; then
    echo "Not linted: that needs $tool $version, as Debian 12 has it." >&2
    exit 0
  fi
done

failed=0
cd "$root"
git ls-files -z '*.h' '*.c' '*.cpp' '*.cu' '*.cuh' | xargs -0 clang-format --dry-run -Werror || failed=1

python3 scripts/lint_sources.py "$build" || failed=1
exit $failed
