#!/usr/bin/env python3
"""Compares an exported model in transformers with what `qft eval` says of it.

  qft eval --checkpoint RUN --data FILE --dump-batches batches.jsonl --json > eval.json
  qft export --checkpoint RUN --output FOLDER
  scripts/check_export.py FOLDER batches.jsonl --loss eval.json

Each line of the batches is a JSON object of lists with one entry a token: token_ids, targets (-1:
none), loss_weights, document_ids. Needs torch and transformers. Exits 1 when the relative difference
is larger than --tolerance.
"""

import argparse
import itertools
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM


def documents(path):
    """Yields (token ids, targets, loss weights) of each document."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            batch = json.loads(line)
            count = len(batch["token_ids"])
            ids = batch["document_ids"] or [0] * count
            weights = batch["loss_weights"] or [1.0] * count
            rows = zip(ids, batch["token_ids"], batch["targets"], weights)
            for _, group in itertools.groupby(rows, key=lambda row: row[0]):
                _, tokens, targets, document_weights = zip(*group)
                yield tokens, targets, document_weights


@torch.inference_mode()
def mean_loss(model, batches):
    """Weighted mean of -log p(target), summed in double precision."""
    total, total_weight = 0.0, 0.0
    for tokens, targets, weights in documents(batches):
        target = torch.tensor(targets)
        weight = torch.where(target >= 0, torch.tensor(weights), 0.0).double()
        if weight.sum() == 0:
            continue
        logits = model(torch.tensor([tokens])).logits[0].float()
        losses = torch.nn.functional.cross_entropy(logits, target.clamp(min=0), reduction="none")
        total += (losses.double() * weight).sum().item()
        total_weight += weight.sum().item()
    return total / total_weight


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="written by `qft export`")
    parser.add_argument("batches", help="written by `qft eval --dump-batches`")
    parser.add_argument("--loss", type=pathlib.Path, help="output of `qft eval --json`")
    parser.add_argument("--tolerance", type=float, default=0.02, help="relative (default 0.02)")
    arguments = parser.parse_args()

    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32).eval()
    theirs = mean_loss(model, arguments.batches)
    print(f"transformers  {theirs:.6f}")
    if arguments.loss is None:
        return 0
    ours = json.loads(arguments.loss.read_text(encoding="utf-8"))["loss"]
    difference = abs(theirs - ours) / theirs
    print(f"qft           {ours:.6f}")
    print(f"difference    {difference * 100:.3f} %")
    return 0 if difference <= arguments.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
