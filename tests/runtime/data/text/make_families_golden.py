#!/usr/bin/env python3
"""Makes what families_golden_test.cpp compares with: ids and texts by Hugging Face `tokenizers` and by
`sentencepiece` for tokenizers of the shape of each family, on the lines of tokenizer_golden.bin with
markers of these families in the place of others. Needs tokenizers, sentencepiece and protobuf.

Writes beside itself
  sentencepiece_*.model    trained on the lines
  families_small.json      sentencepiece_llama.model as transformers turns it into a tokenizer.json
  families_variants.json   the families: base, and what to replace in it
  families_golden.bin      see `write_golden`
"""
import io
import json
import os
import random
import re
import struct
import sys
import types
import zlib

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

# Only its main needs it.
sys.modules.setdefault("gguf", types.SimpleNamespace(GGUFReader=None))
import make_tokenizer_golden as byte_level  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ID_LISTS = 600
MARKERS = {"<|im_start|>": "<s>", "<|im_end|>": "</s>", "<|endoftext|>": "<unk>", "<tool>": "[INST]",
           "<repo_name>": "<0x0A>", "[x]": "\u2581", "mask": "<mask>"}
# A part of nmt_nfkc: its own character map takes 240 kB.
RULES = {"\u00a0": " ", "\u3000": " ", "\u2009": " ", "\t": " ", "\n": " ", "\r": " ", "\x7f": "",
         "\x01": "", "\u200b": " ", "\ufeff": "", "\u212b": "\u00c5", "\u2126": "\u03a9", "e\u0301": "\u00e9",
         "n\u0303": "\u00f1", "a\u0308": "\u00e4", "a\u0308\u0304": "\u01df", "\ufb01": "fi", "\u00bd": "1\u20442",
         "\u2460": "1", "\u2167": "VIII", "\uff8a": "\u30cf", "\uff9d": "\u30f3", "\u0344": "\u0308\u0301"}


def make_lines():
    lines = []
    for line in byte_level.make_lines():
        for old, new in MARKERS.items():
            line = line.replace(old.encode(), new.encode())
        lines.append(line)
    return lines


# ---- SentencePiece ------------------------------------------------------------------------------

LLAMA = {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
         "remove_extra_whitespaces": False, "split_digits": True, "vocab_size": 1400,
         "allow_whitespace_only_pieces": True, "character_coverage": 0.995}
SENTENCEPIECES = {
    "llama": LLAMA,
    "yi": {**LLAMA, "add_dummy_prefix": False, "vocab_size": 900,
           "user_defined_symbols": ["[INST]", "word", "in wo", "\U0001f468"],
           "control_symbols": ["<mask>"]},
    "unigram": {"model_type": "unigram", "vocab_size": 700, "user_defined_symbols": ["[INST]", "the"]},
    "unigram_bytes": {"model_type": "unigram", "vocab_size": 800, "byte_fallback": True,
                      "normalization_rule_name": "identity", "character_coverage": 0.98},
    "suffix": {"model_type": "bpe", "vocab_size": 500, "treat_whitespace_as_suffix": True,
               "character_coverage": 0.98, "unk_surface": " ?? "},
}


def train_sentencepiece(name, lines):
    options = dict(SENTENCEPIECES[name])
    rules = os.path.join(HERE, "rules.tsv")
    if "normalization_rule_name" not in options:
        with open(rules, "w", encoding="utf-8") as file:
            for source, target in RULES.items():
                file.write("\t".join(" ".join(f"{ord(c):X}" for c in text)
                                     for text in (source, target)) + "\n")
        options["normalization_rule_tsv"] = rules
    model = io.BytesIO()
    random.seed(1)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(byte_level.text(line).replace("\0", "") for line in lines),
        model_writer=model, max_sentence_length=100000, minloglevel=2, num_threads=1, **options)
    if os.path.exists(rules):
        os.remove(rules)
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    proto.trainer_spec.ClearField("input")
    proto.normalizer_spec.ClearField("normalization_rule_tsv")
    return proto


