#!/usr/bin/env python3
"""Makes what tokenizer_golden_test.cpp compares with: ids by Hugging Face `tokenizers`.

Writes beside itself
  tokenizer_small.json     byte-level BPE trained on the lines below
  tokenizer_variants.json  what to replace in it, and the name of each column
  tokenizer_golden.bin     the lines and the CRC-32 of their ids, see `write_golden`

usage: make_tokenizer_golden.py MODEL.gguf   (SmolLM2: the last column is its vocabulary)
"""
import copy
import json
import os
import random
import struct
import sys
import zlib

from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
LINES = 5200
ID_LISTS = 600
VOCABULARY = 2000
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")

WORDS = {
    "latin": "the of and to in fox naïve façade Ünïcode straße œuvre Ægir coöperate I'm don't "
             "WE'LL they've it's HE'D Ångström Łódź ﬁne ſharp İstanbul ıssız".split(),
    "cyrillic": "и в не на что привет мир ёлка Съешь ещё этих мягких булок україна їжак".split(),
    "greek": "και το να Ελλάδα ΣΊΣΥΦΟΣ σίσυφος ἄνθρωπος ὀξύς".split(),
    "arabic": "في من على السلام عليكم مَرْحَبًا ٱلْعَالَم ١٢٣ کتاب".split(),
    "hebrew": "של את על שלום עולם בְּרֵאשִׁית כתיב".split(),
    "devanagari": "है में की नमस्ते दुनिया हिन्दी क्षत्रिय १२३ ज़मीन".split(),
    "thai": "สวัสดี ชาวโลก ภาษาไทย น้ำ ๑๒๓ ที่นี่".split(),
    "cjk": "你好 世界 的 是 汉字 漢字 日本語 ひらがな カタカナ ﾊﾝｶｸ 東京都 々 𠮷野家 ，。「」".split(),
    "hangul": "안녕하세요 세계 한국어 각 각 대한민국".split(),
    "emoji": ["😀", "👨‍👩‍👧‍👦", "👍🏽", "🇩🇪", "🏳️‍🌈", "1️⃣", "❤️", "🤷🏿‍♀️", "☃"],
    "marks": ["e\u0301", "n\u0303", "a\u0308\u0304", "q\u0307\u0323", "\u0301x", "o\u0328\u0304",
              "\u0344", "\u212b", "\u2126", "가\u11a8"],
    "code": ["for(int i=0;i<n;++i){", "x+=y*2;", "def f(self,", "return", "#include", "<vector>",
             "a[i]->b::c", "!=", "&&", "\"\\n\"", "0xFF", "1e-9", "//", "/*", "*/", "$HOME", "`ls`",
             "^_^", "~", "|", "@x"],
    "digits": ["0", "7", "42", "123", "2024", "1000000", "3.14159", "1,234.5", "½", "²", "Ⅷ", "①",
               "٣٤", "१९४७", "12:30", "00007"],
}
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n", "\u00a0", "\u2028", "\u2029",
          "\u3000", "\u2009", "\u200b", "\ufeff", "\u0085", "\x0b", "\x0c", "\x1c", "\x1f", "\u180e"]
MARKERS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool>", "word", "mask", "Å", "<|im_",
           "[x]", "[x]y", "<|im_end|", "<repo_name>"]
CONTROLS = ["\x00", "\x01", "\x1b", "\x7f", "\u0080", "\u009f", "\ufffd", "\ufffe", "\U0010ffff",
            "\u202e", "\u2066"]
BROKEN = [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\x80\x80",
          b"\xf4\x90\x80\x80", b"\xe2\x28\xa1", b"\xf8\x88\x80\x80\x80"]


def random_line(rng):
    kind = rng.random()
    if kind < 0.04:  # a long run
        return rng.choice(["a", " ", "\n", "0", "!", "é", "字", "ab", " x", "\u0301", "=", "-",
                           "\t", "🙂"]) * rng.randrange(50, 400)
    scripts = rng.sample(sorted(WORDS), rng.choice([1, 1, 2, 3, len(WORDS)]))
    parts = []
    for _ in range(rng.randrange(1, 9)):
        parts.append(rng.choice(WORDS[rng.choice(scripts)]))
        odd = rng.random()
        parts.append(" " if odd < 0.6 else rng.choice(SPACES) if odd < 0.8 else
                     rng.choice(".,;:!?()'\"-") if odd < 0.9 else "")
        if rng.random() < 0.06:
            parts.append(rng.choice(MARKERS))
        if rng.random() < 0.03:
            parts.append(rng.choice(CONTROLS))
    return "".join(parts)


def make_lines():
    rng = random.Random(20240607)
    lines = [b"", b" ", b"\n", b"\x00"] + [s.encode() for s in SPACES + MARKERS + CONTROLS]
    lines += [w.encode() for words in WORDS.values() for w in words] + BROKEN
    while len(lines) < LINES:
        line = random_line(rng).encode()
        if rng.random() < 0.08:
            at = rng.randrange(len(line) + 1)
            line = line[:at] + rng.choice(BROKEN) + line[at:]
        lines.append(line)
    return lines


