#!/usr/bin/env bash
# Times qft against PyTorch (see compare.py, which takes the arguments). Uses the Python in $PYTHON if
# it has torch and transformers, otherwise makes a virtual environment in .cache/peers. Needs
# build/bin/qft, and the model that scripts/quickstart.sh fetches unless --model says another.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

python=${PYTHON:-python3}
if ! "$python" -c 'import torch, transformers' 2>/dev/null; then
  python=$root/.cache/peers/bin/python
  if ! "$python" -c 'import torch, transformers' 2>/dev/null; then
    python3 -m venv "$root/.cache/peers"
    "$python" -m pip install --quiet torch transformers
  fi
fi

model=()
case " $* " in
  *" --model"*) ;;
  *) model=(--model "$root/.cache/SmolLM2-135M-Instruct.Q4_1.gguf") ;;
esac
exec "$python" "$here/compare.py" "${model[@]}" "$@"
