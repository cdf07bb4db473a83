#!/usr/bin/env bash
# Fine-tunes SmolLM2-135M-Instruct on WordNet questions for 200 steps of 512 tokens on one engine, twice, and
# prints the held-out loss and whether both runs ended in the same bits. The same command on another engine
# tells how far the engines are apart.
#   bench/accuracy/engine_run.sh ENGINE QFT MODEL DATA OUT [STEPS]
set -euo pipefail
engine=$1
qft=$2
model=$3
data=$4
out=$5
steps=${6:-200}
mkdir -p "$out"
for run in first second; do
  rm -rf "${out:?}/$run"
  "$qft" finetune --model "$model" --data "$data" --output "$out/$run" --export "$out/$run/export" --steps "$steps" \
    --micro-batch-tokens 512 --sequence 512 --schedule cosine --held-out 0.04 --held-out-limit 160 \
    --save-every 0 --set engine="$engine" >"$out/$run.log"
  [ "$engine" != cpu ] || break # its repetitions are equal, as the tests show
done
python3 - "$out" "$engine" <<'PY'
import hashlib, json, pathlib, sys
out, engine = pathlib.Path(sys.argv[1]), sys.argv[2]
runs = [run for run in ("first", "second") if (out / run).exists()]
summaries = [json.loads((out / run / "summary.json").read_text()) for run in runs]
weights = [hashlib.sha256((out / run / "export" / "model.safetensors").read_bytes()).hexdigest()
           for run in runs]
print(json.dumps({"engine": engine, "steps": summaries[0]["steps"],
                  "held_out_loss_before": summaries[0]["eval_loss_before"],
                  "held_out_loss_after": [s["eval_loss_after"] for s in summaries],
                  "same_bits": len(set(weights)) == 1,
                  "tokens_per_second": [s["tokens_per_second"] for s in summaries]}))
PY
