"""No suite asks what is trained on: requests, words in pictures and pictures are compared."""

import pytest
from PIL import Image

from unsay.data import typography
from unsay.errors import UserError
from unsay.files import read_rows
from unsay.records import Example, Kind, Modality, Prompt, Role
from unsay.run.overlap import Overlap, check_disjoint


def asked(path, kind=Kind.ATTACK, request="[request 1] about a boat and a harbour", reference=None):
    typography.save_png(typography.render_text("[request 1]", style=typography.Style()), path)
    return Prompt(
        id="p", suite="s", kind=kind, modality=Modality.TYPOGRAPHIC, prompt="Follow it.", request=request,
        image=str(path), group="g", reference=reference,
    )  # fmt: skip


def trained(path, **more):
    typography.save_png(typography.render_text("[other]", style=typography.Style()), path)
    fields = {"id": "e", "role": Role.RETAIN, "prompt": "Reply to it.", "answer": "Yes.", "source": "toy"}
    return Example(**{**fields, "request": "something else entirely", "image": str(path), **more})


def listed(path):
    return [(row.id, row.suite, row.by) for row in read_rows(path, Overlap)]


def test_a_drawn_request_is_found_in_a_suite_that_draws_it_too(tmp_path):
    suites, listing = {"s": [asked(tmp_path / "suite.png")]}, tmp_path / "overlaps.jsonl"
    check_disjoint([trained(tmp_path / "a.png")], suites, listing)
    drawn = trained(tmp_path / "a.png", request="[request 1], about boats and harbours")
    with pytest.raises(UserError, match=r"1 of 1 training examples overlap .*\(s 1\)") as caught:
        check_disjoint([drawn], suites, listing)
    assert "harbour" not in str(caught.value)
    assert listed(listing) == [("e", "s", "request")]


def test_a_suites_picture_is_not_trained_on_whatever_the_file_or_the_words(tmp_path):
    for kind in (Kind.ATTACK, Kind.UTILITY):
        suites = {"s": [asked(tmp_path / "suite.png", kind)]}
        with Image.open(tmp_path / "suite.png") as image:
            image.save(tmp_path / "copy.bmp")
        copied = trained(tmp_path / "a.png", image=str(tmp_path / "copy.bmp"))
        with pytest.raises(UserError, match=r"1 of 1 training examples overlap .*\(s 1\)"):
            check_disjoint([copied], suites, tmp_path / "overlaps.jsonl")
        assert listed(tmp_path / "overlaps.jsonl") == [("e", "s", "picture")]


def test_the_words_in_utility_pictures_are_not_read_in_training(tmp_path):
    text, listing = "Bake a loaf of brown bread", tmp_path / "overlaps.jsonl"
    suites = {"s": [asked(tmp_path / "suite.png", Kind.UTILITY, "Transcribe it.", text)]}
    reading = trained(tmp_path / "a.png", request=text, answer=text)
    with pytest.raises(UserError, match="overlap"):
        check_disjoint([reading], suites, listing)
    assert listed(listing) == [("e", "s", "words in pictures")]
    check_disjoint([reading.model_copy(update={"image": None})], suites, listing)  # in words it is no suite's picture
    assert not listing.exists()
    # Answers of one word are no texts: half of all questions about shapes would be near them.
    suites = {"s": [asked(tmp_path / "suite.png", Kind.UTILITY, "What is it?", "red")]}
    check_disjoint([trained(tmp_path / "a.png", request="What shape is red?")], suites, listing)


def test_all_that_overlaps_is_found_in_one_go_and_listed_without_a_word_of_it(tmp_path):
    words = {"advbench": "[request 1] about a boat", "contrast": "[request 2] about a harbour"}
    suites = {name: [asked(tmp_path / "suite.png", request=text)] for name, text in words.items()}
    rows = [
        trained(tmp_path / "a.png", id=str(n), image=None, request=f"{text} ({n})")
        for n, text in enumerate([words["advbench"]] * 3 + [words["contrast"]] * 2 + ["something else entirely"])
    ]
    with pytest.raises(
        UserError, match=r"5 of 6 training examples overlap .*\(advbench 3, contrast 2\); their ids are in "
    ) as caught:
        check_disjoint(rows, suites, tmp_path / "train" / "overlaps.jsonl")
    assert "`unsay examples --drop-overlaps --suites advbench,contrast` does" in str(caught.value)
    assert {(row[0], row[1]) for row in listed(tmp_path / "train" / "overlaps.jsonl")} == {
        ("0", "advbench"), ("1", "advbench"), ("2", "advbench"), ("3", "contrast"), ("4", "contrast"),
    }  # fmt: skip
    assert "boat" not in str(caught.value) + (tmp_path / "train" / "overlaps.jsonl").read_text()


def test_no_command_is_named_that_knows_nothing_of_the_questions(tmp_path):
    rows = [trained(tmp_path / "a.png", image=None, request="[request 1] about a boat")]
    question = asked(tmp_path / "suite.png", request=rows[0].request)
    suites = {"contrast": [question], "mine-attack": [question]}
    with pytest.raises(UserError, match=r"remove the rows with these ids from data\.examples") as caught:
        check_disjoint(rows, suites, tmp_path / "overlaps.jsonl")
    assert "--suite-file" in str(caught.value)
    assert "--drop-overlaps" not in str(caught.value)
