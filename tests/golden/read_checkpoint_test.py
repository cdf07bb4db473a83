#!/usr/bin/env python3
"""Compares what read_checkpoint.py makes of the kept checkpoints, and of a new one, with what libqft
reads from them, bit for bit. read_checkpoint_test.py LIBQFT"""

import base64
import ctypes
import json
import pathlib
import sys
import tempfile
import types

try:
    import numpy
except ImportError:
    print("skipped: this Python has no numpy (Debian: python3-numpy)")
    sys.exit(77)
try:
    import xxhash
except ImportError:
    xxhash = None
try:
    import safetensors
except ImportError:
    safetensors = None

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent.parent / "bench/accuracy")]
DTYPES = {"I8": "<i1", "I32": "<i4", "F32": "<f4"}


def load_file(path):
    """As safetensors.numpy.load_file, by docs/checkpoint_format.md."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    assert header.pop("__metadata__") == {"format": "libqft"}
    return {name: numpy.frombuffer(data, DTYPES[entry["dtype"]],
                                   numpy.prod(entry["shape"], dtype=int),
                                   begin + entry["data_offsets"][0]).reshape(entry["shape"])
            for name, entry in header.items()}


if safetensors is None:  # Debian has no package of it
    sys.modules["safetensors"] = types.ModuleType("safetensors")
    sys.modules["safetensors.numpy"] = types.ModuleType("safetensors.numpy")
    sys.modules["safetensors.numpy"].load_file = load_file
import qft_ctypes as qft  # noqa: E402
import read_checkpoint as reader  # noqa: E402

SIZE, DOUBLE, INT = ctypes.c_size_t, ctypes.c_double, ctypes.c_int32


def text(value):
    encoded = str(value).encode()
    return encoded, SIZE(len(encoded))


class Session(qft.Session):
    """A session with the settings and groups that a manifest tells of."""

    def __init__(self, model, settings):
        self.model, self.library = model, model.library
        config, self.handle = ctypes.c_void_p(), ctypes.c_void_p()
        self.library.call("qft_config_create", ctypes.byref(config))
        for key, value in settings.items():
            if key not in ("groups", "preset", "engine"):
                self.library.call("qft_config_set_text", config, *text(key), *text(value))
        for group in settings["groups"]:
            decay = group["weight_decay"]
            self.library.call("qft_config_add_group", config, *text(group["pattern"]),
                              DOUBLE(group["learning_rate_factor"]),
                              DOUBLE(-1 if decay is None else decay), INT(group["frozen"]))
        self.library.call("qft_session_open", model.handle, config, None,
                          ctypes.byref(self.handle))
        self.library.dll.qft_config_destroy(config)

    def restore(self, folder):
        checkpoint = ctypes.c_void_p()
        self.library.call("qft_checkpoint_open", *text(folder), ctypes.byref(checkpoint), None)
        self.library.call("qft_session_restore", self.handle, checkpoint)
        self.library.dll.qft_checkpoint_destroy(checkpoint)

    def save(self, folder):
        self.library.call("qft_session_save", self.handle, *text(folder), b"x", SIZE(1),
                          ctypes.c_int64(0))


def same_bits(a, b):
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def digest(data):
    return xxhash.xxh3_128_hexdigest(data)  # seed 0, high half first


def check_files(folder, manifest):
    """The manifest against the files and tensors, and safetensors against the page."""
    tensors = load_file(folder / "states.safetensors")
    others = reader.load_file(folder / "states.safetensors")
    assert tensors.keys() == others.keys() == manifest["tensors"].keys()
    assert all(same_bits(tensors[name], others[name]) for name in tensors)
    data = {name: (folder / name).read_bytes() for name in manifest["files"]}
    data.update({name: tensor.tobytes() for name, tensor in tensors.items()})
    for name, entry in {**manifest["files"], **manifest["tensors"]}.items():
        assert entry["bytes"] == len(data[name]), name
        assert xxhash is None or entry["xxh3_128"] == digest(data[name]), name
    text = (folder / "manifest.json").read_bytes()
    head, seal, _ = text.rpartition(b',\n "manifest_xxh3_128": "')
    assert not seal or xxhash is None or manifest["manifest_xxh3_128"] == digest(head)


def compare(library, folder):
    """Returns the session that the checkpoint was loaded into and the number of tensors compared."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    check_files(folder, manifest)
    states = reader.read_checkpoint(folder)
    model = qft.Model(library, config=manifest["model_config"], seed=3)
    session = Session(model, manifest["session_config"])
    session.restore(folder)
    assert states.keys() == model.tensors.keys()
    compared = 0
    for name, (weight, momentum) in states.items():
        assert same_bits(weight, session.read(name, qft.WEIGHT)), name
        if momentum is not None:
            assert same_bits(momentum, session.read(name, qft.MOMENTUM)), name + ", momentum"
        compared += 1 + (momentum is not None)
    return session, compared


def check_new(library, session):
    """A checkpoint of one step more, with the hash of its states and the caller's bytes."""
    session.step(2e-3, numpy.arange(40) % 48, numpy.arange(1, 41) % 48, numpy.zeros(40))
    with tempfile.TemporaryDirectory() as parent:
        session.save(parent)
        folder = next(pathlib.Path(parent).glob("step_*"))
        manifest = json.loads((folder / "manifest.json").read_bytes())
        assert base64.b64decode(manifest["blob_base64"]) == b"x"
        return compare(library, folder)[1]


def state_hash(folder):
    """As qft_session_state_hash tells it: over all tensors' data."""
    data = (folder / "states.safetensors").read_bytes()
    return digest(data[8 + int.from_bytes(data[:8], "little"):])


def main():
    library = qft.Library(sys.argv[1])
    kept = HERE / "checkpoint_v2"
    names = json.loads((kept / "hashes.json").read_text())
    for name, expected in names.items():
        saved = kept / name / "step_3"
        assert xxhash is None or state_hash(saved) == expected
        session, compared = compare(library, saved)
        compared += check_new(library, session)
        print(f"{name}: {compared} tensors")
    print("hashes compared" if xxhash else "hashes NOT compared: this Python has no xxhash")
    print("read by safetensors" if safetensors else "read WITHOUT safetensors, which is not here")


if __name__ == "__main__":
    main()
