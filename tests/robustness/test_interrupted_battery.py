"""A battery that is killed again and again gives what an undisturbed one gives, and answers nothing twice."""

import json
import shutil
import signal

from helpers import killable
from helpers.killed_battery import attack_and_die
from unsay.scoring.robustness import read_robustness


def test_kill_minus_nine_in_the_middle_of_every_check_loses_nothing(unlearned, tmp_path, unmeasured_judge, one_thread):
    whole = shutil.copytree(unlearned, tmp_path / "whole")
    attack_and_die(whole)
    for left in (3, 14, 16, 17):  # among the models without an attack, in `samples`, and twice in `prefill`
        errors = tmp_path / f"errors-{left}"
        assert killable.run(errors, attack_and_die, unlearned, left) == -signal.SIGKILL, errors.read_text()
        assert read_robustness(unlearned) is None
        assert (unlearned / "scores.json").exists()
    attack_and_die(unlearned)
    expected, found = read_robustness(whole), read_robustness(unlearned)
    assert found.unattacked == expected.unattacked
    assert [(row.outcomes, row.numbers) for row in found.checks] == [
        (row.outcomes, row.numbers) for row in expected.checks
    ]
    caches = sorted((unlearned / "responses").rglob("cache.jsonl"))
    assert len(caches) == 3
    for path in caches:
        keys = [json.loads(line)[0] for line in path.read_text().splitlines() if line.strip()]
        assert len(keys) == len(set(keys)), path
