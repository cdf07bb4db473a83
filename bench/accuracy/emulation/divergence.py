#!/usr/bin/env python3
"""What quantising the input of each matmul costs, apart from everything else: the mean divergence
KL(exact || quantised) in nats of the next token's distribution, untuned model, one site at a time.
Unlike a difference of losses it has no part of first order, whose sign is chance.

  columns  features of largest range kept apart, 0 to 128, at every site
  down     other forms of the down projection's input
  swiglu   gate and up themselves, which the engine quantises for backward alone

Prints lines and writes OUT/divergence.json. Runs on a CPU in a few minutes.
"""

import dataclasses
import json

import torch

import llama
import model_files
from arms import ALL_SITES, FP32
from experiment import Data, Run, argument_parser, find_columns


def to_nearest(x):
    scale = x.abs().amax(-1, keepdim=True) / 127
    return (x / scale.clamp(min=1e-30)).round() * scale


def blocks(size):
    return lambda x: to_nearest(x.unflatten(-1, (-1, size))).flatten(-2)


def largest_apart(count):
    def quantise(x):
        index = x.abs().topk(count, -1).indices
        apart = torch.zeros_like(x).scatter(-1, index, x.gather(-1, index))
        return to_nearest(x - apart) + apart
    return quantise


def two_terms(x):
    first = to_nearest(x)
    scale = x.abs().amax(-1, keepdim=True) / 127
    second = ((x - first) / scale.clamp(min=1e-30) * 256).round().clamp(-127, 127)
    return first + second * scale / 256


def rotated(size):
    def quantise(x):
        rotation = llama.hadamard_blocks(x.shape[-1], x.device, size)
        return to_nearest(x @ rotation) @ rotation.T
    return quantise


FORMS = {"a scale a token": to_nearest, "a scale a token and 512 features": blocks(512),
         "a scale a token and 128 features": blocks(128),
         "4 largest of each token apart": largest_apart(4),
         "16 largest of each token apart": largest_apart(16), "two terms": two_terms,
         "hadamard, blocks of 64": rotated(64), "hadamard, blocks of 512": rotated(512)}


GATES = {"bf16": lambda x: x.bfloat16().float(),
         **{f"a scale a token and {size} features": blocks(size) for size in (512, 256, 128, 64, 32)}}


class Measure:
    def __init__(self, arguments):
        device = torch.device(arguments.device)
        if device.type == "cpu":
            torch.compiler.set_stance("force_eager")
        data = Data(arguments.tokens, 1, 4, device)
        config, matrices, norms = model_files.load(arguments.model, data.length)
        self.config = config
        matrices = {kind: values.to(device) for kind, values in matrices.items()}
        self.run = Run(FP32, config, matrices, norms.to(device), None, data)
        self.ranges = self.run.find_ranges()
        self.batches = {name: data.test_batches(name)[0][0] for name in ("held_out", "unrelated")}
        self.exact = self.log_probabilities(FP32, None)
        self.results = []

    @torch.no_grad()
    def log_probabilities(self, arm, columns):
        model = llama.Llama(self.config, self.run.states, self.run.norms, columns, arm,
                            self.run.step)
        return {name: torch.log_softmax(model.logits(model.hidden(model.embed(tokens)))[0], -1)
                for name, tokens in self.batches.items()}

    def record(self, site, count, form="a scale a token"):
        arm = dataclasses.replace(FP32, quantised_sites=(site,), critical=count)
        columns = find_columns(self.ranges, None, arm)
        self.record_arm({"site": site, "critical": count, "form": form}, arm, columns)

    def record_arm(self, result, arm, columns):
        quantised = self.log_probabilities(arm, columns)
        for name, exact in self.exact.items():
            divergence = (exact.exp() * (exact - quantised[name])).sum(-1)
            result[name] = float(divergence[self.batches[name] != 0].mean())
        self.results.append(result)
        print(f"{result['site']:8} {result['critical']:4} {result['form']:34} "
              + "  ".join(f"{name} {result[name]:.2e}" for name in self.exact), flush=True)


def columns(measure):
    for site in ALL_SITES:
        for count in (0, 4, 8, 16, 32, 64, 128):
            measure.record(site, count)


def down(measure):
    exact = llama.quantize_rows
    for form, quantise in FORMS.items():
        llama.quantize_rows = lambda x, keep, f=quantise: (f(x * keep),
                                                           torch.ones_like(x[..., :1]))
        for count in (0, 16):
            measure.record("down", count, form)
    llama.quantize_rows = exact


def swiglu(measure):
    exact = llama.swiglu
    for form, quantise in GATES.items():
        llama.swiglu = lambda gate_up, q=quantise: exact(
            torch.cat([q(x) for x in gate_up.chunk(2, -1)], -1))
        measure.record_arm({"site": "swiglu", "critical": 0, "form": form}, FP32, None)
    llama.swiglu = exact


PARTS = {"columns": columns, "down": down, "swiglu": swiglu}


def main():
    parser = argument_parser(__doc__, device="cpu")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    measure = Measure(arguments)
    for part in arguments.parts:
        PARTS[part](measure)
    with open(arguments.out / "divergence.json", "w", encoding="utf-8") as file:
        json.dump(measure.results, file, indent=1)


if __name__ == "__main__":
    main()
