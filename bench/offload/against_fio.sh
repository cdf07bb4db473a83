#!/usr/bin/env bash
# The offload store against fio, in one run: same folder, file size, block size, depth; direct I/O,
# io_uring, registered memory and files for both; turns alternate. Both at once, the first half
# is read and the second written, in fio by a job each with half the depth. Prints JSON with all turns, medians and ratios.
#   bench/offload/against_fio.sh FOLDER [BUILD_FOLDER]
# Environment: ROUNDS (5), SECONDS_EACH (3), MIB (2048), BLOCK_KIB (1024), DEPTH (32).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=$1
build=${2:-$root/build}
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-3} mib=${MIB:-2048} block=${BLOCK_KIB:-1024} depth=${DEPTH:-32}
work=$(mktemp -d -p "$folder" against_fio.XXXXXX)
trap 'rm -rf "$work"' EXIT

# Before each turn of fio its file is written anew, as the store writes its own before it is measured.
run_fio() {  # MODE
  fio --name=fill --rw=write --direct=1 --bs=1m --iodepth=16 --ioengine=io_uring --size="${mib}m" \
    --filename="$work/data" >/dev/null
  local half_depth=$((depth / 2)) half=$((mib / 2))m jobs
  case $1 in
    both)
      jobs=("--iodepth=$half_depth" "--size=$half" --name=read --rw=read
        --name=write --rw=write "--iodepth=$half_depth" "--size=$half" "--offset=$half") ;;
    *) jobs=("--iodepth=$depth" "--size=${mib}m" "--name=$1" "--rw=$1") ;;
  esac
  fio --ioengine=io_uring --fixedbufs --registerfiles --direct=1 --bs="${block}k" \
    --filename="$work/data" --time_based --runtime="$seconds" --output-format=json "${jobs[@]}"
}

run_store() {  # MODE BACKEND
  "$build/bin/bench_store" "$1" "$seconds" $((mib << 20)) $((block << 10)) "$depth" "$2" "$work"
}

for ((round = 0; round < rounds; ++round)); do
  for mode in read write both; do
    run_fio $mode >"$work/fio.$mode.$round"
    run_store $mode io_uring >"$work/io_uring.$mode.$round"
    run_store $mode threads >"$work/threads.$mode.$round"
  done
done

python3 - "$work" "$rounds" "ROUNDS=$rounds SECONDS_EACH=$seconds MIB=$mib BLOCK_KIB=$block DEPTH=$depth bench/offload/against_fio.sh" <<'EOF'
import datetime, json, pathlib, statistics, sys
work, rounds, command = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def rate(program, mode, turn):
    """Bytes a second, of reads and writes together."""
    output = json.loads((work / f"{program}.{mode}.{turn}").read_text())
    if program != "fio":
        return output["read"] + output["write"]
    return sum(job[kind]["bw_bytes"] for job in output["jobs"] for kind in ("read", "write"))

result = {"command": command, "date": datetime.date.today().isoformat()}
for mode in ("read", "write", "both"):
    turns = {p: [rate(p, mode, t) for t in range(rounds)] for p in ("fio", "io_uring", "threads")}
    medians = {p: statistics.median(values) for p, values in turns.items()}
    result[mode] = {
        "MB_per_second": {p: [round(v / 1e6) for v in values] for p, values in turns.items()},
        "io_uring_of_fio": round(medians["io_uring"] / medians["fio"], 3),
        "threads_of_fio": round(medians["threads"] / medians["fio"], 3),
    }
print(json.dumps(result, indent=1))
EOF
