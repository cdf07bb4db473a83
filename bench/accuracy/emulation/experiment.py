"""One arm: what it stores and how it computes; training all seeds of it, and evaluating them."""

import argparse
import dataclasses
import math
import pathlib
import sys
import time

import numpy
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from batches import Documents, learning_rate, order
from llama import LINEAR, Llama, hadamard_blocks
from states import MatrixState, lion_fp32


@dataclasses.dataclass(frozen=True)
class Arm:
    name: str
    states: str = "int8"             # int8, or fp32: the yardstick (floating arithmetic)
    grid: str = "row"                # of weights: row, block (of 128; floating arithmetic only)
    levels: int = 1                  # 16, 256: a residual plane of 4, 8 bits
    rounding: str = "stochastic"     # of updates: stochastic, nearest, refit (nearest), frozen
    feedback: float = 0.0            # rounding error into momentum
    momentum_by: str = "block"       # momentum's grid: block (of 128), row
    gradient_by: str = "row"         # the stack's grid: row, block, fp32 (no push)
    integer: bool = True             # all three matmuls
    quantised_sites: tuple = ()      # floating arithmetic, but these inputs are quantised first
    stochastic_dy: bool = True
    bf16_head: bool = False
    critical: int = 16               # input features kept apart from the codes of activations,
    critical_states: bool = False    # and from those of weights, gradients and momentum too
    critical_backward: str = "fp32"  # int8: at critical features too, with a scale a feature
    critical_by: str = "range"       # range, or range_weight: range * largest weight of the column
    elements: float = 0.0            # share of elements kept in fp32, by magnitude (the paper)
    hadamard: tuple = ()             # sites whose input is rotated, blocks of 64
    two_terms: tuple = ()            # sites whose input has a second INT8 term in forward
    planted: bool = False
    pretrain: bool = False           # random weights, trained on plain text
    rate: float = 1e-5
    steps: int = 1500

    @property
    def integer_forward(self):
        return self.states == "int8" and self.integer

    def yardstick(self):
        return Arm("fp32", states="fp32", integer=False, critical=0, hadamard=self.hadamard,
                   planted=self.planted, pretrain=self.pretrain, rate=self.rate, steps=self.steps)


def argument_parser(description, device):
    """What every program of the study is told."""
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="GGUF file")
    parser.add_argument("--tokens", type=pathlib.Path, required=True, help="of prepare.py")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--device", default=device)
    return parser


