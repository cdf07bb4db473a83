#!/usr/bin/env python3
"""Compares libqft's tokenizers with Hugging Face `tokenizers` (files named *.json) and with `sentencepiece`
(other files), token for token and character for character, on lines that are hard: those of
tests/runtime/data/text and as many of random characters of all planes. Measures encoding: MB of text a
second on one thread, and the seconds for single lines of 1 and of 4 MiB.

Takes the families of tests/runtime/data/text, and then the files. Needs tokenizers, sentencepiece and
protobuf. Writes bench/results/compare_tokenizers.json and ends with status 1 if anything differs.

  bench/accuracy/compare_tokenizers.py --library build/bin --text ENGLISH.txt [FILE ...]
"""

import argparse
import ctypes
import json
import pathlib
import random
import sys
import tempfile
import time
import unicodedata

import sentencepiece
import tokenizers

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "tests/runtime/data/text"
sys.path.insert(0, str(FIXTURES))
import make_families_golden as families  # noqa: E402

RANDOM_LINES = 5200
NFKC = tokenizers.normalizers.NFKC()
PLANES = [(0x20, 0x7F), (0x80, 0x250), (0x300, 0x370), (0x370, 0x600), (0x600, 0x700), (0x900, 0x980),
          (0x2000, 0x2070), (0x2580, 0x25A0), (0x3040, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4),
          (0xE000, 0xF8FF), (0xF900, 0xFB00), (0xFE00, 0x10000), (0x10000, 0x1F000),
          (0x1F000, 0x20000), (0x20000, 0x30000), (0x30000, 0xE0000), (0xE0000, 0xE0200),
          (0xF0000, 0x110000), (0, 0x20)]
WORDS = [" ", "  ", "\n", "\t", "\r\n", " the", "ing", "12", "don't", "\u2581", "<s>", "</s>", "<unk>",
         "[INST]", "<0x0A>", "\u200d", "\ufe0f", "\u0301", "<|im_start|>", "<|begin_of_text|>"]


def is_old(character):
    """The libraries know different versions of Unicode: left out is what only the latest have."""
    return (unicodedata.category(character) not in ("Cn", "Cs") and
            NFKC.normalize_str(character) == unicodedata.normalize("NFKC", character))


def random_lines():
    rng = random.Random(5)
    for _ in range(RANDOM_LINES):
        plane = rng.choice(PLANES)
        line = []
        for _ in range(rng.randrange(1, 40)):
            if rng.random() < 0.3:
                line.append(rng.choice(WORDS))
            else:
                line.append(chr(rng.randrange(*(plane if rng.random() < 0.7 else rng.choice(PLANES)))))
        yield "".join(part for part in line if len(part) > 1 or is_old(part))


class Qft:
    def __init__(self, dll, path):
        self.dll = dll
        self.handle = ctypes.c_void_p()
        name = str(path).encode()
        error = ctypes.c_void_p()
        if dll.qft_tokenizer_load(name, ctypes.c_size_t(len(name)), ctypes.byref(self.handle),
                                  ctypes.byref(error)):
            raise RuntimeError(dll.qft_error_message(error).decode())
        self.ids = (ctypes.c_int32 * (1 << 23))()
        self.prefix = self.frame("prefix")
        self.suffix = self.frame("suffix")

    def frame(self, part):
        needed = ctypes.c_size_t()
        getattr(self.dll, "qft_tokenizer_get_" + part)(self.handle, self.ids, ctypes.c_size_t(16),
                                                       ctypes.byref(needed), None)
        return self.ids[:needed.value]

    def fill(self, data, special):
        needed = ctypes.c_size_t()
        status = self.dll.qft_tokenizer_encode(
            self.handle, data, ctypes.c_size_t(len(data)), ctypes.c_int32(special), self.ids,
            ctypes.c_size_t(len(self.ids)), ctypes.byref(needed), None)
        assert status == 0, status
        return needed.value

    def encode(self, text, plain):
        ids = self.ids[:self.fill(text.encode(), not plain)]
        return ids if plain else self.prefix + ids + self.suffix

    def decode(self, ids):
        needed = ctypes.c_size_t()
        buffer = ctypes.create_string_buffer(1 << 20)
        status = self.dll.qft_tokenizer_decode(
            self.handle, (ctypes.c_int32 * len(ids))(*ids), ctypes.c_size_t(len(ids)),
            ctypes.c_int32(1), buffer, ctypes.c_size_t(len(buffer)), ctypes.byref(needed), None)
        assert status == 0, status
        return buffer.raw[:needed.value].decode()


