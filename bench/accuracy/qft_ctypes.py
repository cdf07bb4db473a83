"""As much of include/qft_c.h as the accuracy comparisons need, through ctypes and numpy."""

import ctypes
import json

import numpy

WEIGHT, GRID, MOMENTUM, GRADIENT = 0, 1, 2, 3
LOGITS, LOG_PROBABILITIES = 0, 1

c_int64, c_int32, c_double, c_void_p = (ctypes.c_int64, ctypes.c_int32, ctypes.c_double,
                                        ctypes.c_void_p)


class Sized(ctypes.Structure):
    """A struct whose first field is its size."""

    def __init__(self, *args, **fields):
        super().__init__(*args, **fields)
        self.struct_size = ctypes.sizeof(self)


class TensorInfo(Sized):
    _fields_ = [("struct_size", ctypes.c_uint64), ("name", ctypes.c_char_p), ("rows", c_int64),
                ("cols", c_int64), ("dimensions", c_int32), ("quantised", c_int32)]


class Batch(Sized):
    _fields_ = [("struct_size", ctypes.c_uint64), ("tokens", c_int64), ("token_ids", c_void_p),
                ("targets", c_void_p), ("loss_weights", c_void_p), ("document_ids", c_void_p)]


class StepOptions(Sized):
    _fields_ = [("struct_size", ctypes.c_uint64), ("learning_rate", c_double),
                ("loss_normalizer", c_double), ("group_factors", c_void_p),
                ("group_count", c_int64)]


class StepResult(Sized):
    _fields_ = [("struct_size", ctypes.c_uint64), ("step", c_int64), ("tokens", c_int64),
                ("loss", c_double), ("loss_weight", c_double), ("gradient_norm", c_double),
                ("clip_factor", c_double), ("learning_rate", c_double), ("codes_changed", c_int64),
                ("codes_total", c_int64), ("codes_saturated", c_int64), ("rows_grown", c_int64),
                ("skipped", c_int32), ("reserved", c_int32), ("seconds", c_double),
                ("updates_lost", c_int64), ("rounding_walk", c_double)]


class EvalResult(Sized):
    _fields_ = [("struct_size", ctypes.c_uint64), ("loss", c_double), ("loss_weight", c_double),
                ("tokens", c_int64)]


class Metrics(Sized):
    _fields_ = [("struct_size", ctypes.c_uint64)] + [(name, c_int64) for name in (
        "step", "parameters", "parameters_trained", "weight_bytes", "critical_bytes",
        "momentum_bytes", "gradient_bytes", "activation_bytes", "workspace_bytes", "total_bytes",
        "residual_bytes")]


class TensorView(Sized):
    _fields_ = [("struct_size", ctypes.c_uint64), ("data", c_void_p), ("device", c_int32),
                ("device_index", c_int32), ("dtype", c_int32), ("dimensions", c_int32),
                ("shape", c_int64 * 4), ("strides", c_int64 * 4)]


def find_built(folder, name):
    """A program or library in a build's bin or in an unpacked release, where they lie apart."""
    for place in (folder / name, folder / "lib" / name, folder / "bin" / name):
        if place.exists():
            return place
    raise SystemExit(f"{folder} holds no {name}")


class Library:
    def __init__(self, path):
        self.dll = ctypes.CDLL(str(path))
        for name in ("qft_error_message", "qft_status_name", "qft_version_string"):
            getattr(self.dll, name).restype = ctypes.c_char_p

    def call(self, name, *args):
        """Calls a fallible function; what it says on failure becomes an exception."""
        error = c_void_p()
        status = getattr(self.dll, name)(*args, ctypes.byref(error))
        if status != 0:
            message = self.dll.qft_error_message(error).decode()
            self.dll.qft_error_destroy(error)
            raise RuntimeError(f"{self.dll.qft_status_name(status).decode()}: {message}")


class Model:
    def __init__(self, library, path=None, config=None, seed=0):
        self.library = library
        self.handle = c_void_p()
        if path is not None:
            text = str(path).encode()
            library.call("qft_model_load", text, ctypes.c_size_t(len(text)),
                         ctypes.byref(self.handle))
        else:
            text = json.dumps(config).encode()
            library.call("qft_model_create_random", text, ctypes.c_size_t(len(text)),
                         ctypes.c_uint64(seed), ctypes.byref(self.handle))
        count = c_int64()
        library.call("qft_model_get_tensor_count", self.handle, ctypes.byref(count))
        self.tensors = {}
        self.quantised_rows = 0
        for index in range(count.value):
            info = TensorInfo()
            library.call("qft_model_get_tensor_info", self.handle, c_int64(index),
                         ctypes.byref(info))
            shape = (info.rows, info.cols) if info.dimensions == 2 else (info.cols,)
            self.tensors[info.name.decode()] = (index, shape)
            self.quantised_rows += info.rows * info.quantised

    def config(self):
        """What its Hugging Face config.json says."""
        text, needed = ctypes.create_string_buffer(1 << 16), ctypes.c_size_t()
        self.library.call("qft_model_config_json", self.handle, text,
                          ctypes.c_size_t(len(text)), ctypes.byref(needed))
        return json.loads(text.value)


