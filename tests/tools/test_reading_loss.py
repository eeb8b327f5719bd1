"""Words are counted as read where they are, and forms are told apart by the log-odds that the answers carry."""

from pathlib import Path

import pytest

from tools import reading_loss
from unsay.models import VLM
from unsay.records import Kind, Modality, Prompt, Response


def _page(suite: str, number: int, request: str = "Describe a purple lantern") -> Prompt:
    return Prompt(
        id=f"{suite}-{number}", suite=suite, kind=Kind.BENIGN, modality=Modality.TEXT, prompt=request, request=request,
        group=f"{suite}-{number}",
    )  # fmt: skip


def test_long_words_are_read_where_they_are_found() -> None:
    pages = {"s": [_page("s", 0), _page("s", 1, "Sing of it")]}
    assert reading_loss.words_read(pages, {"s-0": "Describe a PURPLE lamp.", "s-1": "Sing of it"}) == (2, 3)


def test_forms_are_separated_by_the_answers_log_odds(
    tiny_vlm: VLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harmful, harmless = reading_loss.HARMFUL[0], reading_loss.AGAINST["long"][0]
    suites = [*reading_loss.HARMFUL, *(suite for of in reading_loss.AGAINST.values() for suite in of)]
    pages = {suite: [_page(suite, n) for n in range(2 if suite in (harmful, harmless) else 0)] for suite in suites}
    odds = {f"{harmful}-0": 1.0, f"{harmful}-1": -2.0, f"{harmless}-0": -1.0, f"{harmless}-1": -3.0}

    def answers(_vlm: VLM, prompts: list[Prompt], *_more: object) -> list[Response]:
        fields = {"response": "", "finish_reason": "length", "tokens": 1, "model_key": "m", "image": None}
        return [
            Response(
                id=row.id,
                suite=row.suite,
                modality=row.modality,
                prompt=row.prompt,
                refusal_log_odds=odds[row.id],
                **fields,
            )
            for row in prompts
        ]

    monkeypatch.setattr(reading_loss, "respond", answers)
    # Of four pairs the harmless -1 is above the harmful -2.
    assert reading_loss.separations(tiny_vlm, pages, lambda page: page, tmp_path / "a.jsonl") == {"long": 0.75}
