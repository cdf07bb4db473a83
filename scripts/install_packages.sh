#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that building, testing and the quick start need. Does nothing
# when all are there. A GPU is not needed.
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config ccache
  libabsl-dev libdnnl-dev nlohmann-json3-dev libcli11-dev libxxhash-dev libicu-dev liburing-dev
  libgtest-dev libgmock-dev valgrind clang-format clang-tidy
  wordnet-base unzip python3 python3-venv python3-pip python3-numpy python3-xxhash
)

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "Installing: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "These packages are missing and this is not root; please install them:" >&2
    echo "  apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
