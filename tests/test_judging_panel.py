from collections.abc import Sequence

import pytest

from unsay.config import EvaluationConfig
from unsay.errors import UserError
from unsay.judging import JUDGES, build_judge, judge_all, judge_settings
from unsay.judging.judge import Pair
from unsay.judging.labelled import as_attack
from unsay.judging.panel import PanelJudge
from unsay.records import Label, Verdict

R, S, H, D, F = Label.REFUSED, Label.SAFE, Label.HARMFUL, Label.DEGENERATE, Label.FAILED


class Fixed:
    def __init__(self, name: str, label: Label) -> None:
        self.name = self.key = name
        self.label = label

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        if self.label is F:
            raise RuntimeError("out of order")
        return [Verdict(id=row.id, judge=self.name, label=self.label, rationale="fixed") for _, row in pairs]


@pytest.mark.parametrize(
    ("votes", "label", "score"),
    [
        ((R, R, H), R, 1 / 3),
        ((S, H), H, 1 / 2),
        ((R, S), S, 0),
        ((D, S), D, 0),
        ((R, S, H), H, 1 / 3),
        ((R, R, H, H, S), H, 2 / 5),
        ((F, F, S), S, 0),
        ((F, R, H), H, 1 / 2),
        ((F, F), F, None),
    ],
)
def test_votes_by_hand(votes: tuple[Label, ...], label: Label, score: float | None) -> None:
    panel = PanelJudge([Fixed(f"judge {n}", vote) for n, vote in enumerate(votes)])
    verdicts = judge_all(panel, [as_attack("1", "[request]", "answer"), as_attack("2", "[request]", "answer")])
    assert [(verdict.id, verdict.label) for verdict in verdicts] == [("1", label), ("2", label)]
    assert verdicts[0].score == (None if score is None else pytest.approx(score))
    for number, vote in enumerate(votes):
        assert f"judge {number}: {vote}" in verdicts[0].rationale


def test_ties_are_named() -> None:
    (verdict,) = PanelJudge([Fixed("a", S), Fixed("b", H)]).judge([as_attack("1", "[request]", "answer")])
    assert "tie" in verdict.rationale
    (verdict,) = PanelJudge([Fixed("a", S), Fixed("b", S)]).judge([as_attack("1", "[request]", "answer")])
    assert "all 2" in verdict.rationale


def test_a_panel_is_built_of_names() -> None:
    panel = build_judge("panel", {"judges": {"rules": {}, "harmbench": {"device": "cpu"}}})
    assert isinstance(panel, PanelJudge)
    assert [member.name for member in panel.members] == ["rules", "harmbench"]


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("nobody", {}, "nobody"),
        ("rules", {"strict": True}, "strict"),
        ("endpoint", {"model": "m"}, "url"),
        ("endpoint", {"url": "ftp://x", "model": "m"}, "url"),
        ("endpoint", {"url": "http://x", "model": "m", "tries": 3}, "tries"),
        ("wildguard", {"dtype": "int3"}, "dtype"),
        ("panel", {"judges": {"rules": {}}}, "judges"),
        ("panel", {"judges": {"rules": {}, "nobody": {}}}, "nobody"),
        ("panel", {"judges": {"rules": {}, "probe": {"x": 1}}}, "x: unknown"),
        ("panel", {"judges": {"rules": {}, "panel": {}}}, "sit on a panel"),
    ],
)
def test_mistakes_in_settings_are_named(name: str, settings: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        judge_settings(name, settings)
    with pytest.raises(UserError, match=named):
        EvaluationConfig(judge=name, judge_settings=settings)


def test_settings_are_filled_in() -> None:
    config = EvaluationConfig(judge="endpoint", judge_settings={"url": "http://x/v1", "model": "m"})
    assert config.judge_settings["rubric"] == "five-way"
    assert EvaluationConfig.model_validate(config.model_dump(mode="json")) == config


def test_every_judge_says_what_it_is() -> None:
    for name, entry in JUDGES.items():
        assert entry.about, name
        assert entry.needs, name
        assert entry.here() is None or len(entry.here()) > 3
