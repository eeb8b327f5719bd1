"""A journal gives back what was added, wherever a kill tore its last line, and reads files of earlier versions."""

import json
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsay.errors import UserError
from unsay.journal import Journal, append_journal
from unsay.records import Label, Verdict

Pair = tuple[str, Verdict]


def verdict(text: str) -> Verdict:
    return Verdict(id=text, judge="j", label=Label.SAFE, rationale=text)


TEXTS = st.text(max_size=6)
PAIRS = st.lists(st.tuples(TEXTS, st.builds(verdict, TEXTS)), max_size=5)


def contents(path: Path) -> dict[str, Verdict]:
    return dict(Journal(path, Verdict).lines())


@given(additions=st.lists(PAIRS, max_size=4))
def test_the_last_row_of_every_key_comes_back(tmp_path_factory: pytest.TempPathFactory, additions: list[list[Pair]]):
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    journal = Journal(path, Verdict)
    for pairs in additions:
        journal.add(pairs)
    expected = dict(pair for pairs in additions for pair in pairs)
    for read in (journal, Journal(path, Verdict)):
        assert len(read) == len(expected)
        assert all(read.get(key) == row for key, row in expected.items())
    assert list(Journal(path, Verdict).lines()) == [pair for pairs in additions for pair in pairs]


@given(before=PAIRS, torn=PAIRS, after=PAIRS, cut=st.integers(min_value=0))
def test_a_kill_at_any_byte_loses_only_what_was_being_added(
    tmp_path_factory: pytest.TempPathFactory, before: list[Pair], torn: list[Pair], after: list[Pair], cut: int
):
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    journal = Journal(path, Verdict)
    journal.add(before)
    start = path.stat().st_size
    journal.add(torn)
    whole = path.read_bytes()
    end = start + cut % (len(whole) - start + 1)
    path.write_bytes(whole[:end])

    kept = list(Journal(path, Verdict).lines())
    assert kept[: len(before)] == before
    assert kept == [*before, *torn][: len(kept)]

    Journal(path, Verdict).add(after)
    assert list(Journal(path, Verdict).lines()) == [*kept, *after]


@given(
    strange=st.lists(
        st.one_of(st.binary(max_size=8), st.sampled_from([b"17", b"null", b'["k", {"id": 3}]', b"[" * 3000, b"{}"])),
        max_size=4,
    ),
    pairs=PAIRS,
)
def test_lines_of_another_kind_are_skipped(
    tmp_path_factory: pytest.TempPathFactory, strange: list[bytes], pairs: list[Pair]
):
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    path.write_bytes(b"\n".join(strange))
    Journal(path, Verdict).add(pairs)
    assert contents(path) == dict(pairs)


def test_a_line_is_a_json_list_of_key_and_row(tmp_path: Path):
    path = tmp_path / "j.jsonl"
    Journal(path, Verdict).add([("k", verdict("é\u2028"))])
    assert path.read_text(encoding="ascii") == (
        '\n["k", {"id": "\\u00e9\\u2028", "judge": "j", "label": "safe", "score": null, '
        '"rationale": "\\u00e9\\u2028"}]\n'
    )
    # As written by an editor or another program: characters unescaped, no blank lines.
    path.write_text(json.dumps(["k", verdict("\u2028").model_dump(mode="json")], ensure_ascii=False), "utf-8")
    assert contents(path) == {"k": verdict("\u2028")}


def test_rows_may_be_of_any_type_that_pydantic_validates(tmp_path: Path):
    path = tmp_path / "j.jsonl"
    Journal(path, list[str]).add([("k", ["a"]), ("k", ["b"])])
    path.write_text(path.read_text() + '["k", [1, 2]]\n')
    assert list(Journal(path, list[str]).lines()) == [("k", ["a"]), ("k", ["b"])]


@given(mine=PAIRS, other=PAIRS, tail=st.sampled_from(["", '["k", {"id": ']))
def test_another_journal_is_appended_behind_a_torn_line(
    tmp_path_factory: pytest.TempPathFactory, mine: Sequence[Pair], other: Sequence[Pair], tail: str
):
    folder = tmp_path_factory.mktemp("journal")
    Journal(folder / "mine", Verdict).add(mine)
    Journal(folder / "other", Verdict).add(other)
    with (folder / "mine").open("a") as handle:
        handle.write(tail)
    append_journal(folder / "mine", folder / "other")
    assert contents(folder / "mine") == dict([*mine, *other])


def test_threads_add_whole_lines(tmp_path: Path):
    journal = Journal(tmp_path / "j.jsonl", Verdict)
    rows = [[(f"{thread}.{count}", verdict("x" * 200)) for count in range(50)] for thread in range(4)]

    def add(pairs: list[Pair]) -> None:
        for pair in pairs:
            journal.add([pair])

    threads = [Thread(target=add, args=(pairs,)) for pairs in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(journal.path) == dict(pair for pairs in rows for pair in pairs)


def test_a_full_disk_is_a_user_error_and_the_row_is_not_taken_for_kept(tmp_path: Path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    journal = Journal(tmp_path / "none", Verdict)
    journal.path = tmp_path / "full"
    journal.path.symlink_to("/dev/full")
    with pytest.raises(UserError, match="disk full"):
        journal.add([("k", verdict("a"))])
    assert journal.get("k") is None
