"""Runs commands side by side on several devices, each with some slots, until a time is over. A command that
fails is noted and stops no other; one that still runs when the time is over is killed."""

import os
import signal
import subprocess
import time


class Pool:
    def __init__(self, devices, slots, seconds, job_seconds, say=print):
        """`devices` x `slots` at a time; no job longer than `job_seconds`."""
        self.free = dict.fromkeys(range(devices), slots)
        self.slots, self.job_seconds, self.say = slots, job_seconds, say
        self.end = time.monotonic() + seconds
        self.running = []
        self.taken = {}  # kind of job -> seconds of those that ended well

    def run(self, jobs, start):
        """jobs: dicts with `name`, `kind` and `slots`; start(job, device) -> (arguments, environment,
        log file). Jobs are taken in order, a later one where an earlier one doesn't fit. Returns name ->
        "done", "failed", "killed" or "not started"."""
        outcome = {}
        waiting = list(jobs)
        while waiting or self.running:
            for job in list(waiting):
                device = self._device(job)
                if device is not None:
                    waiting.remove(job)
                    self._start(job, device, start)
            if not self.running:
                break  # what waits would not end in time
            time.sleep(0.05)
            self._reap(outcome)
        outcome.update((job["name"], "not started") for job in waiting)
        return outcome

    def _width(self, job):
        return min(job["slots"], self.slots)

    def _device(self, job):
        """The emptiest device, if it has room and the job is likely to end in time."""
        taken = self.taken.get(job["kind"], [])
        expected = sum(taken) / len(taken) if taken else 0
        device = max(self.free, key=self.free.get)
        fits = self.free[device] >= self._width(job)
        return device if fits and time.monotonic() + expected < self.end else None

    def _start(self, job, device, start):
        arguments, environment, log = start(job, device)
        self.free[device] -= self._width(job)
        with open(log, "w", encoding="utf-8") as file:
            process = subprocess.Popen(arguments, env={**os.environ, **environment}, stdout=file,
                                       stderr=subprocess.STDOUT, start_new_session=True)
        self.running.append(Running(job, device, process, self.job_seconds))

    def _reap(self, outcome):
        for run in list(self.running):
            run.kill_after(min(self.end, run.end))
            if run.process.poll() is None:
                continue
            self.running.remove(run)
            self.free[run.device] += self._width(run.job)
            seconds = time.monotonic() - run.begin
            status = "killed" if run.killed else "failed" if run.process.returncode else "done"
            outcome[run.job["name"]] = status
            if status == "done":
                self.taken.setdefault(run.job["kind"], []).append(seconds)
            self.say(f"{status} {run.job['name']} on {run.device}, {seconds:.0f} s")


class Running:
    def __init__(self, job, device, process, seconds):
        self.job, self.device, self.process = job, device, process
        self.begin = time.monotonic()
        self.end = self.begin + seconds
        self.killed = False

    def kill_after(self, end):
        """With all that it started. A result is renamed into place, so there is nothing to clean up."""
        if not self.killed and time.monotonic() > end and self.process.poll() is None:
            self.killed = True
            os.killpg(self.process.pid, signal.SIGKILL)