class Session:
    def __init__(self, model, **settings):
        self.model = model
        self.library = model.library
        config = c_void_p()
        self.library.call("qft_config_create", ctypes.byref(config))
        for key, value in settings.items():
            key, value = key.encode(), str(value).encode()
            self.library.call("qft_config_set_text", config, key, ctypes.c_size_t(len(key)), value,
                              ctypes.c_size_t(len(value)))
        self.handle = c_void_p()
        self.library.call("qft_session_open", model.handle, config, None,
                          ctypes.byref(self.handle))
        self.library.dll.qft_config_destroy(config)

    def close(self):
        self.library.dll.qft_session_destroy(self.handle)
        self.handle = c_void_p()

    def _batches(self, rows):
        """The structs borrow from `self.kept`."""
        self.kept = [numpy.ascontiguousarray(row, dtype=numpy.int32) for row in rows]
        array = (Batch * len(rows))()
        for struct, tokens in zip(array, self.kept):
            struct.struct_size = ctypes.sizeof(Batch)
            struct.tokens = len(tokens)
            struct.token_ids = tokens.ctypes.data
        return array

    def forward(self, tokens, vocabulary, what=LOGITS):
        output = numpy.empty((len(tokens), vocabulary), dtype=numpy.float32)
        self.library.call("qft_session_forward", self.handle, self._batches([tokens]),
                          c_int32(what), c_void_p(output.ctypes.data),
                          ctypes.c_size_t(output.size))
        return output

    def loss(self, rows):
        result = EvalResult()
        self.library.call("qft_session_evaluate", self.handle, self._batches(rows),
                          c_int64(len(rows)), ctypes.byref(result), None)
        return result.loss

    def _view(self, values):
        view = TensorView(data=values.ctypes.data, dtype=0, dimensions=values.ndim)
        for axis, size in enumerate(values.shape):
            view.shape[axis] = size
        return view

    def read(self, name, what=WEIGHT):
        index, shape = self.model.tensors[name]
        values = numpy.empty(shape, dtype=numpy.float32)
        self.library.call("qft_tensor_read", self.handle, c_int64(index), c_int32(what),
                          ctypes.byref(self._view(values)), None)
        return values

    def write(self, name, values):
        values = numpy.ascontiguousarray(values, dtype=numpy.float32)
        self.library.call("qft_tensor_write", self.handle, c_int64(self.model.tensors[name][0]),
                          c_int32(WEIGHT), ctypes.byref(self._view(values)), None)

    def _batch(self, tokens, targets, documents):
        """One micro-batch; all arrays [tokens]. The struct borrows from `self.kept`."""
        self.kept = [numpy.ascontiguousarray(array, dtype=numpy.int32)
                     for array in (tokens, targets, documents)]
        return Batch(tokens=len(tokens), token_ids=self.kept[0].ctypes.data,
                     targets=self.kept[1].ctypes.data, document_ids=self.kept[2].ctypes.data)

    def step(self, learning_rate, tokens, targets, documents):
        """One update from one micro-batch. Returns the result as a dict."""
        batch = self._batch(tokens, targets, documents)
        options = StepOptions(learning_rate=learning_rate)
        result = StepResult()
        self.library.call("qft_session_step", self.handle, ctypes.byref(options),
                          ctypes.byref(batch), c_int64(1), ctypes.byref(result))
        return {name: getattr(result, name) for name, _ in StepResult._fields_}

    def token_losses(self, tokens, targets, documents):
        """-log p of each target, 0 without one."""
        losses = numpy.empty(len(tokens), dtype=numpy.float32)
        self.library.call("qft_session_evaluate", self.handle,
                          ctypes.byref(self._batch(tokens, targets, documents)), c_int64(1),
                          ctypes.byref(EvalResult()), c_void_p(losses.ctypes.data))
        return losses

    def metrics(self):
        metrics = Metrics()
        self.library.call("qft_session_get_metrics", self.handle, ctypes.byref(metrics))
        return {name: getattr(metrics, name) for name, _ in Metrics._fields_}

    def critical_overlap(self):
        share = c_double()
        self.library.call("qft_session_get_critical_overlap", self.handle, ctypes.byref(share))
        return share.value

    def gradients(self, rows):
        """Sums over all tokens of the gradient of -log p; the step is abandoned."""
        options = StepOptions()
        self.library.call("qft_session_begin_step", self.handle, ctypes.byref(options))
        self.library.call("qft_session_accumulate", self.handle, self._batches(rows),
                          c_int64(len(rows)))
        gradients = {name: self.read(name, GRADIENT) for name in self.model.tensors}
        self.library.call("qft_session_abandon_step", self.handle)
        return gradients


class Decoder:
    """Continues one sequence after another, each time with the likeliest token."""

    def __init__(self, session, capacity, vocabulary):
        self.library = session.library
        self.logits = numpy.empty(vocabulary, dtype=numpy.float32)
        self.handle = c_void_p()
        self.library.call("qft_decoder_open", session.handle, c_int64(capacity),
                          ctypes.byref(self.handle))

    def close(self):
        self.library.dll.qft_decoder_destroy(self.handle)
        self.handle = c_void_p()

    def _feed(self, tokens):
        """The likeliest next token."""
        tokens = numpy.ascontiguousarray(tokens, dtype=numpy.int32)
        self.library.call("qft_decoder_feed", self.handle, c_void_p(tokens.ctypes.data),
                          c_int64(len(tokens)), c_void_p(self.logits.ctypes.data),
                          ctypes.c_size_t(self.logits.size))
        return int(self.logits.argmax())

    def answer(self, prompt, end, most):
        """At most `most` tokens, without `end`."""
        self.library.call("qft_decoder_reset", self.handle)
        answer = []
        token = self._feed(prompt)
        while token != end and len(answer) < most:
            answer.append(token)
            token = self._feed([token])
        return answer
