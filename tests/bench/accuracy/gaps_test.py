#!/usr/bin/env python3
import math
import pathlib
import random
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "bench/accuracy"))

from gaps import gap_over_documents, mean_and_bound, wilson


class Gaps(unittest.TestCase):
    def test_students_bound_of_known_values(self):
        mean, bound = mean_and_bound([1.0, 2.0, 3.0, 4.0, 5.0])
        self.assertEqual(mean, 3.0)
        self.assertAlmostEqual(bound, 2.776 * math.sqrt(2.5 / 5), places=12)

    def test_one_seed_has_no_bound(self):
        self.assertEqual(mean_and_bound([0.25]), (0.25, None))

    def test_a_common_factor_is_a_gap_without_error(self):
        base = [1.0, 2.0, 7.0]
        gap, bound = gap_over_documents([1.01 * loss for loss in base], base)
        self.assertAlmostEqual(gap, 1.0)
        self.assertAlmostEqual(bound, 0.0)

    def test_the_bound_over_documents_covers_the_true_gap(self):
        generator = random.Random(0)
        covered = 0
        for _ in range(400):
            base = [generator.uniform(5, 50) for _ in range(100)]
            losses = [loss * 1.02 * generator.gauss(1, 0.05) for loss in base]
            gap, bound = gap_over_documents(losses, base)
            covered += abs(gap - 2.0) <= bound
        self.assertTrue(0.92 <= covered / 400 <= 0.98, covered)

    def test_documents_must_be_the_same(self):
        self.assertRaises(AssertionError, gap_over_documents, [1.0, 2.0], [1.0])

    def test_wilsons_interval(self):
        low, high = wilson(0, 100)
        self.assertEqual(low, 0.0)
        self.assertAlmostEqual(high, 0.036995, places=5)
        low, high = wilson(50, 100)
        self.assertAlmostEqual(low, 1 - high)


unittest.main()
