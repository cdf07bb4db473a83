#!/usr/bin/env python3
"""Reads a libqft checkpoint of format version 2 by docs/checkpoint_format.md alone, with numpy and
where it is there xxhash. read_checkpoint.py CHECKPOINT lists its tensors."""

import base64
import json
import pathlib
import sys

import numpy

try:
    import xxhash
except ImportError:
    xxhash = None  # nothing is verified then
DTYPES = {"I8": "<i1", "I32": "<i4", "F32": "<f4"}


def digest(data):
    return xxhash.xxh3_128_hexdigest(data)  # seed 0, high half first


def verify(folder, manifest, text, tensors):
    head, seal, _ = text.rpartition(b',\n "manifest_xxh3_128": ')
    assert not seal or manifest["manifest_xxh3_128"] == digest(head)
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert entry == {"bytes": len(data), "xxh3_128": digest(data)}, name
    assert manifest["tensors"].keys() == tensors.keys()
    for name, entry in manifest["tensors"].items():
        data = tensors[name].tobytes()
        assert entry == {"bytes": len(data), "xxh3_128": digest(data)}, name


def read_tensors(path):
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    return {name: numpy.frombuffer(data, DTYPES[entry["dtype"]], numpy.prod(entry["shape"], dtype=int),
                                   begin + entry["data_offsets"][0]).reshape(entry["shape"])
            for name, entry in header.items()}


def critical_columns(name, tensors):
    """The columns of matrix `name` whose values are apart, none where the checkpoint has no such."""
    if name + ".critical" not in tensors:
        return []
    if not name.startswith("model.layers."):  # the head, or the embedding that is also the head
        return tensors["critical_columns"][-1]
    block, projection = int(name.split(".")[2]), name.split(".")[4]
    site = {"q_proj": 0, "k_proj": 0, "v_proj": 0, "o_proj": 1, "gate_proj": 2, "up_proj": 2}
    return tensors["critical_columns"][4 * block + site.get(projection, 3)]


def weight(name, tensors):
    codes = tensors[name]
    if codes.dtype != "i1":
        return codes.copy()
    steps, grid = codes.astype("i4"), tensors[name + ".grid"]
    if name + ".residual" in tensors:  # four more bits
        pairs = tensors[name + ".residual"].view("u1").reshape(len(codes), -1, 8)
        nibbles = numpy.concatenate([pairs & 15, pairs >> 4], axis=2).reshape(len(codes), -1)
        residual = (nibbles.astype("i4") ^ 8) - 8  # two's complement
        steps, grid = steps * 16 + residual[:, :codes.shape[1]], grid / numpy.float32(16)
    values = grid[:, None] * steps.astype("f4")
    if name + ".critical" in tensors:
        values[:, critical_columns(name, tensors)] = tensors[name + ".critical"]
    return values


def momentum(name, tensors):
    """None where the tensor is frozen."""
    codes = tensors.get(name + ".momentum")
    if codes is None or codes.dtype != "i1":
        return codes
    grid = numpy.repeat(tensors[name + ".momentum_grid"], 128, axis=1)[:, :codes.shape[1]]
    values = grid * codes.astype("f4")
    if name + ".critical_momentum" in tensors:
        values[:, critical_columns(name, tensors)] = tensors[name + ".critical_momentum"]
    return values


def read_checkpoint(folder):
    """The manifest, the caller's bytes and {name: (weight, momentum or None)} in fp32."""
    text = (folder / "manifest.json").read_bytes()
    manifest = json.loads(text)
    assert manifest["format_version"] == 2
    tensors = read_tensors(folder / "states.safetensors")
    if xxhash:
        verify(folder, manifest, text, tensors)
    parts = (".grid", ".residual", ".critical", ".momentum", ".momentum_grid", ".critical_momentum")
    names = [n for n in tensors if n != "critical_columns" and not n.endswith(parts)]
    states = {n: (weight(n, tensors), momentum(n, tensors)) for n in names}
    return manifest, base64.b64decode(manifest["blob_base64"]), states


if __name__ == "__main__":
    for tensor, (values, _) in read_checkpoint(pathlib.Path(sys.argv[1]))[2].items():
        print(tensor, values.shape, float(numpy.abs(values).max()))
