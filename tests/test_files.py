"""Files are whole or absent, rows are valid or named, keys are stable."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unsay import files
from unsay.errors import UserError
from unsay.records import Kind, Label, Verdict

SECRET = "the-value-that-must-not-be-repeated"


class Toy(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    count: int
    kind: Kind = Kind.BENIGN


def test_a_file_is_replaced_only_when_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.json"
    files.write_text(path, "old")
    with pytest.raises(ZeroDivisionError), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]
    files.write_text(path, "new")
    assert path.read_text() == "new"


def test_a_kill_in_the_middle_leaves_the_old_file_and_nothing_that_looks_like_data(tmp_path):
    path = tmp_path / "rows.jsonl"
    files.write_text(path, "old")
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom unsay.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert list(tmp_path.glob("*.jsonl")) == [path]
    stray = [name for name in os.listdir(tmp_path) if name != path.name]
    assert len(stray) == 1
    assert stray[0].endswith(".tmp")


def test_a_new_file_has_the_permissions_that_the_umask_gives(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("write", [files.write_text, files.append_text])
def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch, write):
    def full(*_args, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match=r"disk full while writing .*free some space") as found:
        write(tmp_path / "a", "x")
    assert "\n" not in str(found.value)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/a"):
        files.write_text(tmp_path / "file" / "a", "x")


def test_rows_survive_every_character(tmp_path):
    texts = ["a\u2028b", "a\u0085b", "a\u2029b\x1c", 'quote " and \\ and \n', "🦆", ""]
    rows = [Verdict(id=str(n), judge="j", label=Label.SAFE, rationale=text) for n, text in enumerate(texts)]
    files.write_rows(tmp_path / "rows.jsonl", rows)
    assert files.read_rows(tmp_path / "rows.jsonl", Verdict) == rows


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"))))
def test_any_text_comes_back(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    rows = [Verdict(id=text, judge="j", label=Label.SAFE, rationale=text) for text in texts]
    files.write_rows(path, rows)
    assert files.read_rows(path, Verdict) == rows


def test_rows_of_other_editors_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "count": 1}\r\n\r\n{"id": "b", "count": 2}\r\n')
    assert [(line, row.id) for line, row in files.read_numbered_rows(path, Toy)] == [(1, "a"), (3, "b")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f'{{"id": "a", "count": "{SECRET}"}}', ":2: count: "),
        ('{"id": "a"}', ":2: count: Field required"),
        (f'{{"id": "a", "count": 1, "kind": "{SECRET}"}}', ":2: kind: "),
        ('{"id": "a", "count": 1, "colour": "x"}', ":2: colour: unknown key"),
        (f'{{"id": "{SECRET}", "count": ', ":2: not JSON"),
        (f'["{SECRET}"]', ":2: "),
        (f'"{SECRET}"', ":2: "),
        ("[" * 5000, ":2: not JSON"),
    ],
)
def test_the_first_bad_row_is_named_and_not_repeated(tmp_path, line, said):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "count": 1}\n' + line + "\n")
    with pytest.raises(UserError) as found:
        files.read_rows(path, Toy)
    message = str(found.value)
    assert message.startswith(f"{path}{said}")
    assert SECRET not in message
    assert "\n" not in message


@given(st.binary(max_size=80) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_whatever_stands_in_a_file_the_complaint_is_one_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "broken.jsonl"
    path.write_bytes(content)
    for read in (lambda: files.read_rows(path, Toy), lambda: files.read_json(path)):
        try:
            read()
        except UserError as error:
            assert str(error).startswith(str(path))
            assert "\n" not in str(error)


@given(st.text(min_size=1, max_size=300))
def test_an_unknown_key_is_named_short_and_on_one_line(key):
    with pytest.raises(ValidationError) as found:
        Toy.model_validate({"id": "a", "count": 1, key + "!": 1})
    said = files.first_problem(found.value)
    assert said.endswith(": unknown key")
    assert len(said) < 80
    assert len(said.splitlines()) == 1


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    steps: int = Field(1, gt=0)


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    method: str = ""
    train: Inner | None = None
    parts: dict[str, list[Inner]] = {}


def problems_of(values: dict[str, object]) -> str:
    with pytest.raises(ValidationError) as found:
        Outer.model_validate(values)
    return files.problems(found.value, Outer)


def test_every_mistake_in_settings_is_named_with_the_key_that_was_meant():
    said = problems_of({"metod": "a", "train": {"stepps": 2, "steps": 0}, "parts": {"x": [{"step": 1}]}})
    assert "metod: unknown key (did you mean method?)" in said
    assert "train.stepps: unknown key (did you mean steps?)" in said
    assert "train.steps: Input should be greater than 0" in said
    assert "parts.x.0.step: unknown key (did you mean steps?)" in said
    assert problems_of({"zzz": 1}) == "zzz: unknown key"


def test_a_file_full_of_mistakes_names_the_first_few():
    said = problems_of({f"zz{number}": 1 for number in range(8)})
    assert said.count("unknown key") == files.MAX_PROBLEMS
    assert said.endswith("; and 3 more")


@given(st.dictionaries(st.text(max_size=8), st.integers() | st.dictionaries(st.text(max_size=8), st.integers())))
def test_whatever_keys_settings_have_the_complaint_is_one_line(values):
    try:
        Outer.model_validate(values)
    except ValidationError as error:
        assert len(files.problems(error, Outer).splitlines()) == 1


@pytest.mark.parametrize("content", ["[" * 100_000, "9" * 5000, "{", ""])
def test_json_that_cannot_be_read_is_a_user_error(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match="not JSON"):
        files.read_json(path)


def test_missing_files_folders_and_other_encodings_are_user_errors(tmp_path):
    (tmp_path / "latin").write_bytes("Grüße".encode("latin-1"))
    for path, said in [("none", "no such file"), (".", "is a folder"), ("latin", "not UTF-8")]:
        with pytest.raises(UserError, match=said):
            files.read_text(tmp_path / path)
    with pytest.raises(UserError, match="cannot be read"):
        files.file_key(tmp_path / "none")


def test_a_key_depends_on_content_alone():
    assert files.content_key({"a": 1, "b": [1, 2]}) == files.content_key({"b": (1, 2), "a": 1})
    assert files.content_key("ab") != files.content_key("a", "b")
    assert files.content_key(1) != files.content_key("1")
    assert files.content_key(Toy(id="a", count=1)) != files.content_key(Toy(id="a", count=2))
    assert files.content_key("\ud800") != files.content_key("\ud801")  # half a character, from a broken source
    with pytest.raises(TypeError):
        files.content_key({1, 2})  # a set's order differs from process to process


def test_keys_are_the_same_in_every_process():
    """A change here would make every cache and every finished run of every user look stale."""
    parts = ["model", 0.5, None, True, {"kind": "attack", "naïve": ["x"]}]
    assert files.content_key(*parts) == "1cee41ba043687c0"
    code = "import json, sys; from unsay.files import content_key; print(content_key(*json.loads(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(parts)], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.stdout.strip() == files.content_key(*parts)
