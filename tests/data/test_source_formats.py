"""Every source is read from a copy in its published format; what cannot be read is one line that says what to do."""

import json
import os
import sys
from pathlib import Path

import datasets
import pytest
from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
from PIL import Image

from helpers import published_sources
from helpers.published_sources import EXPECTED
from unsay.data.hub_sets import HubSet
from unsay.data.sources import SOURCES, beavertails, get_source, halves, llm_lat, pku_saferlhf
from unsay.data.sources.licences import Forbidden
from unsay.data.sources.source import merged
from unsay.errors import UserError
from unsay.records import Modality, Role, SourceRow

BENCHMARKS = os.environ.get("UNSAY_DATA_DIR")
needs_benchmarks = pytest.mark.skipif(not BENCHMARKS, reason="UNSAY_DATA_DIR is not set")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty folder of benchmark data, an empty cache, and no network."""
    monkeypatch.setenv("UNSAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("UNSAY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hub"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize("key", EXPECTED, ids=" ".join)
def test_a_split_reads_its_published_files(key, data):
    name, part = key
    make, requests, harmful, known, pictures = EXPECTED[key]
    split = SOURCES[name].splits[part]
    assert split.missing is not None
    make(data)
    assert split.missing is None
    rows = list(split.read())
    assert (len(rows), sum(len(row.harmful) for row in rows), sum(len(row.answers) for row in rows)) == (
        requests, harmful, known,
    )  # fmt: skip
    assert sum(row.image is not None for row in rows) == pictures
    assert {row.source for row in rows} == {name}
    assert (pictures > 0) == (split.modality is not Modality.TEXT)
    for row in map(split.opened, rows):
        if row.image is not None:
            with Image.open(row.image) as image:
                assert image.size[0] > 0


def test_no_split_with_files_goes_untested():
    assert {
        (name, part) for name, source in SOURCES.items() for part in source.splits if source.splits[part].files
    } == (EXPECTED.keys())


def test_there_are_enough_sources_and_each_is_told_apart():
    assert len(SOURCES) >= 20
    for source in SOURCES.values():
        assert source.title
        assert "http" not in source.origin
        assert any(word in source.origin for word in ("github.com", "huggingface.co", "unsay", "wheel", "visualqa.org"))
        assert source.roles in ((Role.FORGET, Role.REFUSE), (Role.RETAIN,), tuple(Role))


def test_a_request_has_the_category_that_most_of_its_unsafe_answers_have(data):
    published_sources.beavertails_30k(data)
    (row,) = beavertails.SOURCE.splits["train"].read()
    assert (row.category, row.harmful, row.answers) == ("self_harm", ("[a]", "[b]", "[c]"), ("[d]",))


def test_rows_of_one_request_become_one_in_their_order_and_pictures_keep_them_apart():
    rows = [
        SourceRow(text="One", source="x", category="a", harmful=("1",)),
        SourceRow(text="Two", source="x", harmful=("2",)),
        SourceRow(text="one!", source="x", category="b", harmful=("3", "1"), answers=("4",)),
        SourceRow(text="one", source="x", category="b", image="p.png"),
        SourceRow(text="one", source="x", category="b"),
    ]
    found = [(row.text, row.category, row.harmful, row.answers, row.image) for row in merged(rows)]
    assert found == [
        ("One", "b", ("1", "3"), ("4",), None), ("Two", None, ("2",), (), None), ("one", "b", (), (), "p.png"),
    ]  # fmt: skip


def test_vicunas_format_is_taken_off(data):
    published_sources.safeunlearning(data)
    splits = SOURCES["safeunlearning"].splits
    (harmful,), (benign,) = splits["harmful"].read(), splits["benign"].read()
    assert (harmful.text, harmful.harmful, harmful.answers) == ("[request]", ("[harm 1]", "[harm 2]"), ("[no]",))
    assert (benign.text, benign.answers) == ("[wish]", ("[help]",))


def test_an_instruction_is_asked_with_its_input(data):
    published_sources.alpaca_cleaned(data)
    assert [row.text for row in SOURCES["alpaca_cleaned"].splits["train"].read()] == [
        "[wish]",
        "[sum it up]\n\n[a text]",
    ]


def test_a_jailbreak_is_its_own_words_about_the_request_that_suites_are_kept_clear_of(data):
    published_sources.jailbreakv_28k(data)
    rows = list(SOURCES["jailbreakv_28k"].splits["attacks"].read())
    assert {row.text for row in rows} == {"[request 1]", "[request 2]"}
    assert {row.prompt for row in rows} == {"[text 1]", "[text 2]", "[text 3]"}


# ------------------------------------------------------------------------------------------------- what is here already

REAL = {
    # source and split: (requests, categories, harmful answers, known good answers)
    ("pku_saferlhf_pairs", "train"): (930, 1, 2605, 2626),
    ("safeunlearning", "harmful"): (100, 1, 500, 100),
    ("safeunlearning", "benign"): (500, 1, 0, 500),
    ("jailbreakv_28k", "questions"): (2000, 16, 0, 0),
    ("figstep", "questions"): (500, 10, 0, 0),
    ("figstep", "pictures"): (500, 10, 0, 0),
    ("mm_safetybench", "questions"): (1680, 13, 0, 0),
    ("vlguard", "unsafe_words_alone"): (977, 5, 0, 977),
    ("truthfulqa", "published"): (817, 38, 0, 817),
}


@needs_benchmarks
@pytest.mark.parametrize("key", REAL, ids=" ".join)
def test_the_real_files_hold_what_the_table_says(key):
    split = SOURCES[key[0]].splits[key[1]]
    rows = list(split.read())
    assert len(rows) == split.rows
    harmful, good = sum(len(row.harmful) for row in rows), sum(len(row.answers) for row in rows)
    assert (len(rows), len({row.category for row in rows}), harmful, good) == REAL[key]
    assert all(Path(split.opened(row).image).is_file() for row in rows[:5] if row.image is not None)


@needs_benchmarks
def test_the_real_annotations_of_vlguards_pictures_are_read_where_the_pictures_are_not():
    split = SOURCES["vlguard"].splits["unsafe_pictures"]
    rows = list(split.read())
    assert (len(rows), len({row.category for row in rows})) == (1023, 4)
    if split.missing is not None:
        with pytest.raises(UserError, match="gated: accept the terms"):
            split.opened(rows[0])


BUILT_IN = [name for name, source in SOURCES.items() if not any(split.files for split in source.splits.values())]


@pytest.mark.pocket
@pytest.mark.parametrize("name", [*BUILT_IN, "truthfulqa"])
def test_built_in_sources_have_the_rows_of_the_table(name):
    split = next(iter(SOURCES[name].splits.values()))
    assert len(list(split.read())) == split.rows


@pytest.mark.pocket
def test_the_built_in_sources_are_together_what_an_empty_list_takes():
    harmful = [SOURCES[name].splits["train"] for name in BUILT_IN if Role.FORGET in SOURCES[name].roles]
    rows = [row.text for split in harmful for row in split.read()]
    assert sorted(rows) == sorted(row.text for row in halves.harmful_requests())


# ------------------------------------------------------------------------------------------------------------- licences


def test_what_licences_forbid():
    forbids = {name: source.licence.forbids for name, source in SOURCES.items()}
    assert forbids["beavertails_30k"] == (Forbidden.COMMERCIAL,)
    assert forbids["vlguard"] == (Forbidden.COMMERCIAL, Forbidden.REDISTRIBUTION)
    assert forbids["advbench"] == forbids["contrast"] == ()
    for source in SOURCES.values():  # a name that says so must be read as such
        if "NC" in source.licence.name or "research" in source.licence.name:
            assert Forbidden.COMMERCIAL in source.licence.forbids


# ------------------------------------------------------------------------------------------------------ bad input, hub


def raising(monkeypatch, error):
    def load_dataset(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            DatasetNotFoundError("Dataset 'x' is a gated dataset on the Hub. You must be authenticated to access it."),
            r"LLM-LAT/harmful-dataset: is gated: accept its terms there and set HF_TOKEN, or put .* into llm_lat/ of",
        ),
        (ConnectionError("Couldn't reach 'x' on the Hub (ConnectError)"), r"cannot be reached: check the network, or"),
        (
            DatasetNotFoundError("Revision '8bfba31' doesn't exist for dataset 'x' on the Hub."),
            r"revision 8bfba31bc6d93a5b71808fee5275ef4b6330ed91 is gone: update unsay, or put",
        ),
        (DataFilesNotFoundError("No (supported) data files found in x"), r"no data/train-\S+ at revision \S+, or"),
        (ValueError("[harmful words]"), r"cannot be read \(ValueError\): run it again, or put"),
    ],
)  # fmt: skip
def test_a_set_that_the_hub_does_not_give_is_one_line(error, said, data, monkeypatch):
    raising(monkeypatch, error)
    with pytest.raises(UserError, match=said) as caught:
        list(llm_lat.SOURCE.splits["harmful"].read())
    assert "[harmful words]" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert llm_lat.SOURCE.splits["harmful"].missing is not None  # nothing half-read was kept


def test_without_datasets_the_extra_is_named(data, monkeypatch):
    published_sources.llm_lat(data)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'unsay\[data\]'"):
        list(llm_lat.SOURCE.splits["harmful"].read())


def test_the_hub_is_asked_for_the_pinned_revision_and_the_cache_afterwards(data, monkeypatch):
    asked = []

    def load_dataset(path, *, revision, streaming, **_):
        asked.append((path, revision, streaming))
        return datasets.IterableDataset.from_generator(
            lambda: iter([{"prompt": f"[request {n}]", "rejected": "[harm]", "chosen": "[no]"} for n in range(3)])
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    split = llm_lat.SOURCE.splits["harmful"]
    first = list(split.read())
    assert split.missing is None
    assert list(split.read()) == first
    assert len(first) == 3
    assert asked == [("LLM-LAT/harmful-dataset", llm_lat.HARMFUL.revision, True)]


def test_a_new_format_is_named_by_its_columns(data):
    rows = [{"question": "[request]", "response_0": "[a]"}]
    published_sources.packed(data / "pku_saferlhf/round0/30k/train.jsonl.xz", published_sources.lzma.compress(
        published_sources.lines(rows)
    ))  # fmt: skip
    with pytest.raises(UserError, match=r"no column 'prompt', it has question, response_0: its format has changed"):
        list(pku_saferlhf.SOURCE.splits["train"].read())


def test_a_changed_copy_is_read_anew_and_a_broken_one_says_so(data, capfd):
    published_sources.llm_lat(data)
    file = data / "llm_lat/data/train-00000-of-00001.parquet"
    before = llm_lat.HARMFUL.fingerprint
    assert len(list(llm_lat.HARMFUL.rows())) == 3
    published_sources.parquet(file, [{"prompt": "[new]", "rejected": "[h]", "chosen": "[n]"}])
    assert llm_lat.HARMFUL.fingerprint != before
    assert [row["prompt"] for row in llm_lat.HARMFUL.rows()] == ["[new]"]
    file.write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"cannot be read \(\w+\): replace it by a fresh copy of huggingface"):
        list(llm_lat.HARMFUL.rows())
    assert "Failed" not in capfd.readouterr().err  # nothing of the libraries beneath beside the one line


def test_a_large_set_is_read_from_its_beginning(data):
    published_sources.ultrachat(data)
    first = HubSet("ultrachat", "o/r", "data/*.parquet", "0" * 40, ("prompt",), most=1)
    assert [row["prompt"] for row in first.rows()] == ["[wish 1]"]


BROKEN = {
    "pku_saferlhf_pairs": ("pku_saferlhf_pairs/pku_seferlhf_realign_dpo_5k.json",
                           [{"prompt": "[r]", "response": ["[a]"]}],
                           r"entry 1: response: a safe and an unsafe answer were expected"),
    "safeunlearning": ("safeunlearning/train.json", [{"input": "[no format]", "output": "[a]", "type": 1}],
                       r"entry 1: input: a turn of USER and ASSISTANT was expected"),
    "safe_eraser": ("safe_eraser/all_train.json", [{"image_path": "a.jpg", "unsafe_pairs": "[none]"}],
                    r"unsafe_pairs: a list was expected"),
    "vlguard": ("vlguard/train.json", [{"image": "a.png", "instr-resp": "[none]"}], r"instr-resp: a list of objects"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_of_another_format_is_named_with_its_row(name, data):
    path, rows, said = BROKEN[name]
    (data / path).parent.mkdir(parents=True)
    (data / path).write_text(json.dumps(rows))
    with pytest.raises(UserError, match=said):
        list(next(iter(SOURCES[name].splits.values())).read())


def test_an_unknown_source_or_split_is_told_which_there_are():
    with pytest.raises(UserError, match=r"source: unknown 'figsteps'; known are advbench, .*vqav2"):
        get_source("figsteps")
    with pytest.raises(UserError, match=r"source 'figstep': unknown split 'train'; it has questions, pictures"):
        get_source("figstep").split_for(Role.FORGET, "train")
    with pytest.raises(UserError, match=r"source 'figstep' has no rows to retain; it serves forget, refuse"):
        get_source("figstep").split_for(Role.RETAIN)
    with pytest.raises(UserError, match=r"source 'vlguard', split 'safe', has no rows to forget; it serves retain"):
        get_source("vlguard").split_for(Role.FORGET, "safe")
    assert get_source("vlguard").split_for(Role.RETAIN) == "safe"
