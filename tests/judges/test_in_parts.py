"""Verdicts come in parts that a kill does not take along, and a judge's server is paid for once."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from unsay.endpoint import EndpointSettings, Meter
from unsay.files import read_rows
from unsay.judges.base import Pair, as_attack
from unsay.records import Label, Phase, Verdict
from unsay.run import evaluate


class Counts:
    """Calls everything safe, and dies when it has judged so many."""

    name, key = "counts", "k"

    def __init__(self, dies_after: int) -> None:
        self.left = dies_after
        self.asked: list[str] = []

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        self.asked += [prompt.id for prompt, _ in pairs]
        if len(self.asked) > self.left:
            raise KeyboardInterrupt
        return [Verdict(id=row.id, judge=self.name, label=Label.SAFE, rationale="") for _, row in pairs]


def test_a_killed_judge_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "JUDGED_AT_ONCE", 2)
    # Equal words: a guard may see another picture with each, so they are judged apart.
    prompts, responses = zip(*(as_attack(str(n), "[request]", "[answer]") for n in range(7)), strict=True)
    killed, second = Counts(4), Counts(99)
    run: Any = SimpleNamespace(folder=tmp_path, judge=killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate._judged(run, "labelled", list(prompts), list(responses), Phase.BEFORE)
    run.judge = second
    evaluate._judged(run, "labelled", list(prompts), list(responses), Phase.BEFORE)
    assert second.asked == ["4", "5", "6"]
    place = tmp_path / "verdicts/counts"
    assert len((place / "labelled.before.jsonl").read_text().splitlines()) == 7
    assert sorted(path.name for path in place.iterdir()) == ["labelled.before.jsonl", "labelled.before.key"]


class Reads:
    """Calls an answer harmful where it says so."""

    name = "reads"

    def __init__(self, key: str) -> None:
        self.key = key
        self.asked: list[str] = []

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        self.asked += [prompt.id for prompt, _ in pairs]
        labels = [Label.HARMFUL if row.response == "[harmful]" else Label.SAFE for _, row in pairs]
        return [
            Verdict(id=row.id, judge=self.name, label=label, rationale="")
            for (_, row), label in zip(pairs, labels, strict=True)
        ]


def test_other_answers_and_another_judge_are_judged_anew(tmp_path: Path) -> None:
    def labels(judge: Reads, said: str) -> list[Label]:
        prompts, responses = zip(*(as_attack(str(n), "[request]", said) for n in range(2)), strict=True)
        run: Any = SimpleNamespace(folder=tmp_path, judge=judge)
        evaluate._judged(run, "labelled", list(prompts), list(responses), Phase.AFTER)
        return [row.label for row in read_rows(tmp_path / "verdicts/reads/labelled.after.jsonl", Verdict)]

    judge = Reads("one")
    assert labels(judge, "[harmful]") == [Label.HARMFUL] * 2
    assert labels(judge, "[answer]") == [Label.SAFE] * 2
    assert labels(judge, "[answer]") == [Label.SAFE] * 2
    assert judge.asked == ["0", "1"] * 2, "what is judged is not judged again"
    other = Reads("two")
    assert labels(other, "[answer]") == [Label.SAFE] * 2
    assert other.asked == ["0", "1"]


@pytest.mark.parametrize("seat", ["alone", "on a panel", "blind"])
def test_a_judge_that_reads_pictures_judges_another_one_anew(tmp_path: Path, seat: str) -> None:
    judge: Any = Reads("one")
    judge.reads_pictures = seat == "alone"
    judge.members = [SimpleNamespace(reads_pictures=True)] if seat == "on a panel" else []
    run: Any = SimpleNamespace(folder=tmp_path, judge=judge)
    prompt, response = as_attack("1", "[request]", "[answer]")
    path = tmp_path / "a.png"
    for colour, words in (("red", "[words]"), ("red", "[words]"), ("blue", "[words]"), ("blue", "[others]")):
        Image.new("RGB", (8, 8), colour).save(path)
        pictured = prompt.model_copy(update={"image": str(path), "prompt": words})
        evaluate._judged(run, "labelled", [pictured], [response], Phase.AFTER)
        evaluate.judged_in_parts(judge, [(pictured, response)], tmp_path / "parts")
    assert len(judge.asked) == (2 if seat == "blind" else 6)


def test_what_a_judges_server_took() -> None:
    meter = Meter(EndpointSettings(url="http://x", model="m", price_in=2.0))
    member = SimpleNamespace(client=SimpleNamespace(meter=meter))
    meter.count(1_000_000, 7)
    assert evaluate.judge_usage(member) == (1, 1_000_007, 2.0)
    assert evaluate.judge_usage(SimpleNamespace(members=(member, Counts(1)))) == (1, 1_000_007, 2.0)
    assert evaluate.judge_usage(Counts(1)) == (0, 0, 0)