def reference_of(path):
    if path.suffix == ".json":
        return families.HuggingFace(json.loads(path.read_text(encoding="utf-8")))
    proto = families.sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(path.read_bytes())
    return families.SentencePiece(proto)


def compare(qft, reference, lines):
    differing = {"ids with special tokens": 0, "ids without": 0, "decoded": 0}
    shown = 0
    for line in lines:
        plain = reference.encode(line, True)
        mine = (qft.encode(line, False), qft.encode(line, True), qft.decode(plain))
        theirs = (reference.encode(line, False), plain, reference.decode(plain))
        for name, a, b in zip(differing, mine, theirs):
            if a != b:
                differing[name] += 1
                shown += 1
                if shown <= 3:
                    print(f"  {name} of {line!r}\n    libqft {a}\n    theirs {b}", file=sys.stderr)
    return differing


def seconds_of(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def random_letters(count):
    return bytes(random.Random(1).choices(range(97, 123), k=count))


def speed(qft, text):
    """In documents of about 4 kB, as a data set has them."""
    documents = [text[i:i + 4096].encode() for i in range(0, len(text), 4096)]
    best = min(seconds_of(lambda: [qft.fill(document, 0) for document in documents])
               for _ in range(3))
    long_lines = {}
    for name, unit in (("letters", random_letters(1 << 20)), ("one letter", b"a" * (1 << 20)),
                       ("spaces", b" " * (1 << 20))):
        long_lines[name] = [round(seconds_of(lambda data=unit * times: qft.fill(data, 0)), 3)
                            for times in (1, 4)]
    return {"MB/s": round(sum(map(len, documents)) / best / 1e6, 2),
            "s for a line of 1 and 4 MiB": long_lines}


def fixture_files(folder):
    """The families of the tests as files."""
    variants = json.loads((FIXTURES / "families_variants.json").read_text(encoding="utf-8"))
    for name, patch in variants.items():
        base = FIXTURES / patch.pop("base", "families_small.json")
        tokenizer = families.byte_level.apply_variant(
            json.loads(base.read_text(encoding="utf-8")), patch)
        path = pathlib.Path(folder) / f"{name}.json"
        path.write_text(json.dumps(tokenizer), encoding="utf-8")
        yield path
    for name in families.SENTENCEPIECES:
        yield FIXTURES / f"sentencepiece_{name}.model"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--library", type=pathlib.Path, default=ROOT / "build/bin")
    parser.add_argument("--text", type=pathlib.Path, required=True, help="English, for the speed")
    parser.add_argument("--output", type=pathlib.Path,
                        default=ROOT / "bench/results/compare_tokenizers.json")
    arguments = parser.parse_args()
    dll = ctypes.CDLL(str(arguments.library / "libqft_data.so"))
    dll.qft_error_message.restype = ctypes.c_char_p
    lines = [families.byte_level.text(line) for line in families.make_lines()]
    lines += random_lines()
    text = arguments.text.read_text(encoding="utf-8", errors="replace")[:4_000_000]
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in [*fixture_files(folder), *arguments.files]:
            qft = Qft(dll, path)
            results[path.name] = {**compare(qft, reference_of(path), lines), **speed(qft, text)}
            print(path.name, results[path.name])
    arguments.output.write_text(json.dumps({
        "lines": len(lines), "files": results, "tokenizers": tokenizers.__version__,
        "sentencepiece": sentencepiece.__version__}, indent=2) + "\n", encoding="utf-8")
    return any(result[name] for result in results.values()
               for name in ("ids with special tokens", "ids without", "decoded"))


if __name__ == "__main__":
    sys.exit(main())
