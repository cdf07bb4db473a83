#!/bin/sh
# check_isa_symbols.sh NM isa object... isa object...
# Fails when an object defines a symbol that the linker may share with other objects (weak or
# unique) and whose name does not carry the object's namespace: the linker keeps any one copy of
# such a symbol, perhaps one that the processor at hand cannot run. Type information and references
# to it are data and may be shared.
nm=$1
shift
isa=
checked=0
status=0
for argument in "$@"; do
  case $argument in
    plain | avx2 | avx512)
      isa=$argument
      continue
      ;;
  esac
  if ! symbols=$("$nm" --defined-only "$argument"); then
    echo "cannot read $argument"
    exit 1
  fi
  checked=$((checked + 1))
  leaks=$(printf '%s\n' "$symbols" | grep -E ' [WwVvu] ' | grep -vE ' (_ZT[IS]|DW\.ref\.)' |
    grep -v "${#isa}$isa")
  if [ -n "$leaks" ]; then
    printf '%s leaks:\n%s\n' "$argument" "$leaks"
    status=1
  fi
done
if [ "$checked" -lt 3 ]; then
  echo "checked $checked objects: expected all of three instruction sets"
  exit 1
fi
exit $status
