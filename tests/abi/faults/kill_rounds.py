"""Kills a training run with SIGKILL, at random times and after each file operation of its saves,
resumes it until it ends, and compares the hash of all states to an uninterrupted run's.

    kill_rounds.py --program build/bin/kill_run --rounds 200 --engine cpu [--nvme]

With --nvme the runs that are killed have their momentum on NVMe, and leave no file of it.
"""
import argparse
import collections
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

STEPS = 8
SAVE_EVERY = 2


class Outcome:
    def __init__(self, code, text):
        self.code = code
        self.resumed = None
        self.saved = None
        self.operations = None
        self.hash = None
        for line in text.splitlines():
            word, value = line.split()
            setattr(self, word, value if word == "hash" else int(value))


def run(arguments, folder, scratch, kill_after=None, kill_at=None):
    """kill_after: a file operation; kill_at: seconds after the start."""
    command = [arguments.program, folder, str(STEPS), str(SAVE_EVERY), arguments.engine, scratch]
    if kill_after is not None:
        command.append(str(kill_after))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        text, _ = process.communicate(timeout=kill_at)
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
    return Outcome(process.returncode, text)


def play(arguments, folder, scratch, kills, expected, count):
    """One round: a list of kills, then a run to the end. Raises AssertionError."""
    saved = 0
    for kill in kills + [{}]:
        outcome = run(arguments, folder, scratch, **kill)
        assert outcome.code in (0, -signal.SIGKILL), f"exit status {outcome.code}"
        assert scratch == "-" or not os.listdir(scratch), "momentum was left on the disk"
        if outcome.resumed is not None:
            assert outcome.resumed >= saved, f"resumed at {outcome.resumed}, saved was {saved}"
            count[f"resumed at step {outcome.resumed}"] += 1
        saved = max(saved, outcome.saved or 0)
        if outcome.code == 0:
            assert outcome.hash == expected, f"hash {outcome.hash}, expected {expected}"
            return
        count["kills"] += 1
    raise AssertionError("the run did not end")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--engine", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--nvme", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    root = tempfile.mkdtemp(prefix="qft_kill_")
    try:
        scratch = "-"
        expected = run(arguments, root + "/expected", scratch).hash
        if arguments.nvme:
            scratch = root + "/scratch"
            os.mkdir(scratch)
        begin = time.monotonic()
        whole = run(arguments, root + "/whole", scratch)
        seconds = time.monotonic() - begin
        assert whole.code == 0, f"exit status {whole.code}"
        assert whole.hash == expected, f"hash {whole.hash}, expected {expected}"
        count = collections.Counter()
        points = max(1, (arguments.rounds + 1) // 2)
        for number in range(arguments.rounds):
            if number % 2 == 0:
                # Spread over all operations, then one anywhere in the run that goes on.
                point = 1 + number // 2 * whole.operations // points
                kills = [{"kill_after": point},
                         {"kill_after": random.randint(1, whole.operations)}]
            else:
                kills = [{"kill_at": random.uniform(0, seconds)} for _ in range(3)]
            try:
                play(arguments, f"{root}/{number}", scratch, kills, expected, count)
            except AssertionError as error:
                sys.exit(f"round {number}, {kills}: {error}")
            shutil.rmtree(f"{root}/{number}", ignore_errors=True)
        print(f"{arguments.rounds} rounds, {whole.operations} file operations in the whole run, "
              f"{time.monotonic() - begin:.0f} s, hash {whole.hash}")
        for name in sorted(count):
            print(f"  {name}: {count[name]}")
        assert count["kills"] >= arguments.rounds // 2, "hardly a run was killed"
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
