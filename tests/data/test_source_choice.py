"""Which rows are left of the chosen sources: sampled by request, clear of every suite, counted where they are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from unsay.config import DataConfig, parse_config
from unsay.data import source_choice
from unsay.data.source_choice import SourceChoice, choices_key, choose_rows, describe_dropped, weights
from unsay.data.sources import SOURCES, Source, Split
from unsay.data.sources.licences import MIT
from unsay.errors import UserError
from unsay.records import Kind, Modality, Prompt, Role, SourceRow

WORDS = ("amber", "birch", "coral", "delta", "ember", "fjord", "grove", "heron", "inlet", "jetty")


def row(number, source="toy", **more):
    return SourceRow(text=f"{WORDS[number % 10]} number{number}", source=source, **more)


@pytest.fixture
def toys(monkeypatch):
    """Two sources of ten requests each, the second with two categories and a split of normal requests."""
    harm = (Role.FORGET, Role.REFUSE)
    toy = Source("toy", "Toy", "github.com/toy", MIT, {"train": Split(lambda: [row(n) for n in range(10)], 10, harm)})
    two = [row(n + 20, "two", category="ab"[n % 2]) for n in range(10)]
    splits = {
        "train": Split(lambda: two, 10, harm),
        "normal": Split(lambda: [row(n + 40, "two", answers=("[a]",)) for n in range(10)], 10, (Role.RETAIN,)),
    }
    monkeypatch.setitem(SOURCES, "toy", toy)
    monkeypatch.setitem(SOURCES, "two", Source("two", "Two", "github.com/two", MIT, splits))


def chosen(*names, role=Role.FORGET, suites=None, **more):
    choices = tuple(SourceChoice.model_validate(name) for name in names)
    return choose_rows(role, choices, suites or {}, 0, **more)


def asks(name, *numbers, kind=Kind.ATTACK):
    return {
        name: [
            Prompt(id=str(n), suite=name, kind=kind, modality=Modality.TEXT, prompt="x", request=row(n).text, group="g")
            for n in numbers
        ]
    }


def test_a_name_takes_all_and_a_number_takes_nested_samples_in_row_order(toys):
    everything = chosen("toy").rows
    assert [one.text for one in everything] == [row(n).text for n in range(10)]
    few, more = (chosen({"source": "toy", "rows": count}).rows for count in (3, 6))
    assert {one.text for one in few} < {one.text for one in more} < {one.text for one in everything}
    assert [one.text for one in more] == [one.text for one in everything if one in more]
    beside = chosen("two", {"source": "toy", "rows": 3}).rows
    assert [one for one in beside if one.source == "toy"] == few  # whatever stands beside it


@given(st.integers(1, 10), st.integers(0, 50))
def test_another_seed_takes_as_many(count, seed):
    rows = [row(n) for n in range(10)]
    assert len(source_choice._clear(rows, count, seed, {})[0]) == count


def test_what_the_suites_ask_is_dropped_and_counted_by_source_and_suite(toys):
    suites = {**asks("first", 0, 1), **asks("second", 1, 2, 21)}
    found = chosen("toy", "two", suites=suites)
    assert len(found.rows) == 16
    assert not {one.text for one in found.rows} & {row(n).text for n in (0, 1, 2, 21)}
    assert found.dropped == {"toy": {"first": 2, "second": 1}, "two": {"second": 1}}
    assert describe_dropped(found.dropped) == "toy 3 (first 2, second 1), two 1 (second 1)"


def test_a_near_copy_counts_as_asked(toys):
    near = {
        "near": [asks("near", 3)["near"][0].model_copy(update={"request": "Number3, please: AMBER delta number3!"})]
    }
    assert chosen("toy", suites=near).dropped == {"toy": {"near": 1}}


def test_a_sample_is_taken_of_what_no_suite_asks(toys):
    found = chosen({"source": "toy", "rows": 8}, suites=asks("first", 0, 1))
    assert len(found.rows) == 8


@pytest.mark.parametrize(
    ("rows", "numbers", "said"),
    [
        (11, (), r"data\.forget: toy: 11 rows were asked for, it has 10: ask for at most 10$"),
        (9, (0, 1), r"toy: 9 rows were asked for, it has 10, 2 of which the suites ask: ask for at most 8$"),
        (
            None,
            range(10),
            r"toy: all of its 10 requests, or nearly these, will be asked \(first\): leave these suites out",
        ),
    ],
)
def test_too_few_rows_are_one_line_that_says_what_to_do(rows, numbers, said, toys):
    with pytest.raises(UserError, match=said):
        chosen({"source": "toy", "rows": rows}, suites=asks("first", *numbers))


def test_categories_choose_among_harmful_requests(toys):
    assert {one.category for one in chosen("two", categories=["b"]).rows} == {"b"}
    with pytest.raises(UserError, match=r"data\.recipe\.categories: no requests of 'c'; there are a, b"):
        chosen("two", categories=["a", "c"])


def test_a_request_of_two_sources_is_taken_once(toys, monkeypatch):
    copies = Source("copies", "x", "github.com/x", MIT, {"train": Split(lambda: [row(0, "copies")], 1, (Role.FORGET,))})
    monkeypatch.setitem(SOURCES, "copies", copies)
    assert [one.source for one in chosen("copies", "toy").rows].count("copies") == 1
    assert len(chosen("copies", "toy").rows) == 10


def test_a_sample_of_repeated_rows_has_as_many_requests_as_asked_for(toys, monkeypatch):
    numbers = [0, 0, 0, 0, 1, 2, 2, 3]
    rows = Split(lambda: [row(n, "repeats") for n in numbers], 8, (Role.FORGET,))
    monkeypatch.setitem(SOURCES, "repeats", Source("repeats", "x", "github.com/x", MIT, {"train": rows}))
    assert [one.text for one in chosen({"source": "repeats", "rows": 4}).rows] == [row(n).text for n in range(4)]
    with pytest.raises(UserError, match="5 rows were asked for, it has 8, 4 of which repeat a request: ask for at mos"):
        chosen({"source": "repeats", "rows": 5})
    beside = chosen({"source": "repeats", "rows": 4}, {"source": "toy", "rows": 6}).rows
    assert {one.text for one in beside} == {row(n).text for n in range(10)}
    assert len(chosen("toy", "repeats").rows) == 10, "nothing of its own is no mistake where no number was asked for"


def test_harmful_requests_have_a_subject_and_plain_normal_ones_do_not(toys):
    assert all(one.subject for one in chosen("toy").rows)
    assert not any(one.subject for one in chosen("two", role=Role.RETAIN).rows)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("forget: [figsteps]", r"source: unknown 'figsteps'; known are advbench"),
        ("forget: [{source: figstep, split: train}]", r"source 'figstep': unknown split 'train'; it has questions"),
        ("retain: [advbench]", r"source 'advbench' has no rows to retain; it serves forget, refuse"),
        ("forget: [{source: advbench, weight: 1}, figstep]", r"data\.forget: figstep: has no weight, others have one"),
        ("forget: [advbench, advbench]", r"data\.forget: advbench, train: is named twice"),
        ("retain: [{source: truthfulqa, weight: 1}, {source: truthfulqa, split: published, weight: 1}]",
         r"data\.retain: truthfulqa: weights go by source, and two of its splits are named"),
        ("forget: [advbench]\n  examples: mine.jsonl", r"data\.forget: data\.examples replaces all sources"),
        ("forget: [{source: advbench, rows: 0}]", r"rows"),
        ("forget: [{source: advbench, row: 3}]", r"row"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_before_anything_is_read(text, said):
    with pytest.raises(UserError, match=said):
        parse_config(f"data:\n  {text}\n", "my.yaml")


def test_weights_are_by_source_or_none():
    data = DataConfig.model_validate(
        {"forget": [{"source": "advbench", "weight": 2}, {"source": "figstep", "weight": 1}]}
    )
    assert weights(data.forget) == {"advbench": 2, "figstep": 1}
    assert weights(DataConfig.model_validate({"forget": ["advbench", "figstep"]}).forget) is None
    with pytest.raises(ValidationError):
        SourceChoice(source="advbench", weight=0)


def test_a_raised_version_is_another_key(toys, monkeypatch):
    choices = (SourceChoice(source="toy"),)
    before = choices_key(Role.FORGET, choices)
    monkeypatch.setitem(SOURCES, "toy", Source(**{**vars(SOURCES["toy"]), "version": 2}))
    assert choices_key(Role.FORGET, choices) != before
