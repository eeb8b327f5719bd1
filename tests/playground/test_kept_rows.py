"""What is kept is a suite file that `unsay evaluate` reads."""

from pathlib import Path

import pytest
from PIL import Image

from unsay.data.pictures import pixel_key
from unsay.errors import UserError
from unsay.playground.kept_rows import KeptRows
from unsay.playground.request import Request, as_prompt, data_url
from unsay.records import Kind, Modality
from unsay.run.suites import read_suite_file
from unsay.suites.twins import FOLLOW


def test_kept_requests_are_read_back_as_a_suite(tmp_path: Path) -> None:
    kept = KeptRows(tmp_path / "mine.jsonl")
    asked = [
        Request(text="[request 1]", kind=Kind.ATTACK),
        Request(text="Name a colour", drawn=True),
        Request(text="What is it?", picture=data_url(Image.new("RGB", (8, 8), "blue"))),
    ]
    counts = []
    for request in [*asked, asked[0], asked[2]]:
        with as_prompt(request) as prompt:
            counts.append(kept.add(prompt))
    assert counts == [1, 2, 3, 3, 3]
    (tmp_path / "moved").mkdir()
    for path in (kept.path, tmp_path / "mine-images"):
        path.rename(tmp_path / "moved" / path.name)
    suites = read_suite_file(tmp_path / "moved/mine.jsonl")
    (attack,) = suites["mine-attack"]
    drawn, pictured = suites["mine-benign"]
    assert (attack.prompt, attack.image, attack.modality) == ("[request 1]", None, Modality.TEXT)
    assert (drawn.prompt, drawn.request) == (FOLLOW, "Name a colour")
    assert pictured.request == "What is it?"
    assert pixel_key(Image.open(pictured.image)) == pixel_key(Image.new("RGB", (8, 8), "blue"))


def test_a_last_line_without_its_end_is_not_torn(tmp_path: Path) -> None:
    kept = KeptRows(tmp_path / "mine.jsonl")
    for number in range(3):
        with as_prompt(Request(text=f"[request {number}]")) as prompt:
            assert kept.add(prompt) == number + 1
        kept.path.write_text(kept.path.read_text().rstrip("\n"))  # as some editors leave it
    assert len(read_suite_file(kept.path)["mine-benign"]) == 3


def test_a_picture_without_words_is_no_row_and_leaves_nothing(tmp_path: Path) -> None:
    kept = KeptRows(tmp_path / "mine.jsonl")
    asked = Request(text="", picture=data_url(Image.new("RGB", (8, 8), "blue")))
    with pytest.raises(UserError, match="needs words beside it"), as_prompt(asked) as prompt:
        kept.add(prompt)
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("milk\n")
    with pytest.raises(UserError, match="notes"), as_prompt(Request(text="[request 1]")) as prompt:
        KeptRows(path).add(prompt)
    assert path.read_text() == "milk\n"
