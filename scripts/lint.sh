#!/usr/bin/env bash
# Checks all C, C++ and CUDA files with clang-format, and all C and C++ sources that a configured build
# folder compiles with clang-tidy; fails on any finding. Sources that were clean and have not changed since are not
# looked at again.
#   scripts/lint.sh [BUILD_FOLDER]    default: build
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$(cd "${1:-$root/build}" && pwd)
lint=$build/lint

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

mkdir -p "$lint/clean"
# Prints each source and a hash of all that its findings depend on, system headers aside.
python3 - "$build" "$lint" >"$lint/sources" <<'EOF'
import hashlib, json, pathlib, re, subprocess, sys
build, lint = map(pathlib.Path, sys.argv[1:])
# GCC's options, unknown to clang; its warnings are the build's business.
gcc_only = re.compile(r" -(W|mmove-max=|mstore-max=)\S*")
# What is compiled several times is checked once, kernels with the widest instruction set.
commands = {}
for entry in json.loads((build / "compile_commands.json").read_text()):
    if entry["file"].endswith(".cu"):  # needs a clang that knows this CUDA
        continue
    # Clang 14 knows _Float16, which a test compares with, only with this option.
    command = gcc_only.sub("", entry["command"]) + " -mavx512fp16"
    commands[entry["file"]] = {**entry, "command": command}
(lint / "compile_commands.json").write_text(json.dumps(list(commands.values()), indent=1))
listing = subprocess.run(["git", "ls-files", "-z", "*.h", "*.clang-tidy"], check=True,
                         capture_output=True, text=True).stdout
common = hashlib.sha256()
for name in filter(None, listing.split("\0")):
    common.update(pathlib.Path(name).read_bytes())
for source, entry in sorted(commands.items()):
    own = common.copy()
    own.update(entry["command"].encode() + pathlib.Path(source).read_bytes())
    print(source, own.hexdigest(), sep="\0", end="\0")
EOF

# shellcheck disable=SC2317  # xargs calls it
check_source() {
  local lint=$1 source=$2 clean=$1/clean/$3 findings
  [ ! -e "$clean" ] || return 0
  if findings=$(clang-tidy --quiet -p "$lint" "$source" 2>&1); then
    : >"$clean"
  else
    printf '%s\n' "$findings"
    return 1
  fi
}
export -f check_source
xargs -0 -n 2 -P "$(nproc)" bash -c 'check_source "$@"' check_source "$lint" <"$lint/sources" ||
  failed=1
exit $failed
