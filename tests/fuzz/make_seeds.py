#!/usr/bin/env python3
"""Writes the first inputs of each fuzzer to tests/fuzz/corpus, from the data of the other tests.

    tests/fuzz/make_seeds.py

What the fuzzers found beyond them lies beside them under the hash of its content.
checkpoint_manifest/manifest and checkpoint_states/states are the files of the checkpoint that
tests/fuzz/checkpoint.h makes.
"""
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
FORMATS = HERE.parent / "data" / "formats"
TEXT = HERE.parent / "runtime" / "data" / "text"
GGUF_STRING, GGUF_ARRAY, GGUF_INT32, GGUF_FLOAT32 = 8, 9, 5, 6

TEMPLATES = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
              "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "layout": "{#- notes -#}\n  {%- if messages[0].role == \"system\" -%} \n{{- bos_token }} x\n"
              "{% else %}{{ raise_exception('a \\'b') }}{% endif %}\n",
}


def write(target, name, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(content, (dict, list)):
        content = json.dumps(content, separators=(",", ":"))
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def safetensors(header, data):
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def safetensors_seeds():
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for dtype, size in (("F64", 8), ("F32", 4), ("I64", 8), ("F16", 2), ("BF16", 2), ("I8", 1)):
        end = len(data) + 6 * size
        header[dtype.lower()] = {"dtype": dtype, "shape": [2, 3], "data_offsets": [len(data), end]}
        data += bytes(6 * size)
    write("safetensors", "types", safetensors(header, data))
    entry = {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}
    write("safetensors", "scalar", safetensors({"a": entry}, b"\0\0\x80\x3f"))
    empty = {"dtype": "F32", "shape": [4, 0], "data_offsets": [0, 0]}
    write("safetensors", "empty", safetensors({"a": empty}, b""))
    write("safetensors", "model", (FORMATS / "tiny-qwen2" / "model.safetensors").read_bytes())
    write("safetensors", "git_lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    places = {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}
    write("safetensors_index", "index", {"metadata": {"total_size": 16}, "weight_map": places})
    outside = {**places, "a": "../1.safetensors"}
    write("safetensors_index", "outside", {"weight_map": outside})
    write("safetensors_index", "one", {"weight_map": {"a": "1.safetensors"}})


def string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf(entries, tensors=()):
    """entries: (key, type, value); an array is (key, (type, values))."""
    file = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries))
    for key, kind, value in entries:
        file += string(key) + struct.pack("<I", kind)
        if kind == GGUF_ARRAY:
            inner, values = value
            file += struct.pack("<IQ", inner, len(values))
            file += b"".join(scalar(inner, item) for item in values)
        else:
            file += scalar(kind, value)
    return file


def scalar(kind, value):
    if kind == GGUF_STRING:
        return string(value)
    formats = {GGUF_INT32: "<i", GGUF_FLOAT32: "<f", 4: "<I", 7: "<?", 10: "<Q"}
    return struct.pack(formats[kind], value)


def gguf_seeds():
    for name in ("quantized", "tiny-qwen2", "tiny-qwen3"):
        write("gguf", name, (FORMATS / f"{name}.gguf").read_bytes())
    write("gguf", "metadata", gguf([("general.architecture", GGUF_STRING, "llama"),
                                    ("llama.block_count", 4, 1),
                                    ("a", GGUF_ARRAY, (GGUF_STRING, ["x", "y"])),
                                    ("b", 7, True), ("general.alignment", 4, 64)]))
    common = [("tokenizer.ggml.bos_token_id", 4, 1), ("tokenizer.ggml.eos_token_id", 4, 2),
              ("tokenizer.chat_template", GGUF_STRING, "{{ messages }}")]
    pieces = ["<unk>", "<s>", "</s>", "\u2581", "a", "\u2581a"]
    write("tokenizer_gguf", "llama", gguf(common + [
        ("tokenizer.ggml.model", GGUF_STRING, "llama"),
        ("tokenizer.ggml.tokens", GGUF_ARRAY, (GGUF_STRING, pieces)),
        ("tokenizer.ggml.scores", GGUF_ARRAY, (GGUF_FLOAT32, [0, 0, 0, -1, -2, -3])),
        ("tokenizer.ggml.token_type", GGUF_ARRAY, (GGUF_INT32, [2, 3, 3, 1, 1, 1])),
        ("tokenizer.ggml.add_bos_token", 7, True)]))
    for name in ("gpt-2", "smollm", "llama-bpe", "qwen2", "default"):
        write("tokenizer_gguf", name, gguf(common + [
            ("tokenizer.ggml.model", GGUF_STRING, "gpt2"), ("tokenizer.ggml.pre", GGUF_STRING, name),
            ("tokenizer.ggml.tokens", GGUF_ARRAY, (GGUF_STRING, byte_level() + ["aa", "<s>"])),
            ("tokenizer.ggml.merges", GGUF_ARRAY, (GGUF_STRING, ["a a"])),
            ("tokenizer.ggml.token_type", GGUF_ARRAY, (GGUF_INT32, [1] * 257 + [3]))]))


