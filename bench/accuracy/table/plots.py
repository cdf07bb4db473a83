"""The pictures of the table. Needs matplotlib."""

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from course import telemetry

CURVES = ("fp32-lion", "int8-default", "bf16-lion8bit", "fp32-adamw")
SMOOTHED = 50


def finish(axis, **titles):
    axis.set(**titles)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7)


def smooth(curve):
    return [sum(curve[i : i + SMOOTHED]) / SMOOTHED for i in range(len(curve) - SMOOTHED + 1)]


def band(axis, curves, label):
    """Their mean, and from the lowest to the highest."""
    columns = list(zip(*curves))
    steps = range(SMOOTHED, SMOOTHED + len(columns))
    line, = axis.plot(steps, [sum(column) / len(column) for column in columns], label=label, lw=1)
    axis.fill_between(steps, [min(column) for column in columns],
                      [max(column) for column in columns], alpha=0.25, color=line.get_color())


def plot_losses(axis, main):
    for name in CURVES:
        if name in main:
            band(axis, [smooth(run["train_loss"]) for run in main[name].runs.values()], name)
    finish(axis, title=f"training loss, mean of {SMOOTHED} steps, all seeds", xlabel="step")


def plot_differences(axis, main):
    base = main.get("fp32-lion")
    for name in CURVES[1:]:
        if base and name in main:
            pairs = [(run["train_loss"], base.runs[seed]["train_loss"])
                     for seed, run in main[name].runs.items() if seed in base.runs]
            curves = [[100 * (a / b - 1) for a, b in zip(smooth(own), smooth(other))]
                      for own, other in pairs]
            if curves:
                band(axis, curves, name)
    axis.axhline(0, color="grey", lw=0.5)
    finish(axis, title="the same against fp32 Lion, paired by seed, %", xlabel="step")


def plot_codes(axis, main):
    for name in ("int8-default", "int8-least-memory", "paper", "int8-default-long"):
        rows = telemetry(next(iter(main[name].runs.values()))) if name in main else []
        if rows:
            axis.plot([row["step"] for row in rows],
                      [max(row["codes_changed"], 1e-9) for row in rows], label=name, lw=1)
    finish(axis, title="share of codes changed a step", xlabel="step", yscale="log")


def plot_rates(axis, entries):
    names = dict.fromkeys(entry["name"] for entry in entries)
    for name in names:
        points = sorted((entry["learning_rate"], sum(entry["held_out_loss"]) / len(entry["seeds"]))
                        for entry in entries if entry["name"] == name)
        axis.plot(*zip(*points), "o-", label=name, lw=1, markersize=4)
    finish(axis, title="loss on the task by learning rate", xscale="log", xlabel="learning rate")


def plot_rate_gaps(axis, entries):
    for test in ("held_out", "unrelated"):
        points = sorted((entry["learning_rate"], entry["against"][test]) for entry in entries
                        if entry["name"] == "int8-default" and "against" in entry)
        points = [(rate, found["mean"], found["bound_over_seeds"]) for rate, found in points
                  if found and found["bound_over_seeds"] is not None]
        if points:
            rates, means, bounds = zip(*points)
            axis.errorbar(rates, means, yerr=bounds, fmt="o-", capsize=3, lw=1, label=test)
    axis.axhline(0, color="grey", lw=0.5)
    finish(axis, title="int8-default against fp32 Lion at the same rate, %", xscale="log",
             xlabel="learning rate")


def plot_long(axis, long):
    for run in long:
        if run["name"].endswith("-long"):
            for test in ("held_out", "unrelated"):
                axis.plot([row["step"] for row in run["gap"]], [row[test] for row in run["gap"]],
                          "o-", markersize=3, lw=1, label=f"gap, {test}, %")
            rows = run["telemetry"]
            for name, factor in (("growths_per_row", 1), ("codes_saturated", 1e3)):
                axis.plot([row["step"] for row in rows], [factor * row[name] for row in rows],
                          lw=1, label=name + (" x 1000" if factor > 1 else ""))
    axis.axhline(0, color="grey", lw=0.5)
    finish(axis, title="the long run", xlabel="step")


def plot(path, main, summary):
    """`main`: name -> Arm at its main rate."""
    figure, axes = pyplot.subplots(2, 3, figsize=(17, 9))
    plot_losses(axes[0, 0], main)
    plot_differences(axes[0, 1], main)
    plot_codes(axes[0, 2], main)
    plot_rates(axes[1, 0], summary["learning_rates"])
    plot_rate_gaps(axes[1, 1], summary["learning_rates"])
    plot_long(axes[1, 2], summary["over_time"])
    figure.tight_layout()
    figure.savefig(path, dpi=100)
