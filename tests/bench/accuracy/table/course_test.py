#!/usr/bin/env python3
import pathlib
import sys
import unittest

BENCH = pathlib.Path(__file__).resolve().parents[4] / "bench/accuracy"
sys.path[:0] = [str(BENCH), str(BENCH / "table")]

from compare import arms_of
from course import against_emulation, long_run, telemetry
from runs import run


def row(step, changed, grown):
    return {"step": step, "codes_changed": changed, "rows_grown": grown, "updates_lost": 0,
            "codes_saturated": 2, "codes_total": 1000, "rounding_walk": 0.5, "gradient_norm": 1.0}


class Course(unittest.TestCase):
    def test_codes_changed_are_a_share_a_step(self):
        rows = telemetry(run("a", telemetry=[row(50, 5000, 5), row(100, 7500, 10)]))
        self.assertEqual([found["codes_changed"] for found in rows], [0.1, 0.05])
        self.assertEqual([found["growths_per_row"] for found in rows], [0.5, 1.0])
        self.assertEqual(rows[0]["codes_saturated"], 0.002)

    def test_states_without_codes_have_none(self):
        self.assertEqual(telemetry(run("a", telemetry=[dict(row(50, 0, 0), codes_total=0)])), [])

    def test_the_gap_over_time_takes_a_run_that_was_cut(self):
        tests = lambda *losses: [{"step": 500 * index, "held_out": loss, "unrelated": 2 * loss}
                                 for index, loss in enumerate(losses)]
        runs = [run("int8", against="fp32", evaluations=tests(2.0, 1.01), finished=False),
                run("fp32", evaluations=tests(2.0, 1.0, 0.5))]
        found, = long_run(runs)
        self.assertEqual([entry["step"] for entry in found["gap"]], [0, 500])
        self.assertAlmostEqual(found["gap"][1]["held_out"], 1.0)
        self.assertFalse(found["finished"])

    def test_against_the_emulation_of_the_same_rate_and_steps(self):
        study = [{"part": "critical", "arm": "recipe", "rate": 1e-5, "steps": steps,
                  "held_out": [loss] * 5, "unrelated": [loss] * 5}
                 for steps, loss in ((500, 9.0), (1500, 1.0))]
        arms = arms_of([run("int8-default", seed, per_token=1.01) for seed in range(2)])
        curve = {"critical|recipe|1e-05|curve": [[1.0, 7.0]] * 1500}
        found, = against_emulation(arms, study, curve)
        self.assertAlmostEqual(found["held_out"]["mean_and_bound"][0], 1.0)
        self.assertAlmostEqual(found["train_loss"]["mean"], 1.0)
        self.assertAlmostEqual(found["train_loss"]["largest_of_windows"], 1.0)


unittest.main()
