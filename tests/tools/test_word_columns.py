"""Columns of words: what is asked about them follows from them."""

import random

from tools.pocket import word_columns


def test_answers_follow_from_the_column():
    lines = ["tree", "42", "house"]
    asked = {one.question: one.answer for one in word_columns.questions(lines, "river", random.Random(1))}
    assert asked.pop("What is the word at the top?") == "tree"
    assert asked.pop("What is the word at the bottom?") == "house"
    assert asked.pop("What number is shown?") == "42"
    assert asked.pop("Is the word river there?") == "no"
    for question, answer in asked.items():
        match question.split():
            case ["How", "many", *_]:
                assert answer == "three"
            case ["Is", "the", "word", word, "there?"]:
                assert answer == "yes"
                assert word in lines
            case ["Which", "word", "is", way, left, "or", right]:
                order = sorted([left, right.rstrip("?")], key=lines.index)
                assert answer == order[way == "lower,"]
            case ["What", "is", "below", word]:
                assert answer == {"tree?": "42", "42?": "house"}[word]
            case _:
                raise AssertionError(question)


def test_one_line_has_no_order_and_two_numbers_are_not_the_number():
    topics = {one.topic for one in word_columns.questions(["7000"], "river", random.Random(0))}
    assert topics == {"count", "there", "number"}
    assert "number" not in {one.topic for one in word_columns.questions(["12", "34"], "river", random.Random(0))}


def test_lines_are_different_words_of_the_text_or_numbers():
    text = ["The", "quick", "brown", "fox", "can't", "jump", "over", "extraordinarily", "lazy", "dogs", "at", "9"]
    drawn = [word_columns.draw(text, 4, random.Random(seed)) for seed in range(50)]
    assert all(len(set(lines)) == 4 for lines in drawn)
    words = {line for lines in drawn for line in lines if not line.isdigit()}
    assert words == {"The", "quick", "brown", "fox", "jump", "over", "lazy", "dogs"}
    assert any(line.isdigit() for lines in drawn for line in lines)
    assert word_columns.draw([], 2, random.Random(0))[0].isdigit()
