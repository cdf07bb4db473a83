#!/usr/bin/env python3
"""Compares libqft with transformers at the same weights: logits, held-out loss, gradients.

Needs torch and transformers. SmolLM2-135M's GGUF file is read by both. transformers then gets
libqft's decoded weights, so that only the arithmetic differs. The text is Python's language
reference, which every Python brings along. Gradients are compared on a small random model, for
which transformers computes in float64. Writes bench/results/compare_transformers.json and ends with
status 1 if something is further off than it may be.
"""

import argparse
import json
import pathlib
import sys

import numpy
import torch
import transformers

from qft_ctypes import Library, Model, Session, find_built

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

SMALL = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
         "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
         "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}


def relative_error(values, expected):
    values = numpy.asarray(values, dtype=numpy.float64)
    expected = numpy.asarray(expected, dtype=numpy.float64)
    return float(numpy.linalg.norm(values - expected) / numpy.linalg.norm(expected))


def text_tokens(tokenizer, sequences, length):
    import pydoc_data.topics
    text = "\n\n".join(body for _, body in sorted(pydoc_data.topics.topics.items()))
    tokens = tokenizer(text[:400000]).input_ids
    # From all over the text.
    stride = (len(tokens) - length) // max(sequences - 1, 1)
    return [tokens[i * stride:i * stride + length] for i in range(sequences)]


@torch.no_grad()
def torch_forward(model, rows):
    """Logits of the first row and the mean loss over all."""
    logits = [model(torch.tensor([row])).logits[0] for row in rows]
    losses = [torch.nn.functional.cross_entropy(row_logits[:-1].double(), torch.tensor(row[1:]))
              for row_logits, row in zip(logits, rows)]
    return logits[0].numpy(), float(torch.stack(losses).mean())


def set_weights(model, session):
    parameters = dict(model.named_parameters())
    assert set(parameters) == set(session.model.tensors), "the models differ in their tensors"
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(session.read(name)))


class Table:
    def __init__(self):
        self.rows = []

    def add(self, what, value, limit):
        self.rows.append({"what": what, "value": value, "limit": limit, "ok": value < limit})
        print(f"{what:66} {value:10.2e} {'< ' + format(limit, '.0e'):>9}  "
              f"{'ok' if value < limit else 'TOO FAR'}", flush=True)

    def fail(self, what, error):
        """What could not be compared; the other comparisons go on."""
        self.rows.append({"what": what, "error": str(error), "ok": False})
        print(f"{what:66} FAILED: {error}", flush=True)


def compare_model(library, arguments, table):
    folder, name = arguments.model.parent, arguments.model.name
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32).eval()
    rows = text_tokens(tokenizer, arguments.sequences, arguments.tokens)
    vocabulary = reference.config.vocab_size
    model = Model(library, arguments.model)
    kinds = {"fp32": {"states": "fp32", "arithmetic": "float"},
             "float": {"states": "int8", "arithmetic": "float"},
             "integer": {"states": "int8", "arithmetic": "integer"}}
    logits, losses = {}, {}
    expected, losses["transformers"] = torch_forward(reference, rows)
    for kind, settings in kinds.items():
        session = Session(model, mode="infer", micro_batch_tokens=arguments.tokens,
                          threads=arguments.threads, **settings)
        logits[kind] = session.forward(rows[0], vocabulary)
        losses[kind] = session.loss(rows)
        if kind == "fp32":
            table.add("logits, fp32 states, against the GGUF file read by transformers",
                      relative_error(logits[kind], expected), 1e-3)
        if kind == "float":
            set_weights(reference, session)
            expected, losses["transformers, INT8 weights"] = torch_forward(reference, rows)
        session.close()
    table.add("logits, INT8 weights, float arithmetic",
              relative_error(logits["float"], expected), 1e-3)
    table.add("logits, INT8 weights, integer arithmetic",
              relative_error(logits["integer"], expected), 5e-2)
    table.add("loss, fp32 states against transformers",
              abs(losses["fp32"] / losses["transformers"] - 1), 1e-4)
    table.add("loss, float arithmetic against transformers with INT8 weights",
              abs(losses["float"] / losses["transformers, INT8 weights"] - 1), 1e-4)
    table.add("loss, integer against float arithmetic",
              abs(losses["integer"] / losses["float"] - 1), 1e-2)
    table.add("loss, INT8 states and integer arithmetic against fp32",
              abs(losses["integer"] / losses["fp32"] - 1), 2e-2)
    return losses


def compare_gradients(library, arguments, table):
    worst = {}
    for tied in (False, True):
        config = dict(SMALL, tie_word_embeddings=tied)
        model = Model(library, config=config, seed=1)
        session = Session(model, states="fp32", arithmetic="float", micro_batch_tokens=128,
                          micro_batches=2, threads=arguments.threads)
        random = numpy.random.default_rng(0)
        for name, (_, shape) in model.tensors.items():
            spread = 0.2 if len(shape) == 2 else 0.3
            session.write(name, random.standard_normal(shape) * spread + (len(shape) == 1))
        rows = [random.integers(0, 300, 128).tolist() for _ in range(2)]
        torch_config = transformers.LlamaConfig(
            **{key: value for key, value in config.items() if key != "architectures"},
            attn_implementation="eager")
        reference = transformers.LlamaForCausalLM(torch_config).double().eval()
        set_weights(reference, session)
        for row in rows:
            logits = reference(torch.tensor([row])).logits[0]
            torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(row[1:]),
                                              reduction="sum").backward()
        expected = {name: parameter.grad for name, parameter in reference.named_parameters()}
        for name, gradient in session.gradients(rows).items():
            kind = name.split(".")[-2] + (", tied" if tied else "")
            worst[kind] = max(worst.get(kind, 0.0), relative_error(gradient, expected[name]))
        session.close()
    for kind, error in worst.items():
        table.add(f"gradient of {kind} against float64", error, 1e-4)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=pathlib.Path, default=ROOT / "build/bin",
                        help="folder of libqft.so")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="SmolLM2-135M, GGUF")
    parser.add_argument("--tokens", type=int, default=512, help="of a sequence (default 512)")
    parser.add_argument("--sequences", type=int, default=8, help="for the loss (default 8)")
    parser.add_argument("--threads", type=int, default=0, help="0: one a processor")
    parser.add_argument("--output", type=pathlib.Path,
                        default=ROOT / "bench/results/compare_transformers.json")
    arguments = parser.parse_args()
    if arguments.threads > 0:
        torch.set_num_threads(arguments.threads)

    library = Library(find_built(arguments.library, "libqft.so"))
    table = Table()
    compare_gradients(library, arguments, table)
    losses = compare_model(library, arguments, table)
    for kind, loss in losses.items():
        print(f"held-out loss, {kind:30} {loss:.6f}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({
        "model": arguments.model.name, "tokens": arguments.tokens,
        "sequences": arguments.sequences, "comparisons": table.rows, "held_out_loss": losses,
        "torch": torch.__version__, "transformers": transformers.__version__,
        "libqft": library.dll.qft_version_string().decode(),
    }, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.output}")
    return 0 if all(row["ok"] for row in table.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
