"""Reads a checkpoint of format version 2 as real numbers, by docs/checkpoint_format.md alone."""
import json
from numpy import concatenate, float32
from safetensors.numpy import load_file

PARTS = (".grid", ".residual", ".critical", ".momentum", ".momentum_grid", ".critical_momentum")
SITES = {"q_proj": 0, "k_proj": 0, "v_proj": 0, "o_proj": 1, "gate_proj": 2, "up_proj": 2,
         "down_proj": 3}

def with_critical(values, tensors, name, part):
    if name + part in tensors:
        words = name.split(".")  # model.layers.BLOCK.mlp.down_proj.weight, or the head's
        site = 4 * int(words[2]) + SITES[words[4]] if words[1] == "layers" else -1
        values[:, tensors["critical_columns"][site]] = tensors[name + part]
    return values

def weight(tensors, name):
    codes = tensors[name]
    if codes.dtype != "int8":
        return codes
    steps = 16 * codes.astype("int32")
    if name + ".residual" in tensors:
        pairs = tensors[name + ".residual"].reshape(len(codes), -1, 8)
        bits = concatenate([pairs << 4 >> 4, pairs >> 4], axis=2)  # int8: the sign is shifted in
        steps += bits.reshape(len(codes), -1)[:, :codes.shape[1]]
    grid = tensors[name + ".grid"][:, None] / float32(16)
    return with_critical(grid * steps.astype("float32"), tensors, name, ".critical")

def momentum(tensors, name):
    codes = tensors.get(name + ".momentum")  # None: the tensor is frozen
    if codes is None or codes.dtype != "int8":
        return codes
    grid = tensors[name + ".momentum_grid"].repeat(128, axis=1)[:, :codes.shape[1]]
    return with_critical(grid * codes, tensors, name, ".critical_momentum")

def read_checkpoint(folder):
    assert json.loads((folder / "manifest.json").read_bytes())["format_version"] == 2
    tensors = load_file(folder / "states.safetensors")
    names = [n for n in tensors if n != "critical_columns" and not n.endswith(PARTS)]
    return {n: (weight(tensors, n), momentum(tensors, n)) for n in names}
