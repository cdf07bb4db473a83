#!/usr/bin/env python3
"""One run of the table: trains an arm with one seed, tests it on both held-out parts, and writes what came
out of it as JSON. Started by run.py."""

import argparse
import json
import pathlib
import sys
import time

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from batches import Documents, learning_rate, order

TESTS = ("held_out", "unrelated")
PACE_STEPS = 100


def open_program(job, arguments, train, tests):
    # Neither needs what the other imports.
    model = arguments.models / job["model"]
    if job["program"] == "qft":
        from qft_program import Program
        return Program(arguments.library, model, job["settings"], job["seed"], arguments.engine,
                       train, tests, job["documents"])
    from torch_program import Program
    return Program(model, job["settings"], train, tests, job["documents"], arguments.engine,
                   arguments.eager)


def rounded(values, digits=7):
    return [float(f"{value:.{digits}g}") for value in values]


class Record:
    """The result, written anew whenever a part of it is there."""

    def __init__(self, job, path, tests):
        self.path, self.tests = path, tests
        self.result = {key: value for key, value in job.items() if key != "answers"}
        self.result.update(finished=False, evaluations=[],
                           counts={name: tests.counts(name).tolist() for name in TESTS})

    def evaluate(self, program, step):
        sums = {name: rounded(program.document_losses(name)) for name in TESTS}
        self.result["evaluations"].append({"step": step, **{
            name: sum(sums[name]) / sum(self.result["counts"][name]) for name in TESTS}})
        self.result["document_losses"] = sums

    def write(self, **more):
        self.result.update(more)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.result), encoding="utf-8")
        temporary.rename(self.path)


def run(job, arguments):
    begin = time.monotonic()
    train = Documents(arguments.tokens, ["train"])
    tests = Documents(arguments.tokens, TESTS, arguments.rows)
    program = open_program(job, arguments, train, tests)
    record = Record(job, arguments.out, tests)
    every = job["evaluate_every"]
    seconds = {"open": time.monotonic() - begin}
    begin = time.monotonic()
    chosen = order(len(train.parts["train"][0]), job["seed"], job["steps"], job["documents"])
    for step, rows in enumerate(chosen):
        if every and step % every == 0:
            record.evaluate(program, step)
            record.write(train_loss=rounded(program.losses(), 5), **program.report())
        program.step(learning_rate(job["learning_rate"], step, job["steps"]), rows)
        if step == PACE_STEPS:
            program.losses()  # waits for the device
            print(f"{PACE_STEPS} steps in {time.monotonic() - begin:.1f} s", flush=True)
    losses = rounded(program.losses(), 5)  # waits for the device
    seconds["train"] = time.monotonic() - begin
    begin = time.monotonic()
    record.evaluate(program, job["steps"])
    seconds["last_evaluation"] = time.monotonic() - begin
    record.write(train_loss=losses, seconds=seconds, finished=True, **program.report())
    if "answers" in job:
        begin = time.monotonic()
        end = int(tests.prompt("held_out", 0)[1][-1])
        count = min(job["answers"]["questions"], len(tests.parts["held_out"][0]))
        answers = program.answers("held_out", count, job["answers"]["tokens"], end)
        seconds["answers"] = time.monotonic() - begin
        record.write(answers=answers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", help="JSON, of jobs.py")
    parser.add_argument("--library", type=pathlib.Path, required=True)
    parser.add_argument("--models", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file")
    parser.add_argument("--engine", required=True, help="cpu or cuda")
    parser.add_argument("--rows", type=int, help="of each test; all otherwise")
    parser.add_argument("--eager", action="store_true", help="PyTorch without a captured graph")
    arguments = parser.parse_args()
    run(json.loads(arguments.job), arguments)


if __name__ == "__main__":
    main()
