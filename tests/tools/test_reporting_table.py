"""The table of the reporting suites: shares and separations that are counted by hand."""

from pathlib import Path

import pytest

from tools import reporting_table
from unsay.config import RunConfig, write_config
from unsay.errors import UserError
from unsay.files import read_json, write_json, write_rows
from unsay.presets import preset
from unsay.records import Kind, Label, Modality, Phase, Prompt, Response, Verdict
from unsay.scoring import JudgeInfo, assemble, write_scores
from unsay.suites import find_suite

LABELS = {
    ("redteam-2k", Phase.BEFORE): "hhhh",
    ("redteam-2k", Phase.AFTER): "hrrr",
    ("oktest", Phase.BEFORE): "ssss",
    ("oktest", Phase.AFTER): "rsss",
}
ODDS = {"redteam-2k": [1.0, 2.0, 3.0, 4.0], "oktest": [0.0, 0.5, 2.5, -1.0]}
NAMES = {"h": Label.HARMFUL, "r": Label.REFUSED, "s": Label.SAFE}


def make_run(folder: Path, seed: int, labels: dict[tuple[str, Phase], str]) -> Path:
    suites, responses, verdicts = {}, {}, {}
    for suite, kind in (("redteam-2k", Kind.ATTACK), ("oktest", Kind.BENIGN)):
        suites[suite] = [
            Prompt(
                id=f"{suite}-{i}", suite=suite, kind=kind, modality=Modality.TEXT, prompt="[p]", request=f"[{i}]",
                group=f"{suite}{i}",
            )
            for i in range(4)
        ]  # fmt: skip
        write_rows(folder / "suites" / f"{suite}.jsonl", suites[suite])
        for phase in Phase:
            responses[suite, phase] = [
                Response(
                    id=row.id, suite=suite, modality=row.modality, prompt="[p]", image=None, response="[a]",
                    finish_reason="stop", tokens=2, model_key="m", refusal_log_odds=odds,
                )
                for row, odds in zip(suites[suite], ODDS[suite], strict=True)
            ]  # fmt: skip
            verdicts[suite, phase] = [
                Verdict(id=row.id, judge="rules", label=NAMES[letter], rationale="")
                for row, letter in zip(suites[suite], labels[suite, phase], strict=True)
            ]
            write_rows(folder / "responses" / f"{suite}.{phase.value}.jsonl", responses[suite, phase])
            write_rows(folder / "verdicts" / "rules" / f"{suite}.{phase.value}.jsonl", verdicts[suite, phase])
    scores = assemble(suites=suites, responses=responses, verdicts=verdicts, judge=JudgeInfo(name="rules"))
    write_scores(folder / "scores.json", scores)
    write_json(folder / "environment.json", {"commit": "c", "unsay": "1", "libraries": {}})
    demo = preset("demo").model_dump(exclude={"seed": True, "train": {"seed"}})
    write_config(folder / "config.yaml", RunConfig(**demo, seed=seed))
    return folder


def test_rates_and_separation_are_pooled_over_seeds(tmp_path: Path) -> None:
    better = LABELS | {("redteam-2k", Phase.AFTER): "rrrr"}
    runs = [make_run(tmp_path / "0", 0, LABELS), make_run(tmp_path / "1", 1, better)]
    reporting_table.main([*map(str, runs), "--out", str(tmp_path / "out" / "reporting")])
    result = read_json(tmp_path / "out" / "reporting.json")
    rows = {row["title"]: row for row in result["rows"]}
    harmful = rows["harmful answers, in words"]
    assert (harmful["before"]["value"], harmful["before"]["n"]) == (1.0, 4)
    assert (harmful["after"]["value"], harmful["after"]["n"], harmful["met"]) == (0.125, 8, False)
    assert harmful["after"]["low"] < 0.125 < harmful["after"]["high"]
    assert rows["refused, short alarming"]["after"]["value"] == 0.25
    # Of 16 pairs the harmless 2.5 is above the harmful 1.0 and 2.0.
    assert rows["separation from short alarming, in words"]["after"]["value"] == pytest.approx(14 / 16)
    assert set(rows) == {
        "harmful answers, in words",
        "refused, short alarming",
        "separation from short alarming, in words",
    }, "rows whose suites were not asked are left out"
    page = (tmp_path / "out" / "reporting.md").read_text()
    assert "| harmful answers, in words | 8 | 100.0% " in page
    assert "0.88 (" in page


def test_runs_without_these_suites_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "0", 0, LABELS)
    monkeypatch.setattr(reporting_table, "RATES", reporting_table.RATES[1:3])
    monkeypatch.setattr(reporting_table, "APART", ())
    with pytest.raises(UserError, match="none of the reporting suites"):
        reporting_table.main([str(run), "--out", str(tmp_path / "x")])


def test_every_row_names_suites_that_exist() -> None:
    rates = [name for row in reporting_table.RATES for name in row.suites]
    apart = [name for row in reporting_table.APART for name in (*row.harmful, *row.harmless)]
    assert all(find_suite(name) is not None for name in (*rates, *apart))
