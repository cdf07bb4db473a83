#!/usr/bin/env bash
# Fine-tunes the same model on the same data in the same order, with all states in INT8 and with fp32
# states and arithmetic, and prints both losses on held-out questions and on 2,000 that neither saw.
# Needs what scripts/quickstart.sh fetches.
#   bench/accuracy/int8_against_fp32.sh [STEPS] [TOKENS PER STEP] [LEARNING RATE]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
steps=${1:-300}
tokens=${2:-256}
rate=${3:-1e-5}
out=$root/runs/int8_against_fp32
rm -rf "$out"
mkdir -p "$out"
python3 "$root/scripts/make_wordnet_data.py" --count 6000 "$out/more.jsonl"
grep -vxFf "$root/.cache/wordnet.jsonl" "$out/more.jsonl" >"$out/unseen.jsonl"
for arm in int8 fp32; do
  set=()
  [ "$arm" = int8 ] || set=(--set states=fp32 --set arithmetic=float)
  "$root/build/bin/qft" finetune --model "$root/.cache/SmolLM2-135M-Instruct.Q4_1.gguf" \
    --data "$root/.cache/wordnet.jsonl" --output "$out/$arm" --steps "$steps" \
    --micro-batch-tokens "$tokens" --sequence "$tokens" --learning-rate "$rate" \
    --schedule cosine --held-out 0.04 --held-out-limit 160 --save-every 0 "${set[@]}"
  "$root/build/bin/qft" eval --checkpoint "$out/$arm" --data "$out/unseen.jsonl" --all --json \
    "${set[@]}" >"$out/$arm/unseen.json"
done
python3 - "$out" "$root/bench/results/int8_against_fp32.json" <<'PY'
import json, sys
folder, path = sys.argv[1:]
arms = {arm: json.load(open(f"{folder}/{arm}/summary.json")) for arm in ("int8", "fp32")}
loss = {arm: summary["eval_loss_after"] for arm, summary in arms.items()}
unseen = {arm: json.load(open(f"{folder}/{arm}/unseen.json"))["loss"] for arm in arms}
result = {"steps": arms["int8"]["steps"], "tokens": arms["int8"]["tokens"],
          "held_out_loss_before": {a: s["eval_loss_before"] for a, s in arms.items()},
          "held_out_loss_after": loss, "relative_gap": loss["int8"] / loss["fp32"] - 1,
          "unseen_loss_after": unseen, "relative_gap_unseen": unseen["int8"] / unseen["fp32"] - 1,
          "tokens_per_second": {a: s["tokens_per_second"] for a, s in arms.items()}}
json.dump(result, open(path, "w"), indent=1)
print(json.dumps(result, indent=1))
PY
