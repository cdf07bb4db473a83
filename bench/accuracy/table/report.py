#!/usr/bin/env python3
"""Makes OUT/summary.json, OUT/table.md and OUT/accuracy.png from what run.py wrote, in one folder or several:

  bench/accuracy/table/report.py RUNS [RUNS ...] --out bench/results/accuracy \\
      [--tokens DIR/tokens.npz --model GGUF] [--curves losses.npz]

--tokens and --model (whose tokeniser transformers reads) grade the exact answers; --curves, of
emulation/run.py, compares training losses with the emulation's.
"""

import argparse
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from answers import correct
from compare import arms_of, main_rate, read_runs, summary
from course import against_emulation, long_run
from gaps import wilson

STUDY = HERE.parent.parent / "results/emulation/study.json"


def graded(runs, arguments):
    """Runs with answers: how many of them are right, with a 95 % interval of this one model's share."""
    runs = [run for run in runs if "answers" in run]
    if not runs or not (arguments.tokens and arguments.model):
        return []
    import transformers
    from batches import Documents
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model.parent,
                                                           gguf_file=arguments.model.name)
    documents = Documents(arguments.tokens, ["held_out"])
    rows = []
    for run in runs:
        count = len(run["answers"])
        references = [tokenizer.decode(documents.prompt("held_out", row)[1])
                      for row in range(count)]
        right = correct([tokenizer.decode(answer) for answer in run["answers"]], references)
        rows.append({"name": run["arm"], "learning_rate": run["learning_rate"],
                     "seed": run["seed"], "correct": right, "of": count,
                     "interval": wilson(right, count)})
    return rows


def percent(gap):
    if gap is None:
        return ""
    bound = gap["bound_over_seeds"]
    return f"{gap['mean']:+.2f}" + (f" ± {bound:.2f}" if bound is not None else "") + \
        f" ({gap['bound_over_documents']:.2f})"


def mean(values):
    return sum(values) / len(values)


def table(entries):
    lines = ["| arm | rate | steps | seeds | task | unrelated | against | task, % | unrelated, % "
             "| bytes a parameter |", "|" + " --- |" * 10]
    for entry in entries:
        against = entry.get("against", {})
        base = f"{against['name']}, {against['learning_rate']:g}" if against else ""
        lines.append(
            f"| {entry['name']} | {entry['learning_rate']:g} | {entry['steps']} "
            f"| {len(entry['seeds'])} | {mean(entry['held_out_loss']):.4f} "
            f"| {mean(entry['unrelated_loss']):.4f} | {base} "
            f"| {percent(against.get('held_out'))} | {percent(against.get('unrelated'))} "
            f"| {entry['bytes_per_parameter']:.2f} |")
    return lines


def markdown(result):
    lines = ["In brackets: the bound over documents instead of seeds.", ""] + table(result["arms"])
    lines += ["", "All learning rates:", ""] + table(result["learning_rates"])
    lines += ["", "| claim | value | at most | holds |", "| --- | --- | --- | --- |"]
    for row in result["verdicts"]:
        value = "not run" if row["value"] is None else f"{row['value']:.3f}"
        lines.append(f"| {row['what']} | {value} | {row['most']} | {'yes' if row['ok'] else 'no'} |")
    lines += ["", "| emulated arm | steps | task, % above the emulation | unrelated, % "
              "| training loss, % |", "|" + " --- |" * 5]
    for row in result["emulation"]:
        curve = row.get("train_loss")
        cells = [" ± ".join(f"{value:.2f}" for value in row[test]["mean_and_bound"] if
                            value is not None) for test in ("held_out", "unrelated")]
        cells.append(f"{curve['mean']:+.2f}, windows of 50 at most "
                     f"{curve['largest_of_windows']:+.2f}" if curve else "")
        lines.append(f"| {row['name']} | {row['steps']} | " + " | ".join(cells) + " |")
    for row in result["answers"]:
        low, high = row["interval"]
        lines.append(f"\n{row['name']}, seed {row['seed']}: {row['correct']} of {row['of']} exact "
                     f"answers right ({100 * low:.1f} to {100 * high:.1f} %)")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=pathlib.Path, nargs="+", help="--out of run.py")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=pathlib.Path)
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--curves", type=pathlib.Path)
    arguments = parser.parse_args()
    runs = read_runs(arguments.runs)
    arms = arms_of(runs)
    curves = {}
    if arguments.curves:
        import numpy
        curves = numpy.load(arguments.curves)
    result = summary(runs)
    result["emulation"] = against_emulation(arms, json.loads(STUDY.read_text("utf-8")), curves)
    result["over_time"] = long_run(runs)
    result["answers"] = graded(runs, arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "summary.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    (arguments.out / "table.md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))
    from plots import plot
    plot(arguments.out / "accuracy.png",
         {arm.name: main_rate(arms, arm.name) for arm in arms.values()}, result)


if __name__ == "__main__":
    main()
