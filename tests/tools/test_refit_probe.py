from pathlib import Path

import pytest

from tools import refit_probe
from unsay.judges.probe import PACKAGED
from unsay.judges.probe_fit import FittedProbe
from unsay.records import LabelledResponse


def test_the_command_fits_on_both_sources_and_writes_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packaged = FittedProbe.model_validate_json(PACKAGED.read_text())
    seen: list[object] = []

    def fit(model: object, tokenizer: object, rows: list[LabelledResponse]) -> FittedProbe:
        seen.extend([model, tokenizer, *rows])
        return packaged

    monkeypatch.setattr(refit_probe, "original_reader", lambda: ("model", "tokenizer"))
    monkeypatch.setattr(refit_probe, "pyrit_objective", lambda: ["pyrit"])
    monkeypatch.setattr(refit_probe, "gptfuzz_fit_rows", lambda folder, questions: [f"{folder} {questions}"])
    monkeypatch.setattr(refit_probe, "fit", fit)
    out = tmp_path / "fit.json"
    refit_probe.main(["--data-dir", "benchmarks", "--gptfuzz-questions", "questions.csv", "--out", str(out)])
    assert seen == ["model", "tokenizer", "pyrit", "benchmarks questions.csv"]
    assert out.read_text() == PACKAGED.read_text(), "the packaged fit is what a fit writes"
    assert "826 rows, threshold 0.5" in capsys.readouterr().out
