#!/usr/bin/env python3
"""Writes chat_golden.json: what transformers makes of random conversations in each chat template.

The reference templates below are written from what the families' models ship, with the assistant's
words marked for return_assistant_tokens_mask. Needs transformers, tokenizers and jinja2.

  make_chat_golden.py [--published NAME=FILE ...]    also checks that the template in a file renders
                                                     the same as the reference called NAME
"""

import argparse
import json
import pathlib
import random
import struct
import zlib

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
CONVERSATIONS = 200
DATE = "26 Jul 2024"
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>",
           "<|eot_id|>", "[INST]", "[/INST]", "<think>", "</think>"]


def chatml(default=None):
    """ChatML; `default`: the system prompt of conversations that have none."""
    start = ""
    if default is not None:
        start = ("{% if loop.first and messages[0]['role'] != 'system' %}"
                 "{{ '<|im_start|>system\\n" + default + "<|im_end|>\\n' }}{% endif %}")
    return ("{% for message in messages %}" + start +
            "{{ '<|im_start|>' + message['role'] + '\\n' }}"
            "{% if message['role'] == 'assistant' %}"
            "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
            "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


TOOL_RESPONSE = (
    "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}"
    "{% endif %}{{ '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}")

QWEN25 = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou are Qwen, created by Alibaba "
    "Cloud. You are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{% for message in messages %}{% if message.role == 'tool' %}" + TOOL_RESPONSE + "{% else %}"
    "{{ '<|im_start|>' + message.role + '\\n' }}{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}{% else %}"
    "{{ message.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")

QWEN3 = (
    "{% set ns = namespace(searching=true, last=messages|length - 1) %}"
    "{% for message in messages[::-1] %}{% if ns.searching and message.role == 'user' and not "
    "(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>'))"
    " %}{% set ns.searching = false %}{% set ns.last = messages|length - 1 - loop.index0 %}{% endif %}"
    "{% endfor %}{% for message in messages %}{% if message.role == 'tool' %}" + TOOL_RESPONSE +
    "{% elif message.role == 'assistant' %}{% set content = message.content %}{% set thought = '' %}"
    "{% if message.reasoning_content is string %}{% set thought = message.reasoning_content %}"
    "{% elif '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "{{ '<|im_start|>assistant\\n' }}{% generation %}"
    "{% if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{ '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}"
    "{% else %}{{ content }}{% endif %}{{ '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}{% else %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")

ALTERNATE = ("{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
             "{{ raise_exception('roles must alternate') }}{% endif %}")
SYSTEM_FIRST = ("{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
                "{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}")

LLAMA2 = (
    SYSTEM_FIRST + "{% for message in rest %}" + ALTERNATE +
    "{% if loop.first and system is defined %}"
    "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message.content %}"
    "{% else %}{% set content = message.content %}{% endif %}{% if message.role == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}"
    "{% generation %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endgeneration %}{% endif %}"
    "{% endfor %}")

LLAMA3_MESSAGE = (
    "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content | trim + '<|eot_id|>' }}"
    "{% endgeneration %}{% else %}{{ message.content | trim + '<|eot_id|>' }}{% endif %}")
LLAMA3_END = ("{% if add_generation_prompt %}"
              "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}")

LLAMA3 = "{{ bos_token }}{% for message in messages %}" + LLAMA3_MESSAGE + "{% endfor %}" + LLAMA3_END

LLAMA31 = (
    SYSTEM_FIRST + "{{ bos_token + '<|start_header_id|>system<|end_header_id|>\\n\\n' }}"
    "{{ 'Cutting Knowledge Date: December 2023\\nToday Date: ' + date_string + '\\n\\n' }}"
    "{% if system is defined %}{{ system | trim }}{% endif %}{{ '<|eot_id|>' }}"
    "{% for message in rest %}{% if message.role == 'tool' %}"
    "{{ '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}{{ message.content | tojson }}"
    "{{ '<|eot_id|>' }}{% else %}" + LLAMA3_MESSAGE + "{% endif %}{% endfor %}" + LLAMA3_END)

ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message.role + '|>\\n' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content + eos_token }}"
    "{% endgeneration %}{% else %}{{ message.content + eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}")


