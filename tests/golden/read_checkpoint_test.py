#!/usr/bin/env python3
"""Compares what read_checkpoint.py makes of the kept checkpoints, and of a new one, with what libqft
reads from them, bit for bit. read_checkpoint_test.py LIBQFT"""

import ctypes
import json
import pathlib
import sys
import tempfile

try:
    import numpy
except ImportError:
    print("skipped: this Python has no numpy (Debian: python3-numpy)")
    sys.exit(77)

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent.parent / "bench/accuracy")]
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


def compare(library, folder):
    """Returns the session that the checkpoint was loaded into and the number of tensors compared."""
    manifest, _, states = reader.read_checkpoint(folder)
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


def state_hash(folder):
    """As qft_session_state_hash tells it: over all tensors' data."""
    data = (folder / "states.safetensors").read_bytes()
    return reader.digest(data[8 + int.from_bytes(data[:8], "little"):])


def main():
    library = qft.Library(sys.argv[1])
    kept = HERE / "checkpoint_v2"
    names = json.loads((kept / "hashes.json").read_text())
    for name, expected in names.items():
        saved = kept / name / "step_3"
        assert not reader.xxhash or state_hash(saved) == expected
        session, compared = compare(library, saved)
        with tempfile.TemporaryDirectory() as folder:
            session.step(2e-3, numpy.arange(40) % 48, numpy.arange(1, 41) % 48, numpy.zeros(40))
            session.save(folder)
            compared += compare(library, next(pathlib.Path(folder).glob("step_*")))[1]
        print(f"{name}: {compared} tensors")
    print("hashes compared" if reader.xxhash else "hashes NOT compared: this Python has no xxhash")


if __name__ == "__main__":
    main()
