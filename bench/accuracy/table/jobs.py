"""Which runs the table consists of: one for each arm, learning rate and seed of arms.json."""

import json

# In the order in which they run: the longest first.
GROUPS = ("long", "main", "arms", "short", "rates")


def job_name(arm, rate, seed):
    return f"{arm}_{rate:g}_{seed}"


def read_jobs(path, groups=GROUPS, names=None, steps=None, seeds=None):
    """Dicts, in the order of `groups` and within a group seed by seed, so that what is cut short has few
    seeds of every arm and not some arms alone. `names` (of arms; all otherwise) chooses; `steps` and
    `seeds` cut the arms down, for a trial."""
    table = json.loads(path.read_text(encoding="utf-8"))
    listed = [{**table["defaults"], **arm, "place": place}
              for place, arm in enumerate(table["arms"]) if names is None or arm["name"] in names]
    jobs = []
    for group in groups:
        arms = [arm for arm in listed if arm["group"] == group]
        for seed in range(max((arm["seeds"] for arm in arms), default=0)):
            jobs += [job_of(arm, rate, seed, table["answers"], steps) for arm in arms
                     for rate in arm["learning_rates"] if seed < min(arm["seeds"], seeds or seed + 1)]
    return jobs


def job_of(arm, rate, seed, answers, steps):
    job = {key: value for key, value in arm.items()
           if key not in ("learning_rates", "seeds", "answer_seeds")}
    job.update(name=job_name(arm["name"], rate, seed), arm=arm["name"], learning_rate=rate,
               seed=seed, steps=steps or arm["steps"])
    if seed < arm["answer_seeds"]:
        job["answers"] = answers
    if job["evaluate_every"] and steps:
        job["evaluate_every"] = max(1, steps // 3)
    return job
