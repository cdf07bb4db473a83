#!/usr/bin/env bash
# usage: same_bits_under_valgrind.sh PROGRAM
set -euo pipefail
native=$("$1")
emulated=$(valgrind --tool=none -q "$1")
echo "native   $native"
echo "valgrind $emulated"
[ -n "$native" ] && [ "$native" = "$emulated" ]
