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


def documents(batch):
    """(token ids, targets, loss weights) of each document of a batch."""
    count = len(batch["token_ids"])
    ids = batch["document_ids"] or [0] * count
    weights = batch["loss_weights"] or [1.0] * count
    rows = zip(ids, batch["token_ids"], batch["targets"], weights)
    for _, group in itertools.groupby(rows, key=lambda row: row[0]):
        yield list(zip(*group))[1:]


def padded(sequences, filler, dtype):
    """A row a sequence. Filled up behind, which a causal model does not look at."""
    longest = max(map(len, sequences))
    rows = [list(sequence) + [filler] * (longest - len(sequence)) for sequence in sequences]
    return torch.tensor(rows, dtype=dtype)


@torch.inference_mode()
def mean_loss(model, path):
    """Weighted mean of -log p(target), summed in double precision."""
    total, total_weight = 0.0, 0.0
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            tokens, targets, weights = zip(*documents(json.loads(line)))
            target = padded(targets, -1, torch.int64)
            weight = padded(weights, 0.0, torch.float64).where(target >= 0, 0.0)
            logits = model(padded(tokens, 0, torch.int64)).logits.float()
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), target.clamp(min=0), reduction="none")
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
