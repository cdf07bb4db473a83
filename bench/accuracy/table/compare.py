"""The runs of the table as arms, each against its partner: what summary.json holds. Needs nothing but
Python."""

import json

from gaps import gap_over_documents, mean_and_bound

TESTS = ("held_out", "unrelated")
# What is claimed of INT8 against fp32 Lion, in per cent of the loss, bound included.
MOST = {"held_out": 0.3, "unrelated": 0.5}
CLAIMS = (("int8-default", "fp32-lion"), ("int8-default-planted", "fp32-lion-planted"))
BF16, RIVALS = "bf16-lion8bit", ("int8-default", "int8-fused", "int8-least-memory",
                                 "int8-fused-least-memory")


def read_runs(folders):
    """Dicts in the order of arms.json; of a run that is in several folders the last whole one."""
    runs = {}
    for folder in folders:
        for path in sorted((folder / "runs").glob("*.json")):
            run = json.loads(path.read_text(encoding="utf-8"))
            if run["finished"] or path.name not in runs:
                runs[path.name] = run
    return sorted(runs.values(), key=lambda run: (run["place"], run["learning_rate"]))


class Arm:
    """The finished runs of one name and learning rate, by seed."""

    def __init__(self, runs):
        self.runs = {run["seed"]: run for run in sorted(runs, key=lambda run: run["seed"])}
        first = next(iter(self.runs.values()))
        self.name, self.rate, self.against = (first["arm"], first["learning_rate"],
                                              first.get("against"))
        self.first = first

    def loss(self, test, seed):
        run = self.runs[seed]
        return sum(run["document_losses"][test]) / sum(run["counts"][test])

    def losses(self, test):
        return [self.loss(test, seed) for seed in self.runs]

    def state_bytes(self):
        return sum(self.first["state_bytes"].values())

    def mean_documents(self, test, seeds):
        lists = [self.runs[seed]["document_losses"][test] for seed in seeds]
        return [sum(values) / len(values) for values in zip(*lists)]


def arms_of(runs):
    """(name, rate) -> Arm."""
    groups = {}
    for run in runs:
        if run["finished"]:
            groups.setdefault((run["arm"], run["learning_rate"]), []).append(run)
    return {key: Arm(group) for key, group in groups.items()}


def gap(arm, base, test):
    """In per cent of the base's mean loss, over the seeds that both have; None without any."""
    seeds = [seed for seed in arm.runs if seed in base.runs]
    if not seeds:
        return None
    mean, bound = mean_and_bound([100 * (arm.loss(test, seed) / base.loss(test, seed) - 1)
                                  for seed in seeds])
    _, documents = gap_over_documents(arm.mean_documents(test, seeds),
                                      base.mean_documents(test, seeds))
    return {"mean": mean, "bound_over_seeds": bound, "bound_over_documents": documents,
            "seeds": len(seeds)}


def rates_of(arms, name):
    return [arm for arm in arms.values() if arm.name == name]


def main_rate(arms, name):
    """The arm at the rate that is not of the sweep; None if no run has finished."""
    return max(rates_of(arms, name), default=None,
               key=lambda arm: (arm.first["group"] != "rates", len(arm.runs)))


def best_rate(arms, name):
    """That of the lowest loss on the task, over the seeds that all rates have."""
    rates = rates_of(arms, name)
    if not rates:
        return None
    seeds = set.intersection(*(set(arm.runs) for arm in rates))
    if not seeds:
        return main_rate(arms, name)
    return min(rates, key=lambda arm: sum(arm.loss("held_out", seed) for seed in seeds))


def base_of(arm, arms):
    """Its partner at the rate that arms.json names or the same rate, or else at the partner's own."""
    rate = arm.first.get("against_rate", arm.rate)
    return arms.get((arm.against, rate)) or main_rate(arms, arm.against)


def entry(arm, arms):
    run = arm.first
    result = {"name": arm.name, "learning_rate": arm.rate, "steps": run["steps"],
              "model": run["model"], "program": run["program"], "settings": run["settings"],
              "seeds": list(arm.runs), "held_out_loss": arm.losses("held_out"),
              "unrelated_loss": arm.losses("unrelated"), "state_bytes": run["state_bytes"],
              "bytes_per_parameter": arm.state_bytes() / run["parameters"],
              "seconds": [run["seconds"]["train"] for run in arm.runs.values()]}
    base = base_of(arm, arms)
    if base is not None:
        result["against"] = {"name": base.name, "learning_rate": base.rate,
                             **{test: gap(arm, base, test) for test in TESTS}}
    return result


def verdict(what, value, most):
    return {"what": what, "value": value, "most": most, "ok": value is not None and value <= most}


def upper(arm, base, test):
    """The upper end of the gap's interval over seeds."""
    found = gap(arm, base, test) if arm and base else None
    if found is None or found["bound_over_seeds"] is None:
        return None
    return found["mean"] + found["bound_over_seeds"]


def verdicts(arms):
    rows = []
    for name, base in CLAIMS:
        for test, most in MOST.items():
            rows.append(verdict(f"{name} against {base}, {test}, per cent, upper bound",
                                upper(main_rate(arms, name), main_rate(arms, base), test), most))
    bf16 = best_rate(arms, BF16)
    for name in RIVALS:
        arm = best_rate(arms, name)
        rows.append(verdict(f"{name} against {BF16}, each at its best rate, held_out, per cent, "
                            "upper bound", upper(arm, bf16, "held_out"), 0.0))
        share = arm.state_bytes() / bf16.state_bytes() if arm and bf16 else None
        rows.append(verdict(f"{name}: share of {BF16}'s bytes of states", share, 0.4))
    return rows


def summary(runs):
    arms = arms_of(runs)
    names = list(dict.fromkeys(arm.name for arm in arms.values()))
    return {"arms": [entry(main_rate(arms, name), arms) for name in names],
            "learning_rates": [dict(entry(arm, arms), best=arm is best_rate(arms, name))
                               for name in names if len(rates_of(arms, name)) > 1
                               for arm in sorted(rates_of(arms, name),
                                                 key=lambda arm: arm.rate)],
            "verdicts": verdicts(arms)}
