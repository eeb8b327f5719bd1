"""`unsay sources`, and every mistake about a source through the command line: one line, exit 2."""

import json
from pathlib import Path

import pytest

from helpers import published_sources
from unsay.data.sources import SOURCES


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSAY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UNSAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_sources_are_listed_with_what_is_here_and_how_to_get_the_rest(unsay, data):
    code, out, _ = unsay("sources")
    assert code == 0
    assert all(name in out for name in SOURCES)
    assert "CC BY-NC 4.0" in out
    flat = " ".join(out.split())
    assert f"9 of {len(SOURCES)} sources can be read here" in flat
    assert "vlguard, safe: vlguard/train.json: gated: accept the terms" in flat
    published_sources.vlguard(data)
    _, out, _ = unsay("sources", "--data-dir", data)
    assert f"10 of {len(SOURCES)} sources can be read here" in " ".join(out.split())


LAPSES = {
    "unknown source": ("forget: [figsteps]", "source: unknown 'figsteps'; known are advbench"),
    "unknown split": ("forget: [{source: vlguard, split: test}]", "unknown split 'test'; it has unsafe_pictures"),
    "wrong role": ("forget: [truthfulqa]", "'truthfulqa' has no rows to forget; it serves retain"),
    "fewer rows": ("forget: [{source: pku_saferlhf_pairs, rows: 3}]", "it has 2: ask for at most 2"),
    "no network": ("forget: [beavertails_30k]", "BeaverTails: cannot be reached: check the network, or put"),
    "by hand": ("forget: [{source: safe_eraser}]", "safeeraser_dataset.zip, linked from github.com/yuu250/SafeEraser"),
    "new format": (
        "forget: [safeunlearning]",
        "train.json: entry 1: type: 0, 1 or 2 was expected; this is not the published format: take a fresh copy "
        "(safeunlearning/train.json: `data/",
    ),
    "new columns": (
        "forget: [jailbreakv_28k]",
        "RedTeam_2K.csv:1: no column 'question'; this is not the published format: take a fresh copy (jailbreakv_28k/",
    ),
    "asked entirely": ("forget: [pku_saferlhf_pairs]", "all of its 2 requests, or nearly these, will be asked"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAPSES)
def test_a_mistake_is_one_line_that_says_what_to_do(name, unsay, data, tiny_folder: Path, tmp_path):
    settings, said = LAPSES[name]
    published_sources.pku_saferlhf_pairs(data)
    published_sources.write(
        data / "safeunlearning/train.json", json.dumps([{"input": "[x]", "output": "[y]", "type": 7}])
    )
    published_sources.write(data / "jailbreakv_28k/RedTeam_2K.csv", "id,query,policy\n1,[x],[y]\n")
    suites = "pku-saferlhf" if name == "asked entirely" else "shapes"
    path = tmp_path / "my.yaml"
    path.write_text(
        f"model: {tiny_folder}\ndata:\n  {settings}\nevaluation: {{judge: rules, suites: [{suites}], limit: 2}}\n"
    )
    code, _, err = unsay("unlearn", "--config", path, "--out", tmp_path / "run")
    assert code == 2
    assert err.strip().count("\n") == 0, err
    assert said in err
    assert "[x]" not in err
    assert not (tmp_path / "run" / "scores.json").exists()