def byte_level():
    """The 256 characters that byte-level BPE writes bytes as."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte if byte in shown else 256 + hidden.index(byte)) for byte in range(256)]


def model_config_seeds():
    for folder in ("tiny", "tiny-llama3", "tiny-qwen2", "tiny-qwen3"):
        write("model_config", folder, (FORMATS / folder / "config.json").read_bytes())
    config = json.loads((FORMATS / "tiny" / "config.json").read_text())
    config.pop("rope_parameters", None)
    config.update(rope_scaling={"type": "linear", "factor": 2.0}, eos_token_id=[1, 2])
    write("model_config", "linear", config)
    config.update(architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=64,
                  rope_scaling=None)
    write("model_config", "mistral", config)
    config.update(architectures=["SmolLM3ForCausalLM"], model_type="smollm3", sliding_window=None,
                  no_rope_layer_interval=2)
    write("model_config", "smollm3", config)


def tokenizer_json_seeds():
    vocab = {text: number for number, text in enumerate(byte_level() + ["aa"])}
    model = {"type": "BPE", "vocab": vocab, "merges": [["a", "a"]]}
    variants = json.loads((TEXT / "tokenizer_variants.json").read_text())
    special = {"id": 257, "content": "<s>", "special": True}
    plain = {"model": model, "added_tokens": [special], "decoder": {"type": "ByteLevel"},
             "pre_tokenizer": {"type": "ByteLevel"}}
    for name in ("smollm", "gpt2", "llama3", "qwen2"):
        parts = {key: value for key, value in variants[name].items() if key != "model"}
        write("tokenizer_json", name, {**plain, **parts})
    template = {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                           {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [257], "tokens": ["<s>"]}}}
    write("tokenizer_json", "template", {**plain, "post_processor": template})
    # Small files that made gigabytes of a word.
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 200}
    word = {"id": 258, "content": "a" * 100, "normalized": True}
    write("tokenizer_json", "growing_normalizer", {
        **plain, "added_tokens": [special, word],
        "normalizer": {"type": "Sequence", "normalizers": [grow] * 4}})
    pieces = ["<unk>", "<s>", "\u2581", "a", "\u2581a", *(f"<0x{byte:02X}>" for byte in range(256))]
    model = {"type": "BPE", "byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>",
             "vocab": {text: number for number, text in enumerate(pieces)}, "merges": ["\u2581 a"]}
    variants = json.loads((TEXT / "families_variants.json").read_text())
    for name in ("llama_metaspace", "yi", "metaspace_divided", "no_fallback", "no_fuse"):
        parts = {key: value for key, value in variants[name].items() if key != "model"}
        parts.setdefault("decoder", variants["yi"]["decoder"])
        write("tokenizer_json", name, {
            "model": {**model, **variants[name].get("model", {})},
            "added_tokens": [{"id": 1, "content": "<s>", "special": True},
                             {"id": 300, "content": "word", "single_word": True, "lstrip": True,
                              "normalized": True}], **parts})
    write("tokenizer_json", "growing_decoder", {
        "model": model, "decoder": {"type": "Sequence", "decoders": [grow] * 4 + [{"type": "Fuse"}]}})


def chat_seeds():
    for name, jinja in TEMPLATES.items():
        write("chat_template", name, jinja)
        write("tokenizer_config", name, {"bos_token": "<s>", "eos_token": {"content": "</s>"},
                                         "chat_template": jinja})
    named = [{"name": "default", "template": TEMPLATES["chatml"]}]
    write("tokenizer_config", "named", {"bos_token": "<s>", "chat_template": named})
    write("tokenizer_config", "added", {
        "added_tokens_decoder": {"6": {"content": "<|im_end|>", "special": True}},
        "add_bos_token": True, "add_eos_token": True, "legacy": False, "eos_token": "<|im_end|>",
        "eos_token_id": [1, 2]})


def data_seeds():
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    records = {
        "text": {"text": "One two three."},
        "prompt": {"prompt": "1 + 1 =", "completion": " 2"},
        "alpaca": {"instruction": "Add", "input": "1 1", "output": "2"},
        "messages": {"messages": [{**turns[0], "weight": 0}, {**turns[1], "train": True}]},
        "sharegpt": {"system": "Be", "conversations": [{"from": "human", "value": "Hi"},
                                                       {"from": "gpt", "value": "Hello"}]},
        "thinking": {"messages": [turns[0], {**turns[1], "reasoning_content": "Hm"}]},
    }
    for name, record in records.items():
        write("records", name, record)
    write("records", "all", "\r\n".join(map(json.dumps, records.values())) + "\n\nnot JSON")
    for width, code in ((2, "H"), (4, "I")):
        for mask in (b"", bytes([0, 0, 1, 1, 1, 1])):
            header = struct.pack("<8s4I2Q", b"QFTTOKEN", 1, width, int(bool(mask)), 0, 6, 2)
            tokens = struct.pack(f"<6{code}", 5, 6, 7, 8, 9, 10)
            file = header + tokens + mask + struct.pack("<2Q", 4, 6)
            write("token_file", f"{8 * width}_bits{'_mask' if mask else ''}", file)
    write("cursor", "same", b"\0")
    write("cursor", "epoch", bytes(80) + b"\1")
    write("cursor", "batch", bytes(88) + b"\1")
    write("cursor", "longer", bytes(200))


def manifest_seeds():
    patches = {
        "same": {}, "old": {"format_version": 1}, "seed": {"seed": 2**64 - 1}, "step": {"step": -1},
        "large_step": {"step": 2**63}, "blob": {"blob_base64": "!"}, "not_a_number": {"seed": "1"},
        "norm": {"previous_gradient_square_sum": -2.5}, "rounding": {"rounding_square_sum": -1},
        "no_files": {"files": None}, "states": {"states": "fp32"},
        "outside": {"files": {"../manifest.json": {"bytes": 1, "xxh3_128": ""}}},
        "missing": {"files": {"other.safetensors": {"bytes": 0, "xxh3_128": "0" * 32}}},
        "tensors": {"tensors": {"model.norm.weight": {"bytes": 1, "xxh3_128": 0}}},
    }
    for name, patch in patches.items():
        write("checkpoint_manifest", name, patch)


def varint(number):
    low = number & 127
    return bytes([low]) if low == number else bytes([low | 128]) + varint(number >> 7)


def field(number, content):
    """A field of bytes of a protobuf message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def tokenizer_model_seeds():
    for name in ("llama", "suffix", "unigram_bytes"):
        write("tokenizer_model", name, (TEXT / f"sentencepiece_{name}.model").read_bytes())
    pieces = b"".join(field(1, field(1, text.encode()) + b"\x18" + bytes([kind]))
                      for text, kind in (("<unk>", 2), ("\u2581", 1), ("b", 1)))
    # Made 40 kB of each "a" of a text.
    units = [1 << 10] + [0] * 255
    units[ord("a") ^ 1] = ord("a") | 1 << 8 | 2 << 10
    units[ord("a") ^ 1 ^ 2] = 1 << 31
    trie = struct.pack("<256I", *units)
    charsmap = struct.pack("<I", len(trie)) + trie + b"b" * 40000 + b"\0"
    write("tokenizer_model", "growing_charsmap", pieces + field(3, field(2, charsmap)))


if __name__ == "__main__":
    safetensors_seeds()
    gguf_seeds()
    model_config_seeds()
    tokenizer_json_seeds()
    tokenizer_model_seeds()
    chat_seeds()
    manifest_seeds()
    data_seeds()