class SentencePiece:
    """A model's plain encoding, and with its control symbols recognised in the text."""

    def __init__(self, proto):
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        controls = [piece.piece for piece in proto.pieces if piece.type == piece.CONTROL]
        self.controls = re.compile("(" + "|".join(map(re.escape, controls)) + ")")
        self.size = len(proto.pieces)

    def encode(self, text, plain):
        if plain:
            return self.processor.encode(text)
        ids = [self.processor.piece_to_id("<s>")]
        for i, part in enumerate(self.controls.split(text)):
            ids += [self.processor.piece_to_id(part)] if i % 2 else self.processor.encode(part)
        return ids

    def decode(self, ids):
        return self.processor.decode(ids)


# ---- tokenizer.json -----------------------------------------------------------------------------

class HuggingFace:
    def __init__(self, tokenizer):
        self.tokenizer = Tokenizer.from_str(json.dumps(tokenizer))
        # tokenizers 0.23 decodes a normalized token as its normal form and so fails to skip it.
        tokens = [{**token, "normalized": False} for token in tokenizer["added_tokens"]]
        self.decoder = Tokenizer.from_str(json.dumps({**tokenizer, "added_tokens": tokens}))
        self.size = self.tokenizer.get_vocab_size()

    def encode(self, text, plain):
        self.tokenizer.encode_special_tokens = plain
        return self.tokenizer.encode(text, add_special_tokens=not plain).ids

    def decode(self, ids):
        return self.decoder.decode(ids, skip_special_tokens=True)


def merges_of(proto):
    """As transformers' generate_merges has it."""
    vocabulary = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    merges = []
    for piece in proto.pieces:
        if piece.type not in (piece.NORMAL, piece.USER_DEFINED):
            continue
        pairs = [(piece.piece[:i], piece.piece[i:]) for i in range(1, len(piece.piece))]
        pairs = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
        pairs.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        merges += [(piece.score, len(left), len(right), left, right) for left, right in pairs]
    merges.sort(key=lambda merge: merge[:3], reverse=True)
    return [[left, right] for *_, left, right in merges]


def template(number, content):
    token = {"SpecialToken": {"id": content, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [token, text],
            "pair": [token, text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {content: {"id": content, "ids": [number], "tokens": [content]}}}


def replace(old, new):
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


MARK = replace(" ", "\u2581")
PREPEND = {"type": "Prepend", "prepend": "\u2581"}
BYTES = [replace("\u2581", " "), {"type": "ByteFallback"}, {"type": "Fuse"}]


def specials(normalized):
    return [byte_level.added(i, content, special=True, normalized=normalized)
            for i, content in enumerate(("<unk>", "<s>", "</s>"))]


def llama_json(proto):
    """LLaMA 2, Mistral 0.1, TinyLlama and older Yi."""
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": specials(False),
        "normalizer": {"type": "Sequence", "normalizers": [PREPEND, MARK]}, "pre_tokenizer": None,
        "post_processor": template(1, "<s>"),
        "decoder": {"type": "Sequence", "decoders": BYTES + [
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>",
                  "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True,
                  "byte_fallback": True, "ignore_merges": False,
                  "vocab": {piece.piece: i for i, piece in enumerate(proto.pieces)},
                  "merges": merges_of(proto)}}


def metaspace(scheme, divides=False):
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": divides}


def family_variants(vocabulary, byte_level_size):
    size = len(vocabulary)
    instructions = [byte_level.added(vocabulary.get(content, size + i), content, special=special,
                                     **flags)
                    for i, (content, special, flags) in enumerate((
                        ("[INST]", True, {}), ("<mask>", False, {"lstrip": True, "rstrip": True}),
                        ("word", False, {"single_word": True, "normalized": True})))]
    llama3 = {"type": "Sequence", "processors": [byte_level.byte_level(), template(1, "<|im_start|>")]}
    return {
        "llama1": {"added_tokens": specials(True)},
        "llama2": {},
        "llama_metaspace": {"normalizer": None, "pre_tokenizer": metaspace("first")},
        "mistral3": {"normalizer": None, "pre_tokenizer": metaspace("first"),
                     "added_tokens": specials(False) + instructions},
        "yi": {"normalizer": {"type": "Sequence", "normalizers": [MARK]}, "post_processor": None,
               "decoder": {"type": "Sequence", "decoders": BYTES}},
        "metaspace_divided": {"normalizer": {"type": "NFKC"}, "pre_tokenizer": metaspace("always", True),
                              "decoder": metaspace("always", True)},
        "no_fallback": {"model": {"byte_fallback": False}},
        "no_fuse": {"model": {"byte_fallback": False, "fuse_unk": False, "ignore_merges": True},
                    "pre_tokenizer": metaspace("never", True), "decoder": metaspace("never")},
        "llama3": {"base": "tokenizer_small.json", "post_processor": llama3,
                   "pre_tokenizer": byte_level.sequence(byte_level.split(byte_level.LLAMA3),
                                                        byte_level.byte_level(regex=False)),
                   "model": {"ignore_merges": True}},
        "qwen3": {"base": "tokenizer_small.json", "normalizer": {"type": "NFC"},
                  "post_processor": byte_level.byte_level(),
                  "pre_tokenizer": byte_level.sequence(byte_level.split(byte_level.QWEN2),
                                                       byte_level.byte_level(regex=False)),
                  "added_tokens": [byte_level.added(i, content, special=True) for i, content in
                                   enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))] + [
                      byte_level.added(byte_level_size, "[INST]"),
                      byte_level.added(byte_level_size + 1, "<mask>", lstrip=True)]},
    }


