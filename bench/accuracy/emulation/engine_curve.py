#!/usr/bin/env python3
"""The CPU engine on the emulation's own batches: the same start, rows, order, learning rates. Writes the
curve of training losses, and compares it with that of one seed of an arm, if its losses.npz is given:

  bench/accuracy/emulation/engine_curve.py --library build/bin --model GGUF --tokens DIR/tokens.npz \\
      --documents 2 --steps 300 --out DIR/engine.json --losses DIR/losses.npz --arm 'KEY|curve'
"""

import argparse
import json
import pathlib
import sys

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from batches import Documents, learning_rate, order
from qft_ctypes import Library, Model, Session


def smooth(curve, width):
    return numpy.convolve(curve, numpy.ones(width) / width, mode="valid")


def run(arguments):
    documents = Documents(arguments.tokens, ["train"])
    rows, length = documents.parts["train"][0].shape
    settings = dict(pair.split("=", 1) for pair in arguments.set)
    model = Model(Library(arguments.library / "libqft.so"), arguments.model)
    session = Session(model, micro_batch_tokens=arguments.documents * length, seed=arguments.seed,
                      **settings)
    curve = []
    for step, chosen in enumerate(order(rows, arguments.seed, arguments.steps,
                                        arguments.documents)):
        # Without the padding, which the emulation computes and does not count.
        rate = learning_rate(arguments.rate, step, arguments.steps)
        curve.append(session.step(rate, *documents.unpadded("train", chosen))["loss"])
        if step % 20 == 19:
            print(f"step {step + 1}  loss {numpy.mean(curve[-20:]):.4f}", flush=True)
    return curve


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=pathlib.Path, required=True)
    parser.add_argument("--documents", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rate", type=float, default=1e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the session")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--losses", type=pathlib.Path)
    parser.add_argument("--arm", help="key of a curve [steps, seeds] in --losses")
    arguments = parser.parse_args()
    result = {"curve": run(arguments)}
    if arguments.losses:
        other = numpy.load(arguments.losses)[arguments.arm][: arguments.steps, arguments.seed]
        curve = numpy.array(result["curve"])
        result["mean_difference"] = float(curve.mean() / other.mean() - 1)
        result["largest_smoothed_difference"] = float(
            numpy.abs(smooth(curve, 50) / smooth(other, 50) - 1).max())
        print({k: v for k, v in result.items() if k != "curve"})
    arguments.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
