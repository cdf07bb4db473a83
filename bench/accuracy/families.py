#!/usr/bin/env python3
"""Compares libqft with transformers on a small random model of each family that transformers saves and
libqft opens: logits in floating arithmetic over the whole context, gradients in float64, the weights after
20 steps of Lion in full precision, the logits from a GGUF file of the same model, and what transformers
reads of the export. Then GGUF files of each quantised type: the weights and logits that both read of them.
Needs torch and transformers, and gguf for GGUF files, which are left out without it.
Writes bench/results/families.json and ends with status 1 if something is further off than it may be.

  bench/accuracy/families.py [--library build/bin, or an unpacked release] [--engine cuda]
                             [--families llama-3 ...] [--output FILE]
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
import transformers

from compare_transformers import Table, relative_error
from qft_ctypes import Library, Model, Session, find_built

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "tests/data/formats"))
try:
    import gguf_model
except ImportError:
    gguf_model = None

VOCABULARY = 320
COMMON = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96,
          "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
          "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.15}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64, "rope_theta": 500000.0}
THETA_1M = {"rope_type": "default", "rope_theta": 1e6}
LONG = {"rope_parameters": THETA_1M, "num_hidden_layers": 1, "hidden_size": 16,
        "num_attention_heads": 2, "num_key_value_heads": 1}
# name: model_type, settings, context length
FAMILIES = {
    "llama-1": ("llama", {"num_key_value_heads": 4, "rms_norm_eps": 1e-6}, 256),
    "llama-2": ("llama", {"rms_norm_eps": 1e-5}, 512),
    "llama-3": ("llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}, 512),
    "llama, head_dim 48": ("llama", {"head_dim": 48, "hidden_size": 96,
                                     "num_attention_heads": 3, "num_key_value_heads": 1}, 256),
    "openllama-3b": ("llama", {"hidden_size": 300, "num_attention_heads": 3,
                               "num_key_value_heads": 3, "rms_norm_eps": 1e-6,
                               "initializer_range": 0.07}, 512),
    "llama, linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0,
                                                    "rope_theta": 1e4}}, 512),
    "llama, dynamic": ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0,
                                                     "rope_theta": 1e4}}, 256),
    "llama, yarn": ("llama", {"rope_parameters": {
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64,
        "rope_theta": 1e4}}, 512),
    "mistral": ("mistral", {"sliding_window": 24, "rms_norm_eps": 1e-5}, 512),
    "mistral, no window": ("mistral", {"sliding_window": None, "head_dim": 32}, 512),
    "llama, all biases": ("llama", {"attention_bias": True, "mlp_bias": True}, 256),
    "tinyllama": ("llama", {"num_attention_heads": 8, "num_key_value_heads": 1}, 256),
    "yi": ("llama", {"num_key_value_heads": 1, "rms_norm_eps": 1e-5,
                     "rope_parameters": {"rope_type": "default", "rope_theta": 5e6}}, 512),
    "qwen2": ("qwen2", {"rope_parameters": THETA_1M}, 512),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True, "rope_parameters": THETA_1M}, 256),
    "qwen2, yarn": ("qwen2", {"rope_parameters": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128,
        "rope_theta": 1e6}}, 512),
    "qwen2, window": ("qwen2", {"use_sliding_window": True, "max_window_layers": 0,
                                "sliding_window": 24}, 256),
    "qwen3": ("qwen3", {"head_dim": 32, "rope_parameters": THETA_1M}, 512),
    "qwen3, tied, biases": ("qwen3", {"head_dim": 24, "attention_bias": True,
                                      "tie_word_embeddings": True}, 256),
    "qwen3, head_dim 10": ("qwen3", {"head_dim": 10, "rope_parameters": THETA_1M}, 256),
    "smollm3": ("smollm3", {"no_rope_layer_interval": 2, "pad_token_id": None}, 512),
    "llama, 32k positions": ("llama", LONG, 32768),
    "mistral, 32k positions": ("mistral", {**LONG, "sliding_window": 4096}, 32768),
    "qwen2, 32k positions": ("qwen2", LONG, 32768),
    "qwen3, 32k positions": ("qwen3", {**LONG, "head_dim": 8}, 32768),
}
# name: the type of all matrices in a GGUF file of a llama model
QUANTIZED = {f"llama in {kind}": kind for kind in gguf_model.SCALE_BYTES} if gguf_model else {}
WHOLE_BLOCKS = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1,
                "initializer_range": 0.05}
LION_STEPS, RATE, BETA1, BETA2 = 20, 1e-4, 0.9, 0.99


def make_model(kind, settings, positions, folder):
    config = transformers.AutoConfig.for_model(
        kind, **{**COMMON, "max_position_embeddings": positions, **settings})
    torch.manual_seed(0)
    # The eager form would hold all scores of 32k positions at once.
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager" if positions < 4096 else "sdpa")
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


def has_gguf_form(config):
    """Whether a GGUF file holds all that the function depends on."""
    return (gguf_model is not None and config.model_type in gguf_model.ARCHITECTURES
            and config.rope_parameters["rope_type"] != "dynamic"
            and getattr(config, "sliding_window", None) is None)


def compare_gguf(library, reference, path, tokens, expected, common, what, table):
    if not has_gguf_form(reference.config):
        return
    gguf_model.write_gguf_model(reference, path)
    session = Session(Model(library, path), mode="infer", micro_batch_tokens=len(tokens), **common)
    table.add(what, relative_error(session.forward(tokens, VOCABULARY), expected), 1e-3)
    session.close()


def compare_quantized(library, name, arguments, table):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.gguf"
        model = make_model("llama", WHOLE_BLOCKS, 256, folder)
        gguf_model.write_gguf_model(model, path, QUANTIZED[name])
        reference = transformers.AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=path.name, dtype=torch.float32).eval()
        tokens = numpy.random.default_rng(1).integers(3, VOCABULARY, 256).tolist()
        session = Session(Model(library, path), mode="infer", micro_batch_tokens=len(tokens),
                          states="fp32", arithmetic="float", engine=arguments.engine,
                          threads=arguments.threads)
        table.add(f"{name}: weights, the worst tensor", max(
            relative_error(session.read(tensor), parameter.detach().numpy())
            for tensor, parameter in reference.named_parameters()), 1e-9)
        table.add(f"{name}: logits", relative_error(
            session.forward(tokens, VOCABULARY), reference_logits(reference, tokens)), 1e-3)
        session.close()


def compare_export(program, folder, reference, what, table):
    """transformers opens what qft writes, and each value is the model's, rounded to bf16."""
    output = pathlib.Path(folder) / "export"
    subprocess.run([program, "export", "--model", folder, "--output", output, "--set", "states=fp32",
                    "--set", "arithmetic=float"], check=True, capture_output=True)
    exported = transformers.AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32)
    parameters = dict(reference.named_parameters())
    table.add(what, max(
        relative_error(tensor, parameters[name].detach().to(torch.bfloat16).float())
        for name, tensor in exported.state_dict().items() if name in parameters), 1e-9)


