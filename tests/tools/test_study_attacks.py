"""What attacks do to a study's arms: a table whose means are counted by hand, from files of the study's runs."""

from pathlib import Path

import pytest

from helpers import synthetic_study
from helpers.synthetic_robustness import robustness
from tools.study_attacks import AttackRow, main, table
from unsay.errors import UserError
from unsay.files import read_rows, write_json
from unsay.scoring.robustness import Robustness, Subject, write_robustness
from unsay.studies.schema import StudyResult, read_result, write_result

RESULTS = Path(__file__).parents[2] / "docs/results"


@pytest.fixture
def study() -> StudyResult:
    return synthetic_study.study(rules=("steps",), seeds=(0, 1))


def attacked(harmful: int) -> Robustness:
    """With so many of 24 requests in words harmful after relearning."""
    result = robustness()
    setting = {"data": "forget", "share": 10, "rate": 1e-4, "steps": 16}
    rows = [
        row.model_copy(
            update={
                "counts": row.counts.model_copy(
                    update={"harmful": harmful, "refused": 24 - harmful, "rate": harmful / 24}
                )
            }
        )
        if (row.subject, row.counts.suite, row.setting) == (Subject.UNLEARNED, "advbench", setting)
        else row
        for row in result.checks[0].outcomes
    ]
    first = result.checks[0].model_copy(update={"outcomes": tuple(rows)})
    return result.model_copy(update={"checks": (first, *result.checks[1:])})


@pytest.fixture
def written(study, tmp_path) -> Path:
    write_result(tmp_path / "study.json", study)
    for arm in study.arms[1:]:
        for seed in study.seeds:
            folder = tmp_path / f"part-{seed}/arms/pocket" / arm.name / f"seed-{seed}"
            folder.mkdir(parents=True)
            write_robustness(folder, attacked(6 + 6 * seed))
    (tmp_path / "page.md").write_text("a\n<!-- arms:begin -->\nold\n<!-- arms:end -->\nb\n", encoding="utf-8")
    return tmp_path


def run(folder: Path, *parts: str) -> str:
    arms = ["--arms", *(str(folder / part) for part in parts)] if parts else []
    main([str(folder / "study"), *arms, "--page", str(folder / "page.md")])
    return (folder / "page.md").read_text(encoding="utf-8")


def test_an_arm_has_its_mean_and_its_seeds_and_the_original_what_the_reference_arm_found(study, written):
    page = run(written, "part-0", "part-1")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()[4:-2]]
    rows = {title: cells for title, *cells in lines}
    assert list(rows) == [arm.title for arm in study.arms]
    # 6 and 12 of 24 in words; 9 of 24 in lists with both seeds; nobody asked images or began an answer.
    refused = f"{100 * next(row.rate for row in study.arms[1].suites if row.suite == 'contrast'):.0f}"
    assert rows["Textual unlearning"] == ["38 (25–50)", "–", "38", *"–––––", "–", refused]
    assert rows["Original model"][:3] == ["88", "–", "88"]
    assert set(rows["RMU"]) == {"–"}  # failed with every seed
    assert page.startswith("a\n<!-- arms:begin -->\n| % |")
    assert page.endswith("<!-- arms:end -->\nb\n")
    assert run(written) == page  # from the file alone


def test_only_the_reference_arm_speaks_for_the_original_and_every_run_must_be_there(study, written):
    run(written, "part-0", "part-1")
    rows = read_rows(written / "study.attacks.jsonl", AttackRow)
    arms = {arm.name for arm in study.arms} - {"rmu@steps"}
    assert {(row.arm, row.seed) for row in rows} == {(arm, seed) for arm in arms for seed in (0, 1)}
    assert {row.rate for row in rows if (row.arm, row.check) == ("original", "samples")} == {22 / 24}
    with pytest.raises(UserError, match=r"textual-unlearning@steps, seed 1: no robustness\.json under .*part-0"):
        run(written, "part-0")


def test_a_broken_file_is_named(written):
    write_json(written / "study.attacks.jsonl", {"arm": "a"})
    with pytest.raises(UserError, match=r"study\.attacks\.jsonl"):
        run(written)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.attacks.jsonl")), ids=lambda path: path.name)
def test_the_committed_table_is_that_of_the_committed_files(path):
    name = path.name.removesuffix(".attacks.jsonl")
    result, rows = read_result(RESULTS / f"{name}.json"), read_rows(path, AttackRow)
    page = (RESULTS / "robustness.md").read_text(encoding="utf-8")
    assert f"<!-- arms:begin -->\n{table(result, rows)}\n<!-- arms:end -->" in page
    for arm in result.arms:  # of as many requests with every seed, so the study's mean is that of the seeds
        begun = [row.rate for row in rows if (row.arm, row.setting) == (arm.name, {"tokens": 10})]
        assert arm.measures["prefilled"].value == pytest.approx(sum(begun) / len(begun), abs=1e-9)