def train(lines):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator((text(line) for line in lines), trainer)
    tokenizer.add_tokens(["<tool>"])
    return json.loads(tokenizer.to_str())


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True,
            "use_regex": regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def added(number, content, **flags):
    token = {"id": number, "content": content, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": False}
    token.update(flags)
    return token


def make_variants(base):
    more = list(base["added_tokens"])
    for content, flags in (("word", {"single_word": True}),
                           ("mask", {"lstrip": True, "rstrip": True}),
                           ("Å", {"normalized": True}),
                           ("[x]", {"special": True, "normalized": True}),
                           ("[x]y", {"rstrip": True, "normalized": True})):
        next_id = 1 + max(VOCABULARY - 1, *(token["id"] for token in more))
        number = base["model"]["vocab"].get(content, next_id)
        more.append(added(number, content, **flags))
    return {
        "smollm": {},
        "gpt2": {"pre_tokenizer": byte_level(prefix=True)},
        "llama3": {"pre_tokenizer": sequence(split(LLAMA3), byte_level(regex=False)),
                   "model": {"ignore_merges": True}},
        "qwen2": {"pre_tokenizer": sequence(split(QWEN2), byte_level(regex=False)),
                  "normalizer": {"type": "NFC"}},
        "added": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": False},
                                            byte_level()),
                  "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"},
                                                                     {"type": "NFKC"}]},
                  "added_tokens": more},
        "behaviors": {"pre_tokenizer": sequence(
            split("\t", "Removed", kind="String"), split(r"\p{P}", "MergedWithPrevious"),
            split(r"\s", "MergedWithNext"), split("[0-9]", "Contiguous"),
            split(r"\p{L}+|\p{M}", "Isolated", invert=True), byte_level(prefix=True)),
            "normalizer": {"type": "NFKD"}},
    }


def apply_variant(base, patch):
    result = copy.deepcopy(base)
    for key, value in patch.items():
        if key == "model":
            result["model"].update(value)
        else:
            result[key] = value
    return result


def from_gguf(path, base):
    """SmolLM2's tokenizer.json; transformers' own conversion forgets the division of digits."""
    reader = GGUFReader(path)
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    result = copy.deepcopy(base)
    result["model"].update(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    result["added_tokens"] = [added(i, token, special=True)
                              for i, token in enumerate(tokens) if types[i] == 3]
    return result


def text(line):
    return line.decode("utf-8", errors="replace")


def crc(ids):
    return zlib.crc32(struct.pack("<%di" % len(ids), *ids))


def text_crc(decoded):
    return zlib.crc32(decoded.encode())


def write_golden(lines, columns, rng):
    """Little-endian: "QFTGOLD1", u32 columns, lines, id lists; each line: u32 length, bytes, for each
    column the CRC of the ids with and without special tokens, then that of the text which the first
    column's ids give; each id list: u32 length, ids, CRC of its text with and without special."""
    out = [b"QFTGOLD1", struct.pack("<3I", len(columns), len(lines), ID_LISTS)]
    first = columns[0]
    for line in lines:
        out.append(struct.pack("<I", len(line)) + line)
        for tokenizer in columns:
            for plain in (False, True):
                tokenizer.encode_special_tokens = plain
                ids = tokenizer.encode(text(line), add_special_tokens=False).ids
                out.append(struct.pack("<I", crc(ids)))
        first.encode_special_tokens = False
        ids = first.encode(text(line), add_special_tokens=False).ids
        out.append(struct.pack("<I", text_crc(first.decode(ids, skip_special_tokens=False))))
    size = first.get_vocab_size()
    for _ in range(ID_LISTS):
        # Mostly single bytes (ids 3 .. 258), so that characters break and join.
        ids = [rng.randrange(size) if rng.random() < 0.3 else rng.randrange(3, 259)
               for _ in range(rng.randrange(1, 24))]
        out.append(struct.pack("<I%dI" % len(ids), len(ids), *ids))
        for skip in (False, True):
            out.append(struct.pack("<I", text_crc(first.decode(ids, skip_special_tokens=skip))))
    with open(os.path.join(HERE, "tokenizer_golden.bin"), "wb") as file:
        file.write(b"".join(out))


def main():
    lines = make_lines()
    base = train(lines)
    variants = make_variants(base)
    for name, value in (("tokenizer_small.json", base), ("tokenizer_variants.json", variants)):
        with open(os.path.join(HERE, name), "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, separators=(",", ":"), sort_keys=False)
            file.write("\n")
    columns = [Tokenizer.from_str(json.dumps(apply_variant(base, patch)))
               for patch in variants.values()]
    columns.append(Tokenizer.from_str(json.dumps(from_gguf(sys.argv[1], base))))
    write_golden(lines, columns, random.Random(7))


if __name__ == "__main__":
    main()
