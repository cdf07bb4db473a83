#!/usr/bin/env python3
"""Writes the models that the table's arms start from as fp32 Hugging Face folders: OUT/plain is what the GGUF
file holds, OUT/planted the same function with outlier features. So libqft and PyTorch read the same values.
Needs gguf, torch and safetensors; the file's config.json is what libqft makes of it."""

import argparse
import json
import pathlib
import sys

import safetensors.torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "emulation")]

import model_files
from qft_ctypes import Library, Model

# kind of model_files -> the tensors stacked in it, and their rows: heads of queries or keys, or a share.
SPLIT = {"qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
         "o": ("self_attn.o_proj",), "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
         "down": ("mlp.down_proj",)}


def tensors_of(config, matrices, norms):
    """Hugging Face's names -> fp32 tensors."""
    head_dim = config["head_dim"]
    rows = {"qkv": [config["heads"] * head_dim] + 2 * [config["kv_heads"] * head_dim]}
    tensors = {"model.embed_tokens.weight": matrices["embedding"][0],
               "model.norm.weight": norms[-1]}
    for layer in range(config["layers"]):
        prefix = f"model.layers.{layer}."
        tensors[prefix + "input_layernorm.weight"] = norms[2 * layer]
        tensors[prefix + "post_attention_layernorm.weight"] = norms[2 * layer + 1]
        for kind, names in SPLIT.items():
            matrix = matrices[kind][layer]
            sizes = rows.get(kind, [len(matrix) // len(names)] * len(names))
            for name, part in zip(names, matrix.split(sizes)):
                tensors[f"{prefix}{name}.weight"] = part
    return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="GGUF file")
    parser.add_argument("--library", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    model = Model(Library(arguments.library / "libqft.so"), arguments.model)
    # transformers takes no gradient at a padding token.
    config = {**model.config(), "torch_dtype": "float32", "pad_token_id": None}
    shape, matrices, norms = model_files.load(arguments.model, config["max_position_embeddings"])
    for name in ("plain", "planted"):
        if name == "planted":
            matrices, norms = model_files.plant_outliers(matrices, norms)
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        safetensors.torch.save_file(tensors_of(shape, matrices, norms),
                                    folder / "model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    main()
