#!/usr/bin/env python3
"""How long a training step waits for its batches: a data set is asked for batches between steps that only
sleep, as the host does while a GPU computes. For documents kept in memory, for documents that are read and
tokenised again, and for as many short documents as make the order of an epoch a long calculation. Prints a
table; needs no GPU.

  bench/data/data_wait.py [--library build/bin] [--step-ms 10] [--batch-tokens 8192] [--steps 500]
"""

import argparse
import ctypes
import json
import pathlib
import random
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "bench/accuracy"))
from qft_ctypes import (Batch, Library, Sized, c_double, c_int32, c_int64, c_void_p,  # noqa: E402
                        find_built)

WORDS = (ROOT / "docs/data.md").read_text(encoding="utf-8").split()


class DatasetOptions(Sized):
    _fields_ = [("struct_size", ctypes.c_uint64), ("batch_tokens", c_int64),
                ("sequence_tokens", c_int64), ("held_out_share", c_double),
                ("held_out_limit", c_int64), ("seed", ctypes.c_uint64),
                ("form", c_void_p), ("form_length", ctypes.c_size_t),
                ("chat_template", c_void_p), ("chat_template_length", ctypes.c_size_t),
                ("chat_date", c_void_p), ("chat_date_length", ctypes.c_size_t),
                ("memory_limit", c_int64), ("skip_bad", c_int32), ("reserved", c_int32)]


class DatasetInfo(Sized):
    _fields_ = [("struct_size", ctypes.c_uint64), ("documents", c_int64),
                ("documents_held_out", c_int64), ("documents_truncated", c_int64),
                ("tokens", c_int64), ("batches", c_int64), ("batches_held_out", c_int64),
                ("packing_efficiency", c_double), ("records_skipped", c_int64)]


class Dataset:
    def __init__(self, library, tokenizer, path, **options):
        self.library, self.handle = library, c_void_p()
        text = str(path).encode()
        library.call("qft_dataset_open", text, ctypes.c_size_t(len(text)), tokenizer,
                     ctypes.byref(DatasetOptions(**options)), ctypes.byref(self.handle))
        self.info = DatasetInfo()
        library.call("qft_dataset_get_info", self.handle, ctypes.byref(self.info))

    def next(self):
        batch = Batch()
        self.library.call("qft_dataset_next", self.handle, ctypes.byref(batch), c_int64(1))

    def close(self):
        self.library.dll.qft_dataset_destroy(self.handle)


def write_documents(path, count, words):
    generator = random.Random(1)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            text = " ".join(generator.choices(WORDS, k=generator.randint(1, 2 * words)))
            file.write(json.dumps({"text": text}) + "\n")


def measure(name, dataset, arguments, skip=0):
    """The waits of `steps` steps after `skip` batches that nobody waits for."""
    for _ in range(skip):
        dataset.next()
    waits = []
    for _ in range(arguments.steps):
        start = time.perf_counter()
        dataset.next()
        waits.append(time.perf_counter() - start)
        time.sleep(arguments.step_ms / 1000)
    dataset.close()
    total = sum(waits)
    print(f"{name:44} {1000 * waits[0]:8.3f} {1000 * max(waits[1:]):8.3f} "
          f"{1000 * total / len(waits):8.3f} "
          f"{100 * total / (total + arguments.steps * arguments.step_ms / 1000):7.2f} %", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=pathlib.Path, default=ROOT / "build/bin")
    parser.add_argument("--tokenizer", type=pathlib.Path, default=ROOT / "examples/tiny-model")
    parser.add_argument("--step-ms", type=float, default=10)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--short-documents", type=int, default=1_000_000)
    arguments = parser.parse_args()
    library = Library(find_built(arguments.library, "libqft_data.so"))
    tokenizer, text = c_void_p(), str(arguments.tokenizer).encode()
    library.call("qft_tokenizer_load", text, ctypes.c_size_t(len(text)), ctypes.byref(tokenizer))
    options = {"batch_tokens": arguments.batch_tokens,
               "sequence_tokens": min(2048, arguments.batch_tokens)}
    print(f"{'waits, in ms':44} {'first':>8} {'longest':>8} {'mean':>8} {'share':>9}")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "documents.jsonl"
        write_documents(path, 20_000, 300)
        measure("documents in memory", Dataset(library, tokenizer, path, **options), arguments)
        measure("read and tokenised again",
                Dataset(library, tokenizer, path, memory_limit=1, **options), arguments)
        write_documents(path, arguments.short_documents, 4)
        dataset = Dataset(library, tokenizer, path, **options)
        skip = dataset.info.batches - arguments.steps // 2
        measure(f"{arguments.short_documents} documents, across epochs", dataset, arguments, skip)
        dataset = Dataset(library, tokenizer, path, memory_limit=1, **options)
        measure("the same, read and tokenised again", dataset, arguments, skip)


if __name__ == "__main__":
    main()
