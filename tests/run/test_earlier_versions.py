"""Run directories of earlier versions are read, and refused in one line where their stages would all be done again.

`earlier_version/` was made by the last commit whose stage keys held hashes of source files.
"""

import shutil
from pathlib import Path

import pytest

from helpers import study_of_tiny, tiny
from unsay import api
from unsay.config import RunConfig, read_config
from unsay.errors import UserError
from unsay.files import read_json, read_rows, write_json, write_rows
from unsay.records import Phase, Verdict
from unsay.run.directory import Run, check_format
from unsay.run.environment import FORMAT
from unsay.run.export import export
from unsay.scoring import read_scores
from unsay.studies import launcher, run_study

pytestmark = pytest.mark.usefixtures("unmeasured_judge")

REFUSED = (
    r"run: made by an earlier version of unsay \(0\.1\.0, commit 47c07cf\): finish it with that version, or choose "
    r"another --out$"
)


@pytest.fixture
def earlier(tiny_folder, tmp_path):
    """A finished run of an earlier version, on the tiny model."""
    folder = Path(shutil.copytree(Path(__file__).with_name("earlier_version"), tmp_path / "run"))
    for path in folder.rglob("*.*"):
        if path.suffix in (".json", ".yaml"):
            path.write_text(path.read_text().replace("MODEL", str(tiny_folder)))
    write_rows(folder / "examples.jsonl", tiny.examples(4))  # where its settings say
    return folder


def test_its_report_is_written_again(earlier):
    assert "<html" in api.report(earlier).read_text()


def test_its_phases_are_compared(earlier, tmp_path):
    scores = api.compare(f"{earlier}:before", earlier, tmp_path / "out")
    assert scores.rows == read_scores(earlier / "scores.json").rows


def test_its_adapter_is_evaluated_and_exported(earlier, tmp_path):
    settings = read_config(earlier / "config.yaml")
    scores = api.evaluate(settings, tmp_path / "asked", adapter=earlier / "adapter")
    assert {row.phase for row in scores.rows} == set(Phase)
    # Today's suite asks other prompts than that version's, and as many.
    asked, before = (
        read_rows(folder / "verdicts/rules/contrast.after.jsonl", Verdict) for folder in (tmp_path / "asked", earlier)
    )
    assert len(asked) == len(before)
    export(earlier, tmp_path / "exported")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "exported" / name).read_bytes() == (earlier / "adapter" / name).read_bytes()
    assert "textual-unlearning" in (tmp_path / "exported" / "README.md").read_text()


@pytest.mark.parametrize("unfinished", [False, True])
def test_it_is_not_done_again_without_a_word(earlier, unfinished):
    if unfinished:
        for name in ("scores.json", "stages/evaluate-after.json", "stages/unlearn.json"):
            (earlier / name).unlink()
    before = {path: path.read_bytes() for path in earlier.rglob("*") if path.is_file()}
    settings = read_config(earlier / "config.yaml")
    with pytest.raises(UserError, match=REFUSED) as caught:
        api.unlearn(settings, earlier)
    assert "\n" not in str(caught.value)
    if unfinished:
        with pytest.raises(UserError, match=REFUSED):
            api.evaluate(settings, earlier)
    assert {path: path.read_bytes() for path in earlier.rglob("*") if path.is_file()} == before


def test_a_study_with_its_runs_is_refused_before_any_run_fails(earlier, tiny_folder, examples, tmp_path):
    original = tmp_path / "study" / "originals" / tiny_folder.name
    shutil.copytree(earlier, original)
    with pytest.raises(UserError, match=r"tiny: made by an earlier version of unsay .*choose another --out$"):
        run_study(study_of_tiny.study(tiny_folder, examples), tmp_path / "study", launcher("sequential"))
    assert not (original / "arm.json").exists()
    assert not (tmp_path / "study" / "study.json").exists()


def test_a_directory_in_which_no_stage_was_finished_is_taken_over(earlier):
    shutil.rmtree(earlier / "stages")
    check_format(earlier)


def test_a_directory_without_a_commit_or_with_a_damaged_environment(tmp_path):
    write_json(tmp_path / "stages" / "suites.json", {})
    check_format(tmp_path)  # copied stages, and nothing else yet
    write_json(tmp_path / "environment.json", {"unsay": "0.0.9", "commit": None})
    with pytest.raises(UserError, match=r"made by an earlier version of unsay \(0\.0\.9\): finish"):
        check_format(tmp_path)
    write_json(tmp_path / "environment.json", {"unsay": "9.0.0", "format": FORMAT + 1})
    with pytest.raises(UserError, match=r"made by a later version of unsay \(9\.0\.0\): finish"):
        check_format(tmp_path)
    (tmp_path / "environment.json").write_text("{")
    check_format(tmp_path)


def test_directories_tell_their_format(tmp_path):
    Run.open(tmp_path, RunConfig())
    assert read_json(tmp_path / "environment.json")["format"] == FORMAT
    write_json(tmp_path / "stages" / "suites.json", {})
    check_format(tmp_path)
