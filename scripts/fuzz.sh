#!/usr/bin/env bash
# Builds the fuzzers of tests/fuzz with clang and runs each on the committed corpus, one a core at a
# time; fails on any finding. docs/fuzzing.md says what they check.
#   scripts/fuzz.sh [SECONDS_PER_TARGET] [TARGET...]    default: 60, all of them
# Environment: JOBS (default: cores); CXX, CC (default: clang++, clang); BUILD (default: build/fuzz).
# New inputs are kept in BUILD/corpus, findings in BUILD/findings.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${BUILD:-$root/build/fuzz}
jobs=${JOBS:-$(nproc)}
export seconds=${1:-60} build root
[ $# -eq 0 ] || shift

mkdir -p "$build/findings"
cmake -S "$root" -B "$build" -G Ninja -DQFT_FUZZ=ON -DQFT_CUDA=OFF \
  -DCMAKE_CXX_COMPILER="${CXX:-clang++}" -DCMAKE_C_COMPILER="${CC:-clang}" >"$build/configure.log" 2>&1 ||
  { cat "$build/configure.log" >&2; exit 1; }
cmake --build "$build" -j "$jobs" --target fuzzers

# shellcheck disable=SC2317  # xargs calls it
fuzz() {
  local target=$1 log=$build/$1.log status=0 cpu
  mkdir -p "$build/corpus/$target"
  # An input has at most 64 KiB: one allocation above 64 MiB believes a number in the file.
  ASAN_OPTIONS=quarantine_size_mb=16 OMP_NUM_THREADS=1 bash -c 'TIMEFORMAT="cpu %U %S"; time "$@"' _ \
    "$build/bin/fuzz_$target" -max_total_time="$seconds" -max_len=65536 -malloc_limit_mb=64 \
    -rss_limit_mb=512 -timeout=25 -use_value_profile=1 -print_final_stats=1 \
    -artifact_prefix="$build/findings/$target-" "$build/corpus/$target" \
    "$root/tests/fuzz/corpus/$target" >"$log" 2>&1 || status=$?
  cpu=$(awk '$1 == "cpu" { printf "%.0f", $2 + $3 }' "$log")
  awk -v name="$target" -v cpu="$cpu" -v status="$status" '
    / cov: / { for (i = 1; i < NF; ++i) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1) } }
    /stat::number_of_executed_units:/ { runs = $2 }
    /stat::peak_rss_mb:/ { rss = $2 }
    END { printf "%-20s %10d runs  %6d edges  %6d features  %4d MiB  %6s CPU s  %s\n", name, runs, cov,
          ft, rss, cpu, status == 0 ? "ok" : "FINDING" }' "$log"
  [ "$status" -eq 0 ] || { tail -40 "$log"; return 1; }
}
export -f fuzz

if [ $# -eq 0 ]; then
  for program in "$build"/bin/fuzz_*; do set -- "$@" "${program##*/fuzz_}"; done
fi
printf '%s\n' "$@" | xargs -P "$jobs" -I{} bash -c 'fuzz {}'
