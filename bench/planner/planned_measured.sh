#!/usr/bin/env bash
# Planned against measured memory: trains each configuration for two steps with random weights and compares
# the peak of what is in use (on a GPU all of the device, as the driver says; on the cpu engine this
# process's resident memory) with what the session planned, and with what `qft plan` says without a device.
# Fails where a session is off by more than 2 % and by more than 256 MB.
#   bench/planner/planned_measured.sh QFT OUT [cuda|cpu [DEVICE]]     DEVICE: of qft plan, h100-80gb for cuda
set -uo pipefail
qft=$1
out=$2
engine=${3:-cuda}
device=${4:-h100-80gb}
mkdir -p "$out"

# Each line: a name and the options that qft bench and qft plan share.
configurations_cuda() {
  cat <<'EOF'
135m_stack --model smollm2-135m --batch 8 --seq 2048 --gradients stack
1b_stack --model llama-3.2-1b --batch 4 --seq 2048 --gradients stack
1b_fused_4_micro_batches_12G --model llama-3.2-1b --batch 2 --seq 2048 --micro-batches 4 --gradients fused --device-memory-limit 12G
7b_fused_1x2048_17G_no_plane --model llama-2-7b --batch 1 --seq 2048 --gradients fused --device-memory-limit 17G --set residual_bits=0
7b_fused_3x2048_30G_no_plane --model llama-2-7b --batch 3 --seq 2048 --gradients fused --device-memory-limit 30G --set residual_bits=0
7b_fused_4x2048 --model llama-2-7b --batch 4 --seq 2048 --gradients fused
7b_stack_horizontal_30G_no_plane --model llama-2-7b --batch 2 --seq 2048 --micro-batches 4 --gradients stack --device-memory-limit 30G --set residual_bits=0 --set accumulation=horizontal
8b_auto_2x2048_40G --model llama-3-8b --batch 2 --seq 2048 --device-memory-limit 40G
qwen_fused_3x2048_42G --model qwen2.5-7b --batch 3 --seq 2048 --gradients fused --device-memory-limit 42G
13b_stack_1x2048_48G_no_plane --model llama-2-13b --batch 1 --seq 2048 --gradients stack --device-memory-limit 48G --set residual_bits=0
EOF
}

configurations_cpu() {
  cat <<'EOF'
stack_1x256 --model smollm2-135m --batch 1 --seq 256 --gradients stack
fused_1x256 --model smollm2-135m --batch 1 --seq 256 --gradients fused
stack_4x256 --model smollm2-135m --batch 4 --seq 256 --gradients stack
fused_4x256_1G --model smollm2-135m --batch 4 --seq 256 --gradients fused --device-memory-limit 1G
two_micro_batches --model smollm2-135m --batch 1 --seq 256 --micro-batches 2 --gradients stack
horizontal --model smollm2-135m --batch 1 --seq 256 --micro-batches 2 --gradients stack --set accumulation=horizontal
no_plane --model smollm2-135m --batch 1 --seq 256 --gradients fused --set residual_bits=0
no_critical_features --model smollm2-135m --batch 1 --seq 256 --gradients fused --set critical_features=0
EOF
}

names=()
while read -r name options; do
  names+=("$name")
  # shellcheck disable=SC2086  # several options
  timeout 200 "$qft" bench --steps 1 --json --set engine="$engine" $options \
    >"$out/$name.json" 2>"$out/$name.err" || tail -n 1 "$out/$name.err"
  profile=()
  [ "$engine" = cpu ] || profile=(--device "$device")
  # shellcheck disable=SC2086  # several options
  "$qft" plan --json --engine "$engine" "${profile[@]}" $options >"$out/$name.plan.json" 2>>"$out/$name.err"
done < <("configurations_$engine")

python3 - "$out" "${names[@]}" <<'EOF'
import json
import pathlib
import sys

folder = pathlib.Path(sys.argv[1])
wrong = 0
print(f"{'':34}{'peak MB':>10}{'planned':>10}{'off by':>9}{'':8}{'qft plan':>10}{'off by':>9}")
for name in sys.argv[2:]:
    try:
        told = json.loads((folder / f"{name}.json").read_text())
        plan = json.loads((folder / f"{name}.plan.json").read_text())
    except ValueError:
        print(f"{name:34} did not run")
        wrong += 1
        continue
    peak = told["peak_device_bytes"]
    planned = told["planned_device_bytes"]
    profile = plan["tiers"][0]["bytes"]
    off = planned - peak
    bad = abs(off) > 0.02 * peak and abs(off) > 256e6
    wrong += bad
    print(f"{name:34}{peak / 1e6:10.0f}{planned / 1e6:10.0f}{off / 1e6:9.0f}{off / peak:8.1%}"
          f"{profile / 1e6:10.0f}{(profile - peak) / 1e6:9.0f}{'  TOO FAR' if bad else ''}")
sys.exit(1 if wrong else 0)
EOF
