"""A battery that is killed; run in a process of its own."""

import os
import signal
from pathlib import Path
from unittest import mock

from unsay.robustness import prefill, sampling
from unsay.robustness.battery import run_battery
from unsay.run.directory import Adapter, Run
from unsay.scoring import JudgeInfo
from unsay.stages import Silent

CHECKS = {check.name: check for check in (sampling.CHECK, prefill.CHECK)}


class _Dying(Silent):
    """Kills the process, as `kill -9` would, once so many suites have been measured."""

    def __init__(self, left: int) -> None:
        self.left = left

    def update(self, done: int, total: int, note: str = "") -> None:
        """One more is done."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def attack_and_die(run_dir: Path, left: int = -1) -> None:
    """Attack a tiny run by two checks; the process is killed after `left` measurements."""
    with (
        mock.patch("unsay.robustness.battery.REQUESTS", 2),
        mock.patch("unsay.robustness.battery.CHECKS", CHECKS),
        mock.patch("unsay.robustness.battery.judge_info", lambda judge, judged: JudgeInfo(name=judge.name)),
        mock.patch.object(sampling, "QUICK_ANSWERS", 4),
    ):
        run = Run.reopen(run_dir, _Dying(left))
        run_battery(run, Adapter.open(run.adapter_folder), list(CHECKS.values()), quick=True)
