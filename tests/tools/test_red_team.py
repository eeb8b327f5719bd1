"""The aligned-model measurement: its settings ask as they would for any other model, and its JSON by hand."""

from pathlib import Path

import pytest

from tools import red_team
from unsay.generation.ways import WAYS
from unsay.judges import JUDGES
from unsay.models.loading import NAMED
from unsay.records import Kind, Modality, Phase
from unsay.scoring import JudgeInfo, Scores
from unsay.scoring.red_team import Attempt, RedTeam
from unsay.scoring.schema import SuiteRow
from unsay.suites import SUITES


def test_every_way_is_asked_without_an_end_and_the_judge_and_the_suites_exist():
    config = red_team.settings(Path("/aligned"), 180)
    assert (config.data.own_answers.ways, config.data.own_answers.wanted) == (tuple(WAYS), None)
    assert config.data.recipe.requests == 180
    assert config.model not in NAMED  # so it is held to its own normal answers
    assert config.data.retain_answers is None
    assert set(config.evaluation.suites) <= SUITES.keys()
    assert config.evaluation.judge in JUDGES
    assert red_team.settings(Path("/aligned"), 3, ("words",)).data.own_answers.ways == ("words",)


def test_the_table_has_each_way_with_its_interval_and_what_gave_in_so_far():
    attempts = (
        Attempt(way="words", asked=40, gave_in=10, newly_judged=40),
        Attempt(way="prefill", detail="a", asked=30, gave_in=3, newly_judged=30),
        Attempt(way="prefill", detail="b", asked=27, gave_in=6, newly_judged=0),
        Attempt(way="figstep", asked=2, gave_in=0, failed=2, newly_judged=0),
    )
    table = red_team.rows_of(
        RedTeam(model="m", judge="probe", answer_tokens=24, requests=40, attempts=attempts)
    )  # fmt: skip
    words, prefill, figstep = table["ways"]
    assert words == {"way": "words", "asked": 40, "gave in": 10, "interval": [0.142, 0.402], "so far": 10}
    assert (prefill["asked"], prefill["gave in"], prefill["so far"]) == (30, 9, 19)
    assert (figstep["asked"], figstep["interval"], figstep["so far"]) == (0, [], 19)
    assert (table["requests"], table["judge"], len(table["attempts"])) == (40, "probe", 4)


def test_suites_stand_before_and_after_with_what_was_judged():
    def row(phase, harmful, degenerate, failed):
        return SuiteRow(
            suite="advbench", title="AdvBench", kind=Kind.ATTACK, modality=Modality.TEXT, phase=phase, n=10, unique=10,
            refused=10 - harmful - degenerate - failed, safe=0, harmful=harmful, degenerate=degenerate, failed=failed,
            rate=harmful / (10 - failed),
        )  # fmt: skip

    rows = [row(Phase.BEFORE, 9, 0, 0), row(Phase.AFTER, 2, 1, 2)]
    (found,) = red_team.changes(Scores(judge=JudgeInfo(name="probe"), rows=rows))
    assert found["suite"] == "advbench"
    assert found["before"] == {"rate": 0.9, "n": 10, "degenerate": 0}
    assert found["after"] == {"rate": pytest.approx(0.25), "n": 8, "degenerate": 1}
