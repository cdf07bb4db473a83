#!/usr/bin/env python3
import pathlib
import sys
import unittest

BENCH = pathlib.Path(__file__).resolve().parents[4] / "bench/accuracy"
sys.path[:0] = [str(BENCH), str(BENCH / "table")]

from jobs import GROUPS, read_jobs

ARMS = BENCH / "table/arms.json"


class Jobs(unittest.TestCase):
    def setUp(self):
        self.jobs = read_jobs(ARMS)

    def test_every_run_has_a_name_of_its_own(self):
        names = [job["name"] for job in self.jobs]
        self.assertEqual(len(names), len(set(names)))

    def test_the_main_arms_have_five_seeds_and_1500_steps(self):
        for arm in ("fp32-lion", "int8-default", "fp32-lion-planted", "int8-default-planted"):
            runs = [job for job in self.jobs if job["arm"] == arm and job["learning_rate"] == 1e-5]
            self.assertEqual([job["seed"] for job in runs], [0, 1, 2, 3, 4])
            self.assertEqual({job["steps"] for job in runs}, {1500})

    def test_every_partner_is_an_arm_that_runs(self):
        arms = {job["arm"] for job in self.jobs}
        self.assertLessEqual({job["against"] for job in self.jobs if "against" in job}, arms)

    def test_a_group_goes_on_seed_by_seed(self):
        seeds = [job["seed"] for job in read_jobs(ARMS, ["main"])]
        self.assertEqual(seeds, sorted(seeds))

    def test_the_order_of_groups_is_the_callers(self):
        groups = [job["group"] for job in read_jobs(ARMS, ["rates", "long"])]
        self.assertEqual(list(dict.fromkeys(groups)), ["rates", "long"])

    def test_names_choose_arms(self):
        chosen = read_jobs(ARMS, names=["fp32-lion"])
        self.assertEqual({job["arm"] for job in chosen}, {"fp32-lion"})
        self.assertEqual({job["group"] for job in chosen}, {"main", "rates"})

    def test_every_group_runs(self):
        self.assertEqual({job["group"] for job in self.jobs}, set(GROUPS))

    def test_a_trial_is_cut_down(self):
        trial = read_jobs(ARMS, steps=3, seeds=1)
        self.assertEqual({job["steps"] for job in trial}, {3})
        self.assertEqual({job["seed"] for job in trial}, {0})
        self.assertEqual({job["arm"] for job in trial}, {job["arm"] for job in self.jobs})


unittest.main()