# ---- golden file --------------------------------------------------------------------------------

def id_lists(size):
    x = 1
    for _ in range(ID_LISTS):
        ids = []
        for _ in range(12):
            x = (x * 1664525 + 1013904223) % 2**32
            # Mostly small ids, which are bytes, so that characters break and join.
            ids.append((x >> 8) % (size if x >> 30 == 0 else min(size, 264)))
        yield ids


def packed(ids):
    return struct.pack("<%di" % len(ids), *ids)


def write_golden(lines, columns):
    """Little-endian: "QFTGOLD2", u32 columns and lines; for each column the CRC-32 of each line's ids with
    special tokens (those that the model expects around the text, too), its ids without, and the text
    of the latter; then the CRC of the texts of `id_lists`, each with a zero byte."""
    out = [b"QFTGOLD2", struct.pack("<2I", len(columns), len(lines))]
    for column in columns:
        for line in lines:
            text = byte_level.text(line)
            plain = column.encode(text, True)
            result = packed(column.encode(text, False)) + packed(plain) + column.decode(plain).encode()
            out.append(struct.pack("<I", zlib.crc32(result)))
        texts = b"".join(column.decode(ids).encode() + b"\0" for ids in id_lists(column.size))
        out.append(struct.pack("<I", zlib.crc32(texts)))
    with open(os.path.join(HERE, "families_golden.bin"), "wb") as file:
        file.write(b"".join(out))


def write_json(name, value):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


def main():
    lines = make_lines()
    protos = {name: train_sentencepiece(name, lines) for name in SENTENCEPIECES}
    for name, proto in protos.items():
        with open(os.path.join(HERE, f"sentencepiece_{name}.model"), "wb") as file:
            file.write(proto.SerializeToString())
    llama = llama_json(protos["llama"])
    with open(os.path.join(HERE, "tokenizer_small.json"), encoding="utf-8") as file:
        small = json.load(file)
    variants = family_variants(llama["model"]["vocab"], len(small["model"]["vocab"]))
    write_json("families_small.json", llama)
    write_json("families_variants.json", variants)
    columns = []
    for variant in variants.values():
        patch = dict(variant)
        base = small if patch.pop("base", None) else llama
        columns.append(HuggingFace(byte_level.apply_variant(base, patch)))
    write_golden(lines, columns + [SentencePiece(proto) for proto in protos.values()])


if __name__ == "__main__":
    main()
