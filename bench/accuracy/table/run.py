#!/usr/bin/env python3
"""Runs the table of arms.json on one machine, several runs a GPU, and writes each result when it is there:
OUT/runs/ARM_RATE_SEED.json, with what it printed in OUT/logs. A run that has its result is not made again, so
that a second call, or one on another machine with the results of the first in OUT, goes on. report.py makes
the table.

  bench/accuracy/table/run.py --library build/bin --models DIR --tokens DIR/tokens.npz --out DIR \\
      --engine cuda --gpus 4 --seconds 560

--models is what prepare_models.py writes; --tokens of emulation/prepare.py. --steps, --seeds and --rows cut
everything down for a trial (which needs an OUT of its own).
"""

import argparse
import json
import pathlib
import sys
import time

from jobs import GROUPS, read_jobs
from pool import Pool

HERE = pathlib.Path(__file__).resolve().parent


def finished(path):
    """Whether the run is whole; answers of models come after the rest and may be missing."""
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["finished"]


class Runner:
    def __init__(self, arguments):
        self.arguments = arguments
        self.begin = time.monotonic()
        for folder in ("runs", "logs"):
            (arguments.out / folder).mkdir(parents=True, exist_ok=True)

    def say(self, *words):
        print(f"[{time.monotonic() - self.begin:5.0f}]", *words, flush=True)

    def result_path(self, job):
        return self.arguments.out / "runs" / f"{job['name']}.json"

    def command(self, job, device, eager):
        arguments = self.arguments
        command = [sys.executable, str(HERE / "job.py"), json.dumps(job)]
        for name in ("library", "models", "tokens", "engine"):
            command += [f"--{name}", str(getattr(arguments, name))]
        command += ["--out", str(self.result_path(job))]
        if arguments.rows:
            command += ["--rows", str(arguments.rows)]
        if eager:
            command += ["--eager"]
        environment = {"OMP_NUM_THREADS": "2"}
        if job["program"] == "qft" and arguments.cuda_libraries:
            environment["LD_LIBRARY_PATH"] = arguments.cuda_libraries
        if arguments.engine == "cuda":
            environment["CUDA_VISIBLE_DEVICES"] = str(device)
        suffix = "_again" if eager else ""
        return command, environment, arguments.out / "logs" / f"{job['name']}{suffix}.txt"

    def run(self):
        arguments = self.arguments
        listed = read_jobs(arguments.arms, arguments.groups, arguments.names, arguments.steps,
                           arguments.seeds)
        jobs = [job for job in listed if not finished(self.result_path(job))]
        for job in jobs:
            job["kind"] = (job["program"], job["steps"], "answers" in job)
        self.say(len(jobs), "runs to do")
        pool = Pool(arguments.gpus, arguments.jobs_per_gpu, arguments.seconds,
                    arguments.job_seconds, self.say)
        outcome = pool.run(jobs, lambda job, device: self.command(job, device, False))
        failed = [job for job in jobs if outcome[job["name"]] == "failed"]
        if failed:
            outcome.update(pool.run(failed, lambda job, device: self.command(job, device, True)))
        for job in failed:
            log = self.arguments.out / "logs" / f"{job['name']}.txt"
            self.say(f"failed at first: {job['name']}: {log.read_text('utf-8')[-400:].strip()}")
        calls = self.arguments.out / "calls.jsonl"
        with calls.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"seconds": time.monotonic() - self.begin, **outcome}) + "\n")
        self.say({status: list(outcome.values()).count(status) for status in outcome.values()})
        return all(status == "done" for status in outcome.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=pathlib.Path, default=HERE / "arms.json")
    parser.add_argument("--library", type=pathlib.Path, required=True, help="folder of libqft.so")
    parser.add_argument("--cuda-libraries", default="",
                        help="LD_LIBRARY_PATH of libqft alone: PyTorch brings its own")
    parser.add_argument("--models", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--engine", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--jobs-per-gpu", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=1e9, help="of the whole call")
    parser.add_argument("--job-seconds", type=float, default=1e9, help="of one run")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--names", nargs="+", help="arms; all of the groups otherwise")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--rows", type=int)
    return 0 if Runner(parser.parse_args()).run() else 1


if __name__ == "__main__":
    sys.exit(main())