def compare(library, name, arguments, table):
    kind, settings, positions = FAMILIES[name]
    random = numpy.random.default_rng(1)
    rows = [random.integers(3, VOCABULARY, length).tolist() for length in (37, 90, 61)]
    common = {"states": "fp32", "arithmetic": "float", "engine": arguments.engine,
              "threads": arguments.threads}
    with tempfile.TemporaryDirectory() as folder:
        reference = make_model(kind, settings, positions, folder)
        model = Model(library, pathlib.Path(folder))
        far = random.integers(3, VOCABULARY, positions).tolist()
        expected = reference_logits(reference, far)
        session = Session(model, mode="infer", micro_batch_tokens=len(far), **common)
        table.add(f"{name}: logits of {len(far)} tokens",
                  relative_error(session.forward(far, VOCABULARY), expected), 1e-3)
        session.close()
        compare_gguf(library, reference, pathlib.Path(folder) / "model.gguf", far, expected, common,
                     f"{name}: logits from GGUF", table)
        compare_export(find_built(arguments.library, "qft"), folder, reference,
                       f"{name}: export, the worst tensor", table)

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
    parser.add_argument("--families", nargs="+", default=[*FAMILIES, *QUANTIZED])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "bench/results/families.json")
    arguments = parser.parse_args()
    library = Library(find_built(arguments.library, "libqft.so"))
    table = Table()
    for name in arguments.families:
        try:
            (compare_quantized if name in QUANTIZED else compare)(library, name, arguments, table)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            table.fail(name, getattr(error, "stderr", None) or error)
    arguments.output.write_text(json.dumps({
        "engine": arguments.engine, "comparisons": table.rows, "torch": torch.__version__,
        "transformers": transformers.__version__}, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row["ok"] for row in table.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
