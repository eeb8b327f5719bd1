from pathlib import Path
from typing import Any

import pytest

from helpers import tiny
from tools import degeneration_study
from unsay.judges.base import Judge
from unsay.judges.rules import RulesJudge
from unsay.models import VLM


@pytest.fixture(autouse=True)
def _rules_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_name: str) -> Judge:
        return RulesJudge()

    monkeypatch.setattr(degeneration_study, "build_judge", build)


def test_every_model_is_asked_and_only_the_collapsed_count(
    tiny_vlm: VLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"{question} ({n})", answer) for n in range(3) for question, answer in zip(tiny.PROMPTS, tiny.ANSWERS, strict=True)]  # fmt: skip  # noqa: E501
    monkeypatch.setattr(degeneration_study, "COLLAPSED", 0.0)
    told: list[str] = []
    found: dict[str, Any] = degeneration_study.study(tiny_vlm, rows, [2, 4], 4, tmp_path, told.append)
    assert [line.split()[0] for line in told] == ["0", "2", "4"]
    assert found["degenerate"]["requests"] == 4, "the same questions, asked of each model"
    assert [row["steps"] for row in found["models"]] == [0, 2, 4]
    assert {row["n"] for row in found["models"]} == {4}
    assert found["models"][2]["loss"] > found["models"][0]["loss"], "ascent raises the loss"
    assert found["collapsed"][-1] == 4
    assert found["degenerate"]["n"] == 4 * (1 + len(found["collapsed"]))
    assert found["degenerate"]["positives"] == 4 * len(found["collapsed"])
    assert tiny_vlm.adapter_key is None, "the model is handed back as it was"
