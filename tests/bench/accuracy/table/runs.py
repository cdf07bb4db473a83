"""Results as run.py would write them, made up."""


def run(arm, seed=0, rate=1e-5, per_token=1.0, **more):
    """Every one of four documents of 10 tokens has the same loss a token; unrelated text twice that."""
    losses = {"held_out": [10 * per_token] * 4, "unrelated": [20 * per_token] * 4}
    return {"arm": arm, "name": f"{arm}_{rate:g}_{seed}", "group": "main", "place": 0,
            "seed": seed, "learning_rate": rate, "steps": 1500, "model": "plain",
            "program": "qft", "settings": {},
            "finished": True, "counts": {"held_out": [10] * 4, "unrelated": [10] * 4},
            "document_losses": losses, "state_bytes": {"weight": 100, "momentum": 100},
            "parameters": 100, "seconds": {"train": 1.0}, "train_loss": [per_token] * 1500,
            "evaluations": [], "critical_overlap": 1.0, "quantised_rows": 10, **more}
