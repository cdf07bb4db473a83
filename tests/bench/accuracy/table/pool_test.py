#!/usr/bin/env python3
import pathlib
import sys
import tempfile
import time
import unittest

BENCH = pathlib.Path(__file__).resolve().parents[4] / "bench/accuracy"
sys.path.insert(0, str(BENCH / "table"))

from pool import Pool


def job(name, script, slots=1, kind="any"):
    return {"name": name, "script": script, "slots": slots, "kind": kind}


class Pools(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_jobs(self, jobs, devices=2, slots=2, seconds=60, job_seconds=60):
        pool = Pool(devices, slots, seconds, job_seconds, say=lambda *words: None)
        return pool.run(jobs, lambda job, device: (
            ["/bin/sh", "-c", job["script"]], {"DEVICE": str(device)},
            self.folder / f"{job['name']}.txt"))

    def log(self, name):
        return (self.folder / f"{name}.txt").read_text(encoding="utf-8").strip()

    def test_a_failure_stops_no_other(self):
        outcome = self.run_jobs([job("bad", "echo why >&2; exit 3"), job("good", "echo fine")])
        self.assertEqual(outcome, {"bad": "failed", "good": "done"})
        self.assertEqual(self.log("bad"), "why")
        self.assertEqual(self.log("good"), "fine")

    def test_jobs_spread_over_the_devices(self):
        jobs = [job(str(index), "echo $DEVICE; sleep 0.5") for index in range(4)]
        self.run_jobs(jobs)
        self.assertEqual(sorted(self.log(str(index)) for index in range(4)), ["0", "0", "1", "1"])

    def test_a_wide_job_has_a_device_to_itself(self):
        script = f"echo $DEVICE >>{self.folder}/order; sleep 0.4"
        self.run_jobs([job("wide", script, slots=9), job("a", script), job("b", script),
                       job("c", script)])
        order = (self.folder / "order").read_text(encoding="utf-8").split()
        self.assertEqual(self.log("wide"), "")
        self.assertEqual(sorted(order[:3]), ["0", "1", "1"])

    def test_a_job_past_its_share_is_killed_with_its_children(self):
        begin = time.monotonic()
        outcome = self.run_jobs([job("slow", f"(sleep 3; touch {self.folder}/late) & wait"),
                                 job("quick", "true")], job_seconds=0.5)
        self.assertEqual(outcome, {"slow": "killed", "quick": "done"})
        self.assertLess(time.monotonic() - begin, 2.5)
        time.sleep(max(0.0, begin + 3.5 - time.monotonic()))
        self.assertFalse((self.folder / "late").exists())

    def test_nothing_starts_that_would_not_end_in_time(self):
        jobs = [job("first", "sleep 1"), job("second", "sleep 1"), job("other", "true", kind="new")]
        outcome = self.run_jobs(jobs, devices=1, slots=1, seconds=1.8)
        self.assertEqual(outcome, {"first": "done", "second": "not started", "other": "done"})

    def test_when_the_time_is_over_all_is_over(self):
        begin = time.monotonic()
        outcome = self.run_jobs([job("slow", "sleep 20"), job("never", "true")], devices=1, slots=1,
                                seconds=0.6)
        self.assertEqual(outcome, {"slow": "killed", "never": "not started"})
        self.assertLess(time.monotonic() - begin, 10)


unittest.main()
