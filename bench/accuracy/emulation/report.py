#!/usr/bin/env python3
"""A table of the arms in results.json files (of run.py), each against fp32 Lion of the same learning
rate, seeds and data: relative gap in per cent, mean and 95 % bound over the seeds (Student's t of the
paired differences). With --plot FILE also a picture (needs matplotlib)."""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from gaps import mean_and_bound

TESTS = ("held_out", "unrelated", "held_out_float")


def gaps(result, base):
    row = {}
    for test in TESTS:
        if test in result:
            other = base[test.replace("_float", "")]
            row[test] = mean_and_bound([100 * (a / b - 1) for a, b in zip(result[test], other)])
    return row


def table(results):
    key = lambda r: (r["rate"], r["steps"], r["planted"], r.get("pretrain", False))
    bases = {key(r): r for r in results if r["arm"] == "fp32" and "telemetry" in r}
    return [(r, gaps(r, bases[key(r)])) for r in results
            if "telemetry" in r and key(r) in bases and r["arm"] != "fp32"]


def label(result):
    text = f"{result['arm']}, {result['rate']:g}, {result['steps']} steps"
    if result["planted"]:
        text += ", outliers planted"
    return text + (", from random weights" if result.get("pretrain") else "")


def plot(rows, path, edge=3.5):
    """Gaps beyond `edge` are written at the edge."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axis = pyplot.subplots(figsize=(10, 0.3 * len(rows) + 1.2))
    for offset, test in enumerate(TESTS):
        for index, (_, row) in enumerate(rows):
            if test not in row:
                continue
            mean, bound = row[test]
            place = min(max(mean, -edge), edge)
            axis.errorbar(place, index + 0.2 * (offset - 1), xerr=bound, fmt="o", markersize=4,
                          color=f"C{offset}", label=test if index == 0 else None)
            if place != mean:
                axis.annotate(f"{mean:+.1f}", (place, index + 0.2 * (offset - 1)), fontsize=6,
                              xytext=(4, -2), textcoords="offset points")
    axis.set_yticks(range(len(rows)), [label(result) for result, _ in rows], fontsize=7)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(-edge - 0.2, edge + 0.5)
    axis.axvline(0, color="grey")
    axis.set_xlabel("loss against fp32 Lion, per cent, 95 % over the seeds")
    axis.legend(loc="lower right", fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=pathlib.Path, nargs="+")
    parser.add_argument("--plot", type=pathlib.Path)
    arguments = parser.parse_args()
    results = [r for path in arguments.results for r in json.loads(path.read_text("utf-8"))
               if "arm" in r]
    rows = table(results)
    for result, row in sorted(rows, key=lambda pair: pair[0]["rate"]):
        print(f"{label(result):70} " + "  ".join(
            f"{test} {mean:+.2f}±{bound:.2f}" for test, (mean, bound) in row.items()))
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