class Data:
    def __init__(self, path, seeds, documents, device):
        self.seeds, self.documents, self.device = seeds, documents, device
        self.parts = Documents(path, ("train", "text", "held_out", "unrelated")).parts
        self.length = self.parts["train"][0].shape[1]

    def batches(self, steps, part="train"):
        """tokens and targets [steps, S, T] on the device."""
        rows = len(self.parts[part][0])
        orders = numpy.stack([order(rows, seed, steps, self.documents)
                              for seed in range(self.seeds)], 1)
        return [torch.from_numpy(rows[orders].reshape(steps, self.seeds, -1)).to(self.device)
                for rows in self.parts[part]]

    def test_batches(self, name, limit=None):
        """tokens and targets [batches, S, T], the same for every seed."""
        result = []
        for part in self.parts[name]:
            part = part[:limit]
            part = part[: len(part) // self.documents * self.documents]
            part = part.reshape(-1, 1, self.documents * self.length)
            result.append(torch.from_numpy(part).to(self.device).expand(-1, self.seeds, -1))
        return result


def find_columns(ranges, matrices, arm):
    """site -> [L, C] columns of largest range."""
    if arm.critical == 0:
        return None
    columns = {}
    for site, extent in ranges.items():
        if arm.critical_by == "range_weight":
            extent = extent * matrices["embedding" if site == "head" else site].abs().amax(1)
        columns[site] = extent.topk(arm.critical, dim=1).indices.sort(1).values
    return columns


class Run:
    def __init__(self, arm, config, matrices, norms, columns, data):
        self.arm, self.config, self.data = arm, config, data
        device, seeds = data.device, data.seeds
        self.step = torch.zeros((), dtype=torch.int32, device=device)
        self.rate = torch.zeros((), device=device)
        matrices = dict(matrices)
        for site in arm.hadamard:
            kind = "embedding" if site == "head" else site
            matrices[kind] = matrices[kind] @ hadamard_blocks(matrices[kind].shape[-1], device)
        self.states = {}
        for number, kind in enumerate(LINEAR + ("embedding",)):
            site = "head" if kind == "embedding" else kind
            self.states[kind] = MatrixState(matrices[kind], seeds, arm,
                                            columns[site] if columns else None,
                                            salt=2000 * (number + 50))
        self.initial_norms = norms[:, None, None, :].expand(-1, seeds, 1, -1)
        self.norms = self.initial_norms.clone().requires_grad_()
        self.norms.grad = torch.zeros_like(self.norms)
        self.norm_momentum = torch.zeros_like(self.norms.grad)
        self.model = Llama(config, self.states, self.norms, columns, arm, self.step)
        shape = (seeds, data.documents * data.length)
        self.tokens = torch.zeros(shape, dtype=torch.int32, device=device)
        self.targets = torch.zeros(shape, dtype=torch.int64, device=device)
        self.columns = columns

    def reset(self):
        with torch.no_grad():
            for state in self.states.values():
                state.reset()
                state.moved_rows.zero_()
            self.norms.copy_(self.initial_norms)
            self.norm_momentum.zero_()
            self.step.zero_()

    def _gradients(self):
        for state in self.states.values():
            if state.columns is not None:
                state.critical_gradient.zero_()
        self.norms.grad.zero_()
        counted = (self.targets >= 0).float()
        weight = counted / counted.sum(1, keepdim=True)
        loss = self.model.loss_and_gradients(self.tokens, self.targets, weight)
        return (loss * weight).sum(1)

    def _train_step(self):
        loss = self._gradients()
        with torch.no_grad():
            squares = self.norms.grad.square().sum((0, 2, 3))
            for state in self.states.values():
                squares = squares + state.push(self.step)
            clip = torch.clamp(1.0 / squares.sqrt(), max=1.0)
            for state in self.states.values():
                state.update(self.rate, clip, self.step)
            lion_fp32(self.norms.detach(), self.norm_momentum, self.norms.grad, self.rate,
                      clip[None, :, None, None])
            self.step.add_(1)
        return loss, squares.sqrt()

    def _captured(self, function):
        """A callable that runs `function` on the buffers: one launch on a GPU."""
        if self.data.device.type != "cuda":
            return function
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = function()

        def replay():
            graph.replay()
            return output
        return replay

    def train(self, steps=None):
        """Returns curves and the time taken. `steps` cuts the schedule short."""
        arm, data = self.arm, self.data
        tokens, targets = data.batches(steps or arm.steps, "text" if arm.pretrain else "train")
        self.tokens.copy_(tokens[0])
        self.targets.copy_(targets[0])
        step = self._captured(self._train_step)
        self.reset()
        losses, norms = [], []
        begin = time.time()
        for index in range(len(tokens)):
            self.rate.fill_(learning_rate(arm.rate, index, arm.steps))
            self.tokens.copy_(tokens[index])
            self.targets.copy_(targets[index])
            loss, norm = step()
            losses.append(loss.detach().clone())
            norms.append(norm.clone())
        curve = torch.stack(losses).cpu().numpy()
        return {"loss": curve, "gradient_norm": torch.stack(norms).cpu().numpy(),
                "seconds": time.time() - begin}

    @torch.no_grad()
    def evaluate(self, name, arm=None, limit=None):
        """Sums of loss by document [S, documents], and counts [documents]."""
        model = self.model
        if arm is not None:
            model = Llama(self.config, self.states, self.norms, self.columns, arm, self.step)
        tokens, targets = self.data.test_batches(name, limit)
        self.tokens.copy_(tokens[0])
        forward = self._captured(lambda: model.loss(self.tokens, self.targets))
        sums = []
        for index in range(len(tokens)):
            self.tokens.copy_(tokens[index])
            self.targets.copy_(targets[index])
            sums.append(forward().view(self.data.seeds, self.data.documents, -1).sum(-1))
        sums = torch.stack(sums, 1).flatten(1).cpu().numpy()
        counts = (targets[:, 0] >= 0).view(-1, self.data.length).sum(-1).cpu().numpy()
        return sums, counts

    @torch.no_grad()
    def find_ranges(self):
        """site -> [L, K]: largest magnitude of each input feature over the first training batch."""
        seen = {}

        def observe(site, layer, x):
            seen.setdefault(site, {})[layer] = x.abs().amax((0, 1))
        self.model.observe = observe
        tokens, _ = self.data.batches(1)
        self.model.logits(self.model.hidden(self.model.embed(tokens[0])))
        self.model.observe = None
        return {site: torch.stack([by_layer[i] for i in sorted(by_layer)])
                for site, by_layer in seen.items()}

    def telemetry(self):
        """Means over all weights: how far the codes moved, in grid steps and against the weights."""
        if self.arm.states != "int8":
            moved = total = 0.0
            for state in self.states.values():
                moved += float((state.weight - state.initial.unsqueeze(1)).square().sum())
                total += float(state.initial.square().sum()) * self.data.seeds
            return {"distance": math.sqrt(moved / total)}
        moved = total = 0.0
        changed, count, grown, rows = 0.0, 0, 0.0, 0
        for state in self.states.values():
            for layer in range(state.initial.shape[0]):
                moved += float((state.values(layer) - state.initial[layer]).square().sum())
            total += float(state.initial.square().sum()) * self.data.seeds
            changed += float(state.moved_rows[:, 0].sum())
            grown += float(state.moved_rows[:, 1].sum())
            count += state.gradient.numel()
            rows += len(state.moved_rows)
        return {"distance": math.sqrt(moved / total),
                "codes_changed_per_step": changed / count / max(1, int(self.step)),
                "rows_grown": grown / rows}
