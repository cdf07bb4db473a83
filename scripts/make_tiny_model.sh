#!/usr/bin/env bash
# Makes examples/tiny-model, the model that quickstart falls back to: a tokenizer and a model of about
# one million parameters, trained from random weights with this runtime on definitions from WordNet.
# Needs a build, wordnet-base, and Python with the package `tokenizers`. Takes some minutes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" "$root/scripts/make_tiny_model_data.py" "$work"
"$root/build/bin/qft" create --config "$root/examples/tiny-model-config.json" \
  --tokenizer "$work/tokenizer.json" --output "$work/start" --seed 1
"$root/build/bin/qft" finetune --model "$work/start" --data "$work/text.jsonl" \
  --output "$work/run" --steps "${STEPS:-3000}" --micro-batch-tokens 1024 --sequence 256 \
  --learning-rate 1e-3 --schedule cosine --warmup 100 --held-out 0.01 --save-every 0
rm -rf "$root/examples/tiny-model"
"$root/build/bin/qft" export --checkpoint "$work/run" --output "$root/examples/tiny-model"
cat "$work/run/summary.json"
