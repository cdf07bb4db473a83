#!/usr/bin/env python3
import json
import pathlib
import sys
import tempfile
import unittest

BENCH = pathlib.Path(__file__).resolve().parents[4] / "bench/accuracy"
sys.path[:0] = [str(BENCH), str(BENCH / "table")]

from answers import correct, final_number
from compare import arms_of, best_rate, gap, read_runs, summary
from runs import run


def verdict_of(result, what):
    return next(row for row in result["verdicts"] if row["what"].startswith(what))


class Compare(unittest.TestCase):
    def test_gaps_are_paired_by_seed(self):
        # Seeds differ by a factor, the arm from its base by a tenth of a per cent in each.
        runs = [run("fp32-lion", seed, per_token=1.0 + seed) for seed in range(5)]
        runs += [run("int8-default", seed, per_token=1.001 * (1.0 + seed), against="fp32-lion")
                 for seed in range(5)]
        found = next(entry for entry in summary(runs)["arms"] if entry["name"] == "int8-default")
        self.assertEqual(found["against"]["name"], "fp32-lion")
        self.assertAlmostEqual(found["against"]["held_out"]["mean"], 0.1)
        self.assertAlmostEqual(found["against"]["held_out"]["bound_over_seeds"], 0.0)
        self.assertEqual(found["held_out_loss"][2], 1.001 * 3.0)
        self.assertEqual(found["bytes_per_parameter"], 2.0)

    def test_only_seeds_of_both_count(self):
        arms = arms_of([run("a", 0), run("a", 1, per_token=9.0), run("b", 0)])
        found = gap(arms["a", 1e-5], arms["b", 1e-5], "held_out")
        self.assertEqual((found["mean"], found["seeds"]), (0.0, 1))
        arms = arms_of([run("a", 0), run("b", 1)])
        self.assertIsNone(gap(arms["a", 1e-5], arms["b", 1e-5], "held_out"))

    def test_a_claim_needs_its_upper_bound(self):
        runs = [run("fp32-lion", seed) for seed in range(2)]
        for second, holds in ((1.002, True), (1.003, False)):
            arm = [run("int8-default", 0, per_token=1.0019, against="fp32-lion"),
                   run("int8-default", 1, per_token=second, against="fp32-lion")]
            row = verdict_of(summary(runs + arm), "int8-default against fp32-lion, held_out")
            self.assertEqual(row["ok"], holds, row)

    def test_a_claim_that_was_not_run_does_not_hold(self):
        row = verdict_of(summary([run("fp32-lion")]), "int8-default-planted")
        self.assertEqual((row["value"], row["ok"]), (None, False))

    def test_the_sweeps_rates_stay_apart_and_the_best_is_found(self):
        runs = [run("fp32-lion", 0), run("fp32-lion", 1),
                run("fp32-lion", 0, rate=3e-5, per_token=0.9, group="rates"),
                run("fp32-lion", 1, rate=3e-5, per_token=0.9, group="rates")]
        result = summary(runs)
        self.assertEqual([entry["learning_rate"] for entry in result["arms"]], [1e-5])
        self.assertEqual([(entry["learning_rate"], entry["best"])
                          for entry in result["learning_rates"]], [(1e-5, False), (3e-5, True)])
        self.assertEqual(best_rate(arms_of(runs), "fp32-lion").rate, 3e-5)

    def test_of_two_calls_the_whole_run_counts(self):
        with tempfile.TemporaryDirectory() as folder:
            folders = [pathlib.Path(folder) / name for name in ("first", "second")]
            for path, finished in zip(folders, (True, False)):
                (path / "runs").mkdir(parents=True)
                text = json.dumps(run("a", finished=finished, per_token=2.0 - finished))
                (path / "runs/a_1e-05_0.json").write_text(text, encoding="utf-8")
            found = read_runs(folders)
        self.assertEqual([row["finished"] for row in found], [True])

    def test_exact_answers(self):
        self.assertEqual(final_number("so 3 + 4 = <<3+4=7>>7\n#### 1,234"), 1234.0)
        self.assertEqual(final_number("#### $ 5"), None)
        self.assertEqual(correct(["#### 7", "7", "#### 8.0"], ["#### 7", "#### 7", "x #### 8"]), 2)


unittest.main()
