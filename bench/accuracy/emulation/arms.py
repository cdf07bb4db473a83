"""Which arms each part of the study runs."""

import dataclasses

from experiment import Arm

ALL_SITES = ("qkv", "o", "gate_up", "down", "head")
FP32 = Arm("fp32", states="fp32", integer=False, critical=0)
BASE = Arm("INT8", critical_states=True)


def with_(arm, **changes):
    return dataclasses.replace(arm, **changes)


def start_arms(planted=False):
    """What quantising costs before any training: which operand, which site, how many features."""
    arms = [with_(FP32, planted=planted),
            Arm("INT8 weights, float arithmetic", integer=False, critical=0, planted=planted)]
    if not planted:
        arms += [Arm("blocks of 128, float arithmetic", grid="block", integer=False, critical=0),
                 Arm("hadamard, float arithmetic", integer=False, critical=0, hadamard=ALL_SITES)]
        for sites in [ALL_SITES] + [(site,) for site in ALL_SITES]:
            arms.append(with_(FP32, name="fp32 weights, INT8 inputs of " + " ".join(sites),
                              quantised_sites=sites))
    for count in (0, 4, 8, 16, 32, 64):
        arms.append(Arm(f"integer, {count} inputs", critical=count, planted=planted))
    for count in (4, 8, 16, 32, 64):
        arms.append(Arm(f"integer, {count} in all states", critical=count, critical_states=True,
                        planted=planted))
    arms.append(Arm("integer, 16 in all states by range_weight", critical_states=True,
                    critical_by="range_weight", planted=planted))
    arms.append(Arm("integer, hadamard", critical=0, hadamard=ALL_SITES, planted=planted))
    return arms


def planted_start_arms():
    return start_arms(planted=True)


RESIDUAL_4 = with_(BASE, name="INT8, residual 4", levels=16, rate=1e-5)
# What the engine does: a residual plane, critical features in all states, two terms for down.
RECIPE = with_(RESIDUAL_4, name="recipe", two_terms=("down",))


def walk_arms():
    """Question 1: the random walk of stochastic rounding."""
    arms = [with_(arm, rate=rate) for rate in (1e-5, 3e-5)
            for arm in (FP32, BASE, RESIDUAL_4,
                        with_(BASE, name="INT8, error feedback 0.3", feedback=0.3))]
    return arms + [with_(BASE, name="INT8, residual 8", levels=256, rate=1e-5)]


def walk_grid_arms():
    """In floating arithmetic, since a blocked grid has no integer matmul."""
    row = Arm("INT8, float arithmetic", integer=False, critical=0)
    return [FP32, row, with_(row, name="INT8, blocks of 128, float arithmetic", grid="block")]


def critical_arms():
    """Question 3: how many features, kept apart where; rotations instead."""
    turned = with_(RESIDUAL_4, critical=0, critical_states=False)
    return [with_(FP32, rate=1e-5), RECIPE,
            with_(RECIPE, name="recipe, critical inputs only", critical_states=False),
            with_(RESIDUAL_4, name="INT8, 64 critical, residual 4", critical=64),
            with_(turned, name="INT8, hadamard, residual 4", hadamard=ALL_SITES),
            with_(RESIDUAL_4, name="INT8, hadamard at down, residual 4", hadamard=("down",)),
            with_(FP32, name="fp32, hadamard at down", hadamard=("down",))]


def planted_arms():
    return [with_(arm, planted=True) for arm in
            (FP32, RECIPE, with_(RECIPE, name="recipe, nothing critical", critical=0,
                                 critical_states=False),
             with_(RECIPE, name="recipe, critical in backward INT8", critical_backward="int8"))]


def operand_arms():
    """Question 2, around the recipe."""
    arms = [FP32, RECIPE, with_(RECIPE, name="recipe, dy to nearest", stochastic_dy=False),
            with_(RECIPE, name="recipe, critical in backward INT8", critical_backward="int8"),
            with_(RECIPE, name="recipe, head in bf16", bf16_head=True),
            with_(RECIPE, name="recipe, momentum by row", momentum_by="row"),
            with_(RECIPE, name="recipe, gradients by block", gradient_by="block"),
            with_(RECIPE, name="recipe, gradients in fp32", gradient_by="fp32")]
    return [with_(arm, rate=1e-5, steps=500) for arm in arms]


def paper_arms():
    """Question 4: the paper read literally, 1 % of the elements by magnitude in fp32."""
    paper = Arm("paper", integer=False, critical=0, elements=0.01)
    return [with_(FP32, rate=1e-5),
            with_(paper, name="paper, nearest, grid fitted anew", rounding="refit"),
            with_(paper, name="only critical elements train", rounding="frozen")]


def rates_arms():
    """Question 5."""
    return [with_(arm, rate=rate, steps=500) for rate in (3e-5, 3e-6, 1e-6)
            for arm in (FP32, RECIPE)]


def engine_arms():
    """What engine_curve.py compares the CPU engine with."""
    return [with_(arm, steps=300) for arm in (FP32, RECIPE)]


def pretrain_arms():
    """From random weights: --seeds 3 --documents 8 are 3 million tokens a seed in 1,500 steps."""
    return [with_(arm, pretrain=True, rate=1e-4) for arm in (FP32, RECIPE)]