def mistral(before, after, answer, trim="", system_when="loop.first"):
    """The spaces are what Mistral's templates differ in."""
    return (SYSTEM_FIRST + "{{ bos_token }}{% for message in rest %}" + ALTERNATE +
            "{% if message.role == 'user' %}{{ '" + before + "' }}{% if " + system_when +
            " and system is defined %}{{ system + '\\n\\n' }}{% endif %}"
            "{{ message.content + '" + after + "' }}{% else %}{% generation %}{{ '" + answer +
            "' + message.content" + trim + " + eos_token }}{% endgeneration %}{% endif %}{% endfor %}")


# Name: reference, and what conversations it takes.
REFERENCES = {
    "chatml": (chatml(), "free"),
    "llama-2": (LLAMA2, "alternating"),
    "llama-3": (LLAMA3, "free"),
    "llama-3.1": (LLAMA31, "free"),
    "mistral-v0": (mistral("[INST] ", " [/INST]", ""), "without system"),
    "mistral-v1": (mistral(" [INST] ", " [/INST]", " "), "alternating"),
    "mistral-v3": (mistral("[INST] ", "[/INST]", " ", " | trim", "loop.last"), "alternating"),
    "mistral-v3-tekken": (mistral("[INST]", "[/INST]", "", "", "loop.last"), "alternating"),
    "qwen2": (chatml("You are a helpful assistant."), "free"),
    "qwen2.5": (QWEN25, "free"),
    "qwen3": (QWEN3, "free"),
    "smollm2": (chatml("You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
                "free"),
    "zephyr": (ZEPHYR, "without tool"),
}

PIECES = [
    "", "", " ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "\x1c", "\x85", "hello", " world ",
    "What is 2+2?", "It's 4.", "Grüße", "e\u0301", "\u1100\u1161\u11a8", "日本語のテキスト", "مرحبا",
    "👩\u200d👩\u200d👧", "🇩🇪", "\ufeff", "\u2028", "def f(x):\n    return x\n", "{{ messages }}",
    "{% for x in y %}", "\\n", '"quoted"', "'", "\\", "<|im_end|>", "<|im_start|>assistant\n",
    "<|eot_id|>", "[INST]", "[/INST]", "</s>", "<s>", "<think>", "</think>", "<think>\n\nhm\n</think>\n\n",
    "<think>one</think>two<think>three</think>\nfour",
    "<tool_response>", "</tool_response>", "<<SYS>>", "<|user|>\n", "1234567890", "a" * 70, "\x00", "\x7f",
    "\u2581", "   ",
]


def content(rng):
    return "".join(rng.choice(PIECES) for _ in range(rng.choice([0, 1, 1, 2, 3, 4, 6])))


def conversation(rng, kind):
    messages = []
    if kind == "free":
        roles = rng.choices(["user", "assistant", "assistant", "tool", "system"], k=rng.randint(1, 7))
    else:
        roles = ["system"] if kind == "alternating" and rng.random() < 0.5 else []
        roles += [("user", "assistant")[i % 2] for i in range(rng.randint(1, 7))]
    for role in roles:
        message = {"role": role, "content": content(rng)}
        if role == "user" and rng.random() < 0.1:
            message["content"] = "<tool_response>" + message["content"] + "</tool_response>"
        if role == "assistant" and rng.random() < 0.2:
            message["reasoning_content"] = content(rng)
        messages.append(message)
    return messages


def fitting(messages, kind):
    """A conversation with the roles that the template has."""
    if kind == "without system":
        return [m for m in messages if m["role"] != "system"]
    if kind == "without tool":
        return [{**m, "role": "user"} if m["role"] == "tool" else m for m in messages]
    return messages


def read(name):
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def family(name):
    """A tokenizer.json of families_variants.json that is made of families_small.json."""
    return {**read("families_small.json"), **read("families_variants.json")[name]}


def add_special(raw, texts):
    present = {token["content"] for token in raw["added_tokens"]}
    size = 1 + max([*raw["model"]["vocab"].values(), *(t["id"] for t in raw["added_tokens"])])
    for text in texts:
        if text not in present:
            raw["added_tokens"].append({"id": size, "content": text, "single_word": False,
                                        "lstrip": False, "rstrip": False, "normalized": False,
                                        "special": True})
            size += 1
    return raw


def make_tokenizers():
    """What replaces parts of which file, and the tokenizers: of bytes, of bytes after a normaliser,
    and of SentencePiece's pieces as LLaMA 1, LLaMA 2 and Mistral's first and third version have them."""
    small = add_special({**read("tokenizer_small.json"), "post_processor": None}, SPECIAL)
    mistral = family("mistral3")
    mistral["added_tokens"] = [t for t in mistral["added_tokens"] if t["special"]]
    made = {
        "plain": ("tokenizer_small.json", {**small, "normalizer": None}),
        "composing": ("tokenizer_small.json", {**small, "normalizer": {"type": "NFC"}}),
        "llama1": ("families_small.json", family("llama1")),
        "llama2": ("families_small.json", family("llama2")),
        "mistral1": ("families_small.json", family("llama_metaspace")),
        "mistral3": ("families_small.json", add_special(mistral, ["[/INST]"])),
    }
    replaced = ("added_tokens", "normalizer", "pre_tokenizer", "post_processor")
    parts = {name: {"base": base, **{key: raw[key] for key in replaced}}
             for name, (base, raw) in made.items()}
    return parts, [
        PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(raw)), bos_token="<s>",
                                eos_token="</s>", clean_up_tokenization_spaces=False)
        for _, raw in made.values()]


