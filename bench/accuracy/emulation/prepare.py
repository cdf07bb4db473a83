#!/usr/bin/env python3
"""Tokenises what the experiments train and test on: OUT/tokens.npz.

Rows are documents of at most `--length` tokens, padded; targets[r, i] is the token after tokens[r, i],
-1 where no loss is taken.
  train, held_out   questions and answers of a JSON lines file ({"question", "answer"}), loss on the
                    answer and the end token; the same seed gives the same split
  unrelated         definitions and examples of WordNet (Debian package wordnet-base), loss on all
  text              the other definitions, for pre-training
Needs transformers, and gguf for the tokeniser of a GGUF file.
"""

import argparse
import pathlib

import numpy
import transformers


def read_tokenizer(model):
    if model.is_dir():
        return transformers.AutoTokenizer.from_pretrained(model)
    return transformers.AutoTokenizer.from_pretrained(model.parent, gguf_file=model.name)


def question_rows(tokenizer, path, length):
    import json
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        prompt = tokenizer(f"Question: {record['question']}\nAnswer:").input_ids
        answer = tokenizer(f" {record['answer']}", add_special_tokens=False).input_ids
        answer += [tokenizer.eos_token_id]
        if len(prompt) + len(answer) <= length:  # the few longer ones are left out
            rows.append((prompt + answer, len(prompt)))
    return rows


def read_glosses(folder):
    """(those of `unrelated`, from all over the four dictionaries; the others)"""
    glosses = []
    for part in ("adj", "adv", "noun", "verb"):
        for line in (folder / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):
                head, gloss = line.split(" | ", 1)
                glosses.append(f"{head.split()[4].replace('_', ' ')}: {gloss.strip()}")
    stride = len(glosses) // 8000
    return glosses[::stride], [g for i, g in enumerate(glosses) if i % stride]


def text_rows(tokenizer, glosses, length, count=None):
    """Rows of consecutive definitions: all of them, or `count` spread over them."""
    tokens = tokenizer("\n".join(glosses)).input_ids
    stride = (len(tokens) - length) // (count - 1) if count else length
    return [(tokens[i : i + length], 1) for i in range(0, len(tokens) - length + 1, stride)]


def pack(rows, length):
    tokens = numpy.zeros((len(rows), length), numpy.int32)
    targets = numpy.full((len(rows), length), -1, numpy.int32)
    for row, (ids, first_target) in enumerate(rows):
        tokens[row, : len(ids)] = ids
        targets[row, first_target - 1 : len(ids) - 1] = ids[first_target:]
    return tokens, targets


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True,
                        help="GGUF file or Hugging Face folder")
    parser.add_argument("--questions", type=pathlib.Path, required=True)
    parser.add_argument("--wordnet", type=pathlib.Path, default=pathlib.Path("/usr/share/wordnet"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--unrelated", type=int, default=160)
    arguments = parser.parse_args()
    tokenizer = read_tokenizer(arguments.model)
    rows = question_rows(tokenizer, arguments.questions, arguments.length)
    order = numpy.random.default_rng(0).permutation(len(rows))
    rows = [rows[i] for i in order]
    unrelated, text = read_glosses(arguments.wordnet)
    parts = {"held_out": rows[: arguments.held_out], "train": rows[arguments.held_out :],
             "unrelated": text_rows(tokenizer, unrelated, arguments.length, arguments.unrelated),
             "text": text_rows(tokenizer, text, arguments.length)}
    arrays = {}
    for name, part in parts.items():
        arrays[f"{name}_tokens"], arrays[f"{name}_targets"] = pack(part, arguments.length)
        print(f"{name}: {len(part)} rows, {sum(len(ids) for ids, _ in part)} tokens, "
              f"{int((arrays[name + '_targets'] >= 0).sum())} with loss")
    arguments.out.mkdir(parents=True, exist_ok=True)
    numpy.savez_compressed(arguments.out / "tokens.npz", **arrays)


if __name__ == "__main__":
    main()
