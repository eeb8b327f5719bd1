"""Answers that have begun already: what is given, what is left, and which examples stay as they are."""

from collections import Counter

import pytest
from PIL import Image

from unsay.data.recipe import RecipeSettings
from unsay.data.recovery import with_beginnings, word_ends
from unsay.records import Example, Role

HARMFUL = "one two three four five six"
NORMAL = "red orange yellow green blue"


def row(role, number, answer, request=None, **more):
    id_ = f"{role}-{number}"
    return Example(id=id_, role=role, prompt=f"Say: r{number}", answer=answer, source="toy", request=request, **more)


def rows(count=300):
    forget = [row(Role.FORGET, number, HARMFUL, f"r{number}") for number in range(count)]
    refuse = [row(Role.REFUSE, number, "No.", f"r{number}") for number in range(count)]
    retain = [row(Role.RETAIN, number, NORMAL) for number in range(count)]
    return forget, refuse, retain


def begun(examples, **shares):
    return with_beginnings(examples, RecipeSettings(**shares), 0)


def test_words_end_where_they_end():
    assert word_ends("ab  c\nd ") == [2, 5, 7]
    assert word_ends("") == []


def test_a_refusal_stands_behind_the_first_tokens_of_the_same_requests_harmful_answer():
    forget, refuse, retain = rows()
    made = begun([*forget, *refuse, *retain], recovery=1.0, recovery_depth=4)
    assert made[:300] == forget
    assert made[600:] == retain, "retain examples have a share of their own"
    depths = Counter()
    for before, after in zip(refuse, made[300:600], strict=True):
        assert after == before.model_copy(update={"prefix": after.prefix})
        words = after.prefix.split()
        assert after.prefix == " ".join(words) + " "
        assert HARMFUL.startswith(after.prefix)
        depths[len(words)] += 1
    assert set(depths) == {1, 2, 3, 4}
    assert min(depths.values()) > 300 / 4 * 0.6, "every depth is as likely as another"


def test_a_harmful_answer_that_was_drawn_out_with_a_beginning_is_given_with_it():
    forget, refuse, _ = rows(40)
    forget = [example.model_copy(update={"prefix": "Sure, here is "}) for example in forget]
    made = begun([*forget, *refuse], recovery=1.0, recovery_depth=5)
    assert all(f"Sure, here is {HARMFUL}".startswith(example.prefix) for example in made[40:])


def test_a_text_with_several_pictures_is_several_requests(tmp_path):
    forget, refuse, _ = rows(1)
    pictures = {colour: tmp_path / f"{colour}.png" for colour in ("red", "blue")}
    for colour, path in pictures.items():
        Image.new("RGB", (8, 8), colour).save(path)
    made = begun(
        [
            forget[0].model_copy(update={"image": str(pictures["red"]), "answer": "red one"}),
            forget[0].model_copy(update={"image": str(pictures["blue"]), "answer": "blue one"}),
            *(refuse[0].model_copy(update={"image": str(pictures["blue"]), "id": f"refuse-{n}"}) for n in range(20)),
            refuse[0],
        ],
        recovery=1.0,
        recovery_depth=1,
    )
    assert {row.prefix for row in made[2:-1]} == {"blue "}
    assert made[-1] == refuse[0], "in words nobody has answered it"


def test_a_normal_answer_is_cut_in_two_and_never_to_nothing():
    _, _, retain = rows()
    made = begun(retain, retain_recovery=1.0, recovery_depth=40)
    assert all(after.prefix + after.answer == NORMAL for after in made)
    assert {len(after.prefix.split()) for after in made} == {1, 2, 3, 4}, "one token at least is left to score"
    assert begun([row(Role.RETAIN, 1, "red")], retain_recovery=1.0)[0].prefix is None


def test_shares_are_kept_and_drawn_by_id():
    forget, refuse, retain = rows()
    made = begun([*forget, *refuse, *retain], recovery=0.5, retain_recovery=0.25)
    counts = Counter(example.role for example in made if example.prefix is not None)
    assert counts[Role.REFUSE] == pytest.approx(150, abs=30)
    assert counts[Role.RETAIN] == pytest.approx(75, abs=27)
    assert sorted(begun([*retain, *refuse, *forget], recovery=0.5, retain_recovery=0.25), key=lambda e: e.id) == sorted(
        made, key=lambda e: e.id
    )
    assert with_beginnings(made, RecipeSettings(recovery=1.0), 1)[300:600] != made[300:600]


def test_what_has_no_harmful_answer_or_a_prefix_of_its_own_stays():
    alone = row(Role.REFUSE, 1, "No.", "r1")
    own = row(Role.REFUSE, 2, "No.", "r2", prefix="Sure, ")
    other = row(Role.FORGET, 2, HARMFUL, "r2")
    assert begun([alone, own, other], recovery=1.0) == [alone, own, other]


def test_without_the_settings_nothing_changes():
    examples = [example for part in rows(5) for example in part]
    assert with_beginnings(examples, RecipeSettings(), 0) == examples


def test_the_models_own_tokens_are_counted_where_it_tells_them():
    refuse, forget = row(Role.REFUSE, 1, "No.", "r1"), row(Role.FORGET, 1, "abcdefgh", "r1")
    settings = RecipeSettings(recovery=1.0, recovery_depth=3)
    made = with_beginnings([forget, refuse], settings, 0, lambda text: list(range(2, len(text) + 1, 2)))
    assert made[1].prefix in {"ab ", "abcd ", "abcdef "}
