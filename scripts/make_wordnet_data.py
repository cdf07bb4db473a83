#!/usr/bin/env python3
"""Makes questions and answers from WordNet 3.0 (Debian package wordnet-base).

Writes JSON lines {"prompt": "Question: What does the noun \\"keel\\" mean?\\nAnswer:",
"completion": " one of the main longitudinal beams ..."}: as many of each part of speech, each word
once, its most frequent sense. The same arguments give the same file.
"""

import argparse
import hashlib
import json
import pathlib
import re

PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}
# A single word in small letters, so that names of people, places and species stay out.
WORD = re.compile(r"^[a-z]{3,}(-[a-z]+)*$")
EXAMPLE = re.compile(r';\s*"')


def first_senses(folder, part):
    """Yields (word, offset of its most frequent sense)."""
    for line in (folder / f"index.{part}").read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):  # the licence
            continue
        fields = line.split()
        pointers = int(fields[3])
        if WORD.match(fields[0]):
            yield fields[0], int(fields[4 + pointers + 2])


def definition(data, offset):
    """(words as written, definition) of the synset at a byte offset of a data file."""
    line = data[offset : data.index(b"\n", offset)].decode("utf-8")
    head, gloss = line.split(" | ", 1)
    fields = head.split()
    count = int(fields[3], 16)
    words = [re.sub(r"\(.*\)$", "", word) for word in fields[4 : 4 + 2 * count : 2]]
    text = EXAMPLE.split(gloss, maxsplit=1)[0].strip().rstrip(";").strip()
    return words, text


def rank(part, word):
    return hashlib.sha256(f"{part}:{word}".encode()).digest()


def questions(folder, part, count, taken):
    """`count` questions about words of one part of speech that are not in `taken`."""
    data = (folder / f"data.{part}").read_bytes()
    senses = sorted(first_senses(folder, part), key=lambda sense: rank(part, sense[0]))
    result = []
    for word, offset in senses:
        if len(result) == count:
            return result
        words, text = definition(data, offset)
        if word in taken or word not in words or not text or text.startswith('"'):
            continue
        taken.add(word)
        prompt = f'Question: What does the {PARTS[part]} "{word}" mean?\nAnswer:'
        result.append({"prompt": prompt, "completion": f" {text}."})
    raise SystemExit(f"make_wordnet_data: only {len(result)} words for {part}, {count} wanted")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=4000, help="questions in all (default 4000)")
    parser.add_argument("--wordnet", type=pathlib.Path, default=pathlib.Path("/usr/share/wordnet"))
    arguments = parser.parse_args()

    taken = set()
    records = []
    for part in ("adv", "adj", "verb", "noun"):
        records += questions(arguments.wordnet, part, arguments.count // len(PARTS), taken)
    records.sort(key=lambda record: rank("order", record["prompt"]))
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")
    print(f"{arguments.output}: {len(records)} questions, {len(text.encode()) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
