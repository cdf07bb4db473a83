#!/usr/bin/env python3
"""Compares libqft with transformers on a small random model of each family that transformers saves and libqft
opens: logits in floating arithmetic (also at the far end of the context), gradients in float64, and the
weights after 20 steps of Lion in full precision. Needs torch and transformers. Writes
bench/results/families.json and ends with status 1 if something is further off than it may be.

  bench/accuracy/families.py --library build/bin [--engine cuda] [--families llama-3 ...]
"""

import argparse
import json
import pathlib
import sys
import tempfile

import numpy
import torch
import transformers

from compare_transformers import Table, relative_error
from qft_ctypes import Library, Model, Session

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
VOCABULARY = 320
COMMON = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96,
          "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
          "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.15}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64, "rope_theta": 500000.0}
FAMILIES = {
    "llama-1": ("llama", {"num_key_value_heads": 4, "rms_norm_eps": 1e-6}, 256),
    "llama-2": ("llama", {"rms_norm_eps": 1e-5}, 512),
    "llama-3": ("llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}, 512),
    "llama, head_dim 48": ("llama", {"head_dim": 48, "hidden_size": 96,
                                     "num_attention_heads": 3, "num_key_value_heads": 1}, 256),
    "llama, linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0,
                                                    "rope_theta": 1e4}}, 512),
    "llama, dynamic": ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0,
                                                     "rope_theta": 1e4}}, 256),
    "llama, yarn": ("llama", {"rope_parameters": {
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64,
        "rope_theta": 1e4}}, 512),
    "mistral": ("mistral", {"sliding_window": 24, "rms_norm_eps": 1e-5}, 512),
    "mistral, no window": ("mistral", {"sliding_window": None, "head_dim": 32}, 512),
    "llama, 32k positions": ("llama", {"rope_parameters": {"rope_type": "default",
                                                           "rope_theta": 1e6},
                                       "num_hidden_layers": 1, "hidden_size": 32}, 32768),
}
LION_STEPS, RATE, BETA1, BETA2 = 20, 1e-4, 0.9, 0.99


def make_model(kind, settings, positions, folder):
    config = transformers.AutoConfig.for_model(
        kind, **{**COMMON, "max_position_embeddings": positions, **settings})
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:  # norms and biases are not left at 1 and 0
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model.eval()


def reference_logits(model, row):
    with torch.no_grad():
        return model(torch.tensor([row])).logits[0].float().numpy()


def reference_loss(model, rows):
    total = sum(torch.nn.functional.cross_entropy(
        model(torch.tensor([row])).logits[0][:-1], torch.tensor(row[1:]), reduction="sum")
        for row in rows)
    return total / sum(len(row) - 1 for row in rows)


def lion_in_torch(model, batches):
    momenta = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for rows in batches:
        model.zero_grad()
        reference_loss(model, rows).backward()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                gradient, momentum = parameter.grad, momenta[name]
                parameter -= RATE * torch.sign(BETA1 * momentum + (1 - BETA1) * gradient)
                momentum.mul_(BETA2).add_(gradient, alpha=1 - BETA2)


def documents_of(rows):
    ids = numpy.concatenate([numpy.array(row) for row in rows])
    targets = numpy.concatenate([numpy.array(row[1:] + [-1]) for row in rows])
    return ids, targets, numpy.repeat(numpy.arange(len(rows)), [len(row) for row in rows])


def compare(library, name, arguments, table):
    kind, settings, positions = FAMILIES[name]
    random = numpy.random.default_rng(1)
    rows = [random.integers(3, VOCABULARY, length).tolist() for length in (37, 90, 61)]
    common = {"states": "fp32", "arithmetic": "float", "engine": arguments.engine,
              "threads": arguments.threads}
    with tempfile.TemporaryDirectory() as folder:
        reference = make_model(kind, settings, positions, folder)
        model = Model(library, pathlib.Path(folder))
        far = random.integers(3, VOCABULARY, min(positions, 2048)).tolist()
        session = Session(model, mode="infer", micro_batch_tokens=len(far), **common)
        table.add(f"{name}: logits of {len(far)} tokens",
                  relative_error(session.forward(far, VOCABULARY), reference_logits(reference, far)),
                  1e-3)
        session.close()

        session = Session(model, micro_batch_tokens=128, micro_batches=3, clip_norm=0, **common)
        double = type(reference)(reference.config).double()
        double.load_state_dict(reference.state_dict())
        (reference_loss(double, rows) * sum(len(row) - 1 for row in rows)).backward()
        worst = max(relative_error(gradient, dict(double.named_parameters())[tensor].grad)
                    for tensor, gradient in session.gradients(rows).items())
        table.add(f"{name}: gradients, the worst tensor", worst, 1e-2)
        session.close()

        session = Session(model, micro_batch_tokens=256, clip_norm=0, beta1=BETA1, beta2=BETA2,
                          **common)
        batches = [[random.integers(3, VOCABULARY, 40).tolist() for _ in range(4)]
                   for _ in range(LION_STEPS)]
        for batch in batches:
            session.step(RATE, *documents_of(batch))
        double.zero_grad()
        lion_in_torch(double, batches)
        worst = max(relative_error(session.read(tensor), parameter.detach().numpy())
                    for tensor, parameter in double.named_parameters())
        table.add(f"{name}: weights after {LION_STEPS} Lion steps, the worst tensor", worst, 1e-3)
        session.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=pathlib.Path, default=ROOT / "build/bin")
    parser.add_argument("--engine", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "bench/results/families.json")
    arguments = parser.parse_args()
    library = Library(arguments.library / "libqft.so")
    table = Table()
    for name in arguments.families:
        compare(library, name, arguments, table)
    arguments.output.write_text(json.dumps({
        "engine": arguments.engine, "comparisons": table.rows, "torch": torch.__version__,
        "transformers": transformers.__version__}, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row["ok"] for row in table.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
