import json
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
    results: dict[str, Any] = degeneration_study.study(tiny_vlm, rows, [2, 4], 4, tmp_path, told.append)
    assert [line.split()[0] for line in told] == ["0", "2", "4"]
    assert results["degenerate"]["requests"] == 4, "the same questions, asked of each model"
    assert [row["steps"] for row in results["models"]] == [0, 2, 4]
    assert {row["n"] for row in results["models"]} == {4}
    assert results["models"][2]["loss"] > results["models"][0]["loss"], "ascent raises the loss"
    assert results["collapsed"][-1] == 4
    assert results["degenerate"]["n"] == 4 * (1 + len(results["collapsed"]))
    assert results["degenerate"]["positives"] == 4 * len(results["collapsed"])
    assert tiny_vlm.adapter_key is None, "the model is handed back as it was"


def test_the_command_leaves_rows_to_train_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def study(vlm: str, rows: list[Any], steps: list[int], questions: int, *_: Any) -> dict[str, str]:
        seen.extend([vlm, len(rows), steps, questions])
        return {"vlm": vlm}

    monkeypatch.setattr(degeneration_study, "load", lambda name: name)
    monkeypatch.setattr(degeneration_study, "study", study)
    out = tmp_path / "degeneration.json"
    degeneration_study.main(["--out", str(out), "--steps", "1,2", "--prompts", "3"])
    assert seen == ["pocket", 3 + 64, [1, 2], 3]
    assert json.loads(out.read_text()) == {"vlm": "pocket"}
