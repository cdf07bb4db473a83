"""What happened on the way: the long run's gap over time, telemetry, and the emulation beside the runtime.
Needs nothing but Python."""

from gaps import mean_and_bound

TESTS = ("held_out", "unrelated")
# Arm -> part and arm of bench/accuracy/emulation's study.
EMULATED = {"int8-default": ("critical", "recipe"), "fp32-lion": ("walk", "fp32"),
            "int8-default-planted": ("planted", "recipe"), "fp32-lion-planted": ("planted", "fp32"),
            "int8-default-300": ("engine", "recipe"), "qft-fp32-300": ("engine", "fp32")}


def telemetry(run):
    """A row for every fiftieth step, as shares of all codes or rows."""
    rows, before, step = [], 0, 0
    for row in run.get("telemetry", []):
        codes = row["codes_total"]
        if codes == 0:
            return []
        rows.append({
            "step": row["step"],
            "codes_changed": (row["codes_changed"] - before) / codes / (row["step"] - step),
            "codes_saturated": row["codes_saturated"] / codes,
            "growths_per_row": row["rows_grown"] / run["quantised_rows"],
            "rounding_walk": row["rounding_walk"]})
        before, step = row["codes_changed"], row["step"]
    return rows


def gap_over_time(run, base):
    """In per cent, at every step that both were tested at."""
    others = {row["step"]: row for row in base["evaluations"]}
    return [{"step": row["step"], **{test: 100 * (row[test] / others[row["step"]][test] - 1)
                                     for test in TESTS}}
            for row in run["evaluations"] if row["step"] in others]


def long_run(runs):
    """Runs that were tested on the way, beside the partner of the same seed; cut ones too."""
    by_key = {(run["arm"], run["learning_rate"], run["seed"]): run for run in runs}
    result = []
    for run in runs:
        base = by_key.get((run.get("against"), run["learning_rate"], run["seed"]))
        if base is not None and len(run["evaluations"]) > 1 and run["program"] == "qft":
            result.append({"name": run["arm"], "seed": run["seed"], "against": base["arm"],
                           "finished": run["finished"], "steps": len(run["train_loss"]),
                           "gap": gap_over_time(run, base), "telemetry": telemetry(run),
                           "critical_overlap": run["critical_overlap"]})
    return result


def windows(curve, width):
    return [sum(curve[i : i + width]) / width for i in range(0, len(curve) - width + 1, width)]


def against_emulation(arms, study, curves):
    """For each arm that the emulation has too: by how many per cent the runtime's held-out losses are above
    the emulation's, seed by seed; and, where `curves` (name -> [steps, seeds]) has it, the training
    losses of seed 0: their mean, and the largest difference over windows of 50 steps."""
    result = []
    for (name, rate), arm in arms.items():
        if name not in EMULATED:
            continue
        part, emulated = EMULATED[name]
        found = [row for row in study if (row["part"], row.get("arm"), row.get("rate"),
                                          row.get("steps")) == (part, emulated, rate,
                                                                arm.first["steps"])]
        if not found:
            continue
        row = {"name": name, "steps": arm.first["steps"]}
        for test in TESTS:
            differences = [100 * (arm.loss(test, seed) / found[0][test][seed] - 1)
                           for seed in arm.runs if seed < len(found[0][test])]
            row[test] = {"differences": differences, "mean_and_bound": mean_and_bound(differences)}
        curve = curves.get(f"{part}|{emulated}|{rate:g}|curve")
        if curve is not None and 0 in arm.runs:
            ours = arm.runs[0]["train_loss"]
            theirs = [float(values[0]) for values in curve]
            row["train_loss"] = {
                "mean": 100 * (sum(ours) / sum(theirs) - 1),
                "largest_of_windows": 100 * max((a / b - 1 for a, b in zip(
                    windows(ours, 50), windows(theirs, 50))), key=abs)}
        result.append(row)
    return result
