#!/usr/bin/env python3
"""The table of docs/planning.md: what fits on a device, by `qft plan`. Needs no device.

  bench/planner/what_fits.py QFT [KEY=VALUE ...]    settings of all sessions
"""

import json
import subprocess
import sys

DEVICES = ["3060-12gb", "4080-16gb", "4090-24gb", "a6000-48gb", "h100-80gb"]
MODELS = ["smollm2-135m", "llama-3.2-1b", "llama-2-7b", "mistral-7b", "qwen2.5-7b", "llama-3-8b",
          "llama-2-13b", "llama-33b", "llama-65b", "llama-2-70b"]
SEQUENCE = 2048
MOST_BATCH = 64


def plan(program, model, device, batch, settings):
    command = [program, "plan", "--json", "--model", model, "--device", device, "--seq",
               str(SEQUENCE), "--batch", str(batch)]
    for setting in settings:
        command += ["--set", setting]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode not in (0, 1) or not answer.stdout:
        sys.exit(answer.stderr)
    return json.loads(answer.stdout)


def made_again(told):
    return (3 * told["recomputed_blocks"] + 2 * told["regated_blocks"] + told["renewed_blocks"])


def largest(program, model, device, settings, wanted):
    """The plan of the largest batch that fits and is as `wanted`, None where there is none."""
    low, high, found = 0, MOST_BATCH + 1, None
    while high - low > 1:
        batch = (low + high) // 2
        told = plan(program, model, device, batch, settings)
        if told["fits"] and wanted(told):
            low, found = batch, told
        else:
            high = batch
    return found


def cell(program, model, device, beside):
    """Largest batch with nothing made again, if any, and largest of all up to MOST_BATCH; without
    residual planes where nothing fits with them."""
    for plane, note in (("residual_bits=4", ""), ("residual_bits=0", ", no plane")):
        settings = [plane, *beside]
        most = largest(program, model, device, settings, lambda told: True)
        if most is None:
            continue
        kept = largest(program, model, device, settings, lambda told: made_again(told) == 0)
        text = f"{most['batch']} {most['gradients']}{note}"
        return f"{kept['batch']} {kept['gradients']}; {text}" if kept else text
    return "no"


def main():
    print("| | " + " | ".join(DEVICES) + " |")
    print("| --- |" + " --- |" * len(DEVICES))
    for model in MODELS:
        cells = [cell(sys.argv[1], model, device, sys.argv[2:]) for device in DEVICES]
        print(f"| {model} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
