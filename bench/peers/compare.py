#!/usr/bin/env python3
"""Times qft against PyTorch at the same work on the same machine, alternating, and compares medians.

The work: full-parameter fine-tuning steps of SmolLM2-135M at sequences of 512 tokens, the same number
of tokens a step, Lion, clipping of the global norm. Writes bench/results/torch_step.json.
"""

import argparse
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def random_documents(path, count):
    """Texts of random words, each longer than 512 tokens, so that every sequence is cut full."""
    source = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            words = ("".join(source.choices(letters, k=source.randint(2, 8))) for _ in range(700))
            file.write(json.dumps({"text": " ".join(words)}) + "\n")


def time_torch(dtype, arguments):
    command = [sys.executable, HERE / "torch_step.py", "--dtype", dtype,
               "--batch", str(arguments.batch), "--steps", str(arguments.steps),
               "--threads", str(arguments.threads)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def time_qft(arguments, data, folder):
    run = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "run"
    command = [arguments.qft, "finetune", "--model", arguments.model, "--data", data,
               "--output", run, "--steps", str(arguments.steps + 1), "--sequence", "512",
               "--micro-batch-tokens", str(512 * arguments.batch), "--held-out", "0",
               "--save-every", "0", "--threads", str(arguments.threads)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["type"] == "train"]
    assert all(line["tokens"] == 512 * arguments.batch for line in steps), "batches are not full"
    summary = json.loads((run / "summary.json").read_text())
    return {"tokens_per_second": [line["tokens_per_second"] for line in steps[1:]],
            "peak_rss_bytes": summary["peak_rss_bytes"],
            "engine": summary["engine"]}


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="SmolLM2-135M, GGUF or folder")
    parser.add_argument("--data", help="JSON lines of long texts (default: random words)")
    parser.add_argument("--qft", default=str(ROOT / "build/bin/qft"))
    parser.add_argument("--batch", type=int, default=4, help="sequences of 512 a step (default 4)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a turn (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default 3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=pathlib.Path,
                        default=ROOT / "bench/results/torch_step.json")
    arguments = parser.parse_args()

    results = {"qft": [], "torch float32": [], "torch bfloat16": []}
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data
        if data is None:
            data = os.path.join(folder, "random.jsonl")
            random_documents(data, arguments.batch * (arguments.steps + 1))
        turns = {"qft": lambda: time_qft(arguments, data, folder),
                 "torch float32": lambda: time_torch("float32", arguments),
                 "torch bfloat16": lambda: time_torch("bfloat16", arguments)}
        for turn in range(arguments.rounds):
            for name, take in turns.items():
                results[name].append(take())
                speed = statistics.median(results[name][-1]["tokens_per_second"])
                print(f"round {turn + 1}  {name:15} {speed:8.1f} tokens/s", flush=True)

    medians = {name: statistics.median(speed for turn in turns for speed in turn["tokens_per_second"])
               for name, turns in results.items()}
    peaks = {name: max(turn["peak_rss_bytes"] for turn in turns) for name, turns in results.items()}
    print(f"\n{'':15} {'tokens/s':>10} {'peak memory':>14} {'qft is faster by':>18}")
    for name, speed in medians.items():
        print(f"{name:15} {speed:10.1f} {peaks[name] / 1e9:11.2f} GB {medians['qft'] / speed:17.2f}x")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({
        "processor": processor(), "threads": arguments.threads, "sequence": 512,
        "batch": arguments.batch, "tokens_a_step": 512 * arguments.batch,
        "median_tokens_per_second": medians, "peak_rss_bytes": peaks, "turns": results,
    }, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {arguments.output}")


if __name__ == "__main__":
    main()
