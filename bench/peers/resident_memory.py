#!/usr/bin/env python3
"""Resident memory of a session against what it says it allocates: opens one on a model, takes two steps
of random tokens, and compares the growth of the process with the plan's total.

  bench/peers/resident_memory.py --library build/bin --model GGUF
"""

import argparse
import ctypes
import json
import pathlib
import sys

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "accuracy"))

from qft_ctypes import Library, Model, Session


def resident_bytes():
    for line in pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


def plan_of(session):
    buffer, needed = ctypes.create_string_buffer(1 << 16), ctypes.c_size_t()
    session.library.call("qft_session_plan_json", session.handle, buffer,
                         ctypes.c_size_t(len(buffer)), ctypes.byref(needed))
    return json.loads(buffer.value)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=int, default=512)
    arguments = parser.parse_args()
    model = Model(Library(arguments.library / "libqft.so"), arguments.model)
    before = resident_bytes()
    session = Session(model, micro_batch_tokens=arguments.tokens)
    random = numpy.random.default_rng(0)
    for _ in range(2):
        tokens = random.integers(0, 1000, arguments.tokens)
        session.step(1e-6, tokens, numpy.roll(tokens, -1), numpy.zeros(arguments.tokens))
    growth = resident_bytes() - before
    planned = plan_of(session)["bytes"]["total"]
    print(json.dumps({"planned_bytes": planned, "resident_growth_bytes": growth,
                      "ratio": growth / planned}))


if __name__ == "__main__":
    main()
