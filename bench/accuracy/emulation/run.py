#!/usr/bin/env python3
"""Runs parts of the study on one GPU and writes JSON: bench/accuracy/emulation/run.py --parts start ...

  start, planted_start   held-out loss of the untuned model by what is quantised
  rates      learning rates, a few hundred steps
  sums       what horizontal and vertical accumulation cost, 1 to 64 micro-batches
  NAME       a list of arms of arms.py (function NAME_arms), trained in full
Every result is written when it is there; --parts are run in order until --seconds are over, and a run with
the same --out goes on with the arms that are missing.
"""

import json
import sys
import time

import numpy
import torch

import arms as studies
import model_files
from experiment import Data, Run, argument_parser, find_columns
from gaps import mean_and_bound
from states import encode_gradient, rows_of


class Study:
    def __init__(self, arguments):
        self.begin = time.time()
        self.device = torch.device(arguments.device)
        if self.device.type == "cpu":
            torch.compiler.set_stance("force_eager")
        torch.backends.cuda.matmul.allow_tf32 = True
        torch._dynamo.config.recompile_limit = 256
        self.seconds, self.out = arguments.seconds, arguments.out
        self.data = Data(arguments.tokens, arguments.seeds, arguments.documents, self.device)
        config, matrices, norms = model_files.load(arguments.model, self.data.length)
        self.config = config
        self.matrices = {kind: values.to(self.device) for kind, values in matrices.items()}
        self.norms = norms.to(self.device)
        self.ranges = {}
        self.results = []
        self.sums = {}
        if (self.out / "results.json").exists():  # of a run that was cut short
            self.results = json.loads((self.out / "results.json").read_text("utf-8"))
            self.sums = dict(numpy.load(self.out / "losses.npz"))

    def left(self):
        return self.seconds - (time.time() - self.begin)

    def say(self, *words):
        print(f"[{time.time() - self.begin:6.1f}]", *words, flush=True)

    def make(self, arm):
        matrices, norms = self.weights(arm)
        return Run(arm, self.config, matrices, norms, self.columns(arm), self.data)

    def weights(self, arm):
        if arm.pretrain:
            return model_files.random_weights(self.matrices, self.norms)
        if arm.planted:
            return model_files.plant_outliers(self.matrices, self.norms)
        return self.matrices, self.norms

    def columns(self, arm):
        """By the ranges over the first training batch, without quantising."""
        if arm.critical == 0:
            return None
        key = (arm.planted, arm.pretrain)
        matrices, norms = self.weights(arm)
        if key not in self.ranges:
            run = Run(studies.with_(arm.yardstick(), hadamard=()), self.config, matrices, norms,
                      None, self.data)
            self.ranges[key] = run.find_ranges()
        return find_columns(self.ranges[key], matrices, arm)

    def overlap(self, run):
        """Share of the critical features, by site, that would be chosen again after training."""
        matrices = {kind: state.initial for kind, state in run.states.items()}
        again = find_columns(run.find_ranges(), matrices, run.arm)
        return {site: float(torch.isin(offset(again[site]), offset(columns)).float().mean())
                for site, columns in run.columns.items()}

    def record(self, part, arm, run, curves=None, extra=None):
        result = {"part": part, "arm": arm.name, "rate": arm.rate, "steps": arm.steps,
                  "planted": arm.planted, "pretrain": arm.pretrain}
        tests = {"held_out": None, "unrelated": None}
        if arm.integer_forward and curves is not None:
            tests["held_out_float"] = studies.with_(arm, integer=False)
        for test, other in tests.items():
            sums, counts = run.evaluate(test.replace("_float", ""), other)
            result[test] = (sums.sum(1) / counts.sum()).tolist()
            self.sums[f"{part}|{arm.name}|{arm.rate:g}|{test}"] = sums
        if curves is not None:
            result["train_loss"] = [round(float(v), 5) for v in
                                    curves["loss"][-100:].mean(0)]
            result["seconds"] = curves["seconds"]
            result["telemetry"] = run.telemetry()
            if run.columns is not None and not arm.hadamard:
                result["critical_overlap"] = self.overlap(run)
            self.sums[f"{part}|{arm.name}|{arm.rate:g}|curve"] = curves["loss"]
        result.update(extra or {})
        self.results.append(result)
        self.save()
        words = [f"{part}: {arm.name:44s} {arm.rate:g}", f"{numpy.mean(result['held_out']):.4f}",
                 self.gap(result, "held_out"), f"unrelated {numpy.mean(result['unrelated']):.4f}",
                 self.gap(result, "unrelated")]
        if curves is not None:
            if "held_out_float" in result:
                words.append("float" + self.gap(result, "held_out_float"))
            words.append(f"{1000 * curves['seconds'] / len(curves['loss']):.1f} ms/step "
                         f"{result['telemetry']}")
        self.say(*words)

    def gap(self, result, test):
        """Relative to fp32 Lion of the same part, rate and data order: mean and 95 % over seeds."""
        for other in self.results:
            if other.get("arm") == "fp32" and all(other[k] == result[k]
                                              for k in ("rate", "steps", "planted", "pretrain")):
                base = other[test.replace("_float", "")]
                mean, bound = mean_and_bound([100 * (a / b - 1)
                                              for a, b in zip(result[test], base)])
                result[f"{test}_gap_percent"] = [mean, bound or 0.0]
                return f"{mean:+.3f}%±{bound or 0.0:.3f}"
        return ""

    def save(self):
        with open(self.out / "results.json", "w", encoding="utf-8") as file:
            json.dump(self.results, file, indent=1)
        numpy.savez_compressed(self.out / "losses.npz", **self.sums)

    def start(self, part, arms):
        for arm in arms:
            if self.left() < 20:
                return
            self.record(part, arm, self.make(arm))

    def train(self, part, arms):
        for arm in arms:
            if self.done(arm):
                continue
            if self.left() < self.estimate(arm):
                self.say(f"{part}: {arm.name} {arm.rate:g} left out, no time")
                continue
            run = self.make(arm)
            self.record(part, arm, run, run.train())
            del run
            torch.cuda.empty_cache() if self.device.type == "cuda" else None

    def done(self, arm):
        return any("seconds" in r and r["arm"] == arm.name and
                   all(r[k] == getattr(arm, k) for k in ("rate", "steps", "planted", "pretrain"))
                   for r in self.results if "arm" in r)

    def estimate(self, arm):
        paces = [r["seconds"] / r["steps"] for r in self.results if "seconds" in r]
        return (max(paces[-3:]) if paces else 0.06) * arm.steps + 12

    def sums_study(self):
        """Error of the summed gradient when INT8 sums are rounded again at each micro-batch."""
        arm = studies.with_(studies.start_arms()[0], name="fp32")
        run = self.make(arm)
        counts = (1, 2, 4, 8, 16, 32, 64)
        tokens, targets = self.data.batches(counts[-1])
        state_names = list(run.states)
        horizontal = {name: torch.zeros_like(run.states[name].gradient) for name in state_names}
        exact = {name: torch.zeros_like(run.states[name].gradient) for name in state_names}
        for index in range(counts[-1]):
            run.tokens.copy_(tokens[index])
            run.targets.copy_(targets[index])
            run._gradients()
            run.step.add_(1)
            for name, state in run.states.items():
                exact[name] += state.gradient
                horizontal[name] += state.gradient
                encode_gradient(rows_of(horizontal[name]), run.step, state.push_salt, False)
            if index + 1 not in counts:
                continue
            row = {"part": "sums", "micro_batches": index + 1}
            for kind in ("vertical", "horizontal"):
                error = total = agree = count = 0.0
                for name, state in run.states.items():
                    value = horizontal[name]
                    if kind == "vertical":
                        value = exact[name].clone()
                        encode_gradient(rows_of(value), run.step, state.push_salt, False)
                    error += float((value - exact[name]).square().sum())
                    total += float(exact[name].square().sum())
                    agree += float((value.sign() == exact[name].sign()).float().sum())
                    count += value.numel()
                row[kind] = {"relative_error": (error / total) ** 0.5, "sign_kept": agree / count}
            self.results.append(row)
            self.say(row)
        self.save()


def offset(columns):
    """[L, C] -> numbers that differ between layers."""
    return columns + (torch.arange(len(columns), device=columns.device) << 32)[:, None]


def main():
    parser = argument_parser(__doc__, device="cuda")
    parser.add_argument("--parts", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=4, help="a step and seed")
    parser.add_argument("--seconds", type=float, default=1e9)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    study = Study(arguments)
    study.say("loaded", torch.__version__, sys.version.split()[0])
    for part in arguments.parts:
        if part.endswith("start"):
            study.start(part, getattr(studies, f"{part}_arms")())
        elif part == "sums":
            study.sums_study()
        else:
            study.train(part, getattr(studies, f"{part}_arms")())
    study.say("done")


if __name__ == "__main__":
    main()
