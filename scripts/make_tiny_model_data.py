#!/usr/bin/env python3
"""Writes FOLDER/text.jsonl, the glosses of WordNet 3.0 as plain text, and FOLDER/tokenizer.json, a
byte-level BPE of 2,048 tokens trained on them. Needs the package `tokenizers`."""

import json
import pathlib
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WORDNET = pathlib.Path("/usr/share/wordnet")
LINES_PER_DOCUMENT = 6


def glosses():
    for part in ("noun", "verb", "adj", "adv"):
        for line in (WORDNET / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):  # the licence
                continue
            head, gloss = line.split(" | ", 1)
            yield f"{head.split()[4].replace('_', ' ')}: {gloss.strip()}."


def main():
    folder = pathlib.Path(sys.argv[1])
    lines = list(glosses())
    with open(folder / "text.jsonl", "w", encoding="utf-8") as file:
        for begin in range(0, len(lines), LINES_PER_DOCUMENT):
            text = "\n".join(lines[begin : begin + LINES_PER_DOCUMENT])
            file.write(json.dumps({"text": text}) + "\n")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main()