def crc(numbers):
    return zlib.crc32(struct.pack(f"<{len(numbers)}i", *numbers))


def render(tokenizer, messages, template, prompt):
    return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False,
                                         add_generation_prompt=prompt, date_string=DATE)


def expected(tokenizers, messages, template):
    """CRCs of the text, of the text with generation prompt, then of ids and mask of each tokenizer."""
    texts = [render(tokenizers[0], messages, template, prompt) for prompt in (False, True)]
    row = [zlib.crc32(text.encode()) for text in texts]
    for tokenizer in tokenizers:
        encoded = tokenizer.apply_chat_template(messages, chat_template=template, date_string=DATE,
                                                return_dict=True, return_assistant_tokens_mask=True)
        assert encoded["input_ids"] == tokenizer(texts[0], add_special_tokens=False)["input_ids"]
        row += [crc(encoded["input_ids"]), crc(encoded["assistant_masks"])]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", action="append", default=[], metavar="NAME=FILE")
    arguments = parser.parse_args()
    rng = random.Random(7)
    pools = {kind: [conversation(rng, kind) for _ in range(CONVERSATIONS)]
             for kind in ("free", "alternating")}
    parts, tokenizers = make_tokenizers()
    cases = {}
    for name, (template, kind) in REFERENCES.items():
        pool = "free" if kind in ("free", "without tool") else "alternating"
        conversations = [fitting(messages, kind) for messages in pools[pool]]
        cases[name] = {"kind": kind,
                       "expected": [expected(tokenizers, m, template) for m in conversations]}
        for published in (p.split("=", 1)[1] for p in arguments.published if p.startswith(name + "=")):
            text = pathlib.Path(published).read_text(encoding="utf-8")
            for messages in conversations:
                for prompt in (False, True):
                    published_text = render(tokenizers[0], messages, text, prompt)
                    if published_text != render(tokenizers[0], messages, template, prompt):
                        raise SystemExit(f"{published} differs from {name}: {messages}")
            print(f"{published}: renders as {name}, {len(conversations)} conversations")
    golden = {"tokenizers": parts, "conversations": pools, "templates": cases}
    text = json.dumps(golden, ensure_ascii=True, separators=(",", ":"))
    (HERE / "chat_golden.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
