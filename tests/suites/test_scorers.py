"""Official scoring rules against values that were worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsay.records import Kind, Modality, Prompt
from unsay.suites import scorers
from unsay.suites.scorers import best_is_right, chosen_letter, normalise, true_share, vqa_accuracy


@pytest.mark.parametrize(("same", "points"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_vqa_accuracy_leaves_one_annotator_out(same, points):
    # m of ten agree: (m · min(1, (m − 1) ÷ 3) + (10 − m) · min(1, m ÷ 3)) ÷ 10
    annotators = ["yes"] * same + [f"other {number}" for number in range(10 - same)]
    assert vqa_accuracy("Yes", annotators) == pytest.approx(points)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("The Dog.", "dog"),
        ("two", "2"),
        ("None", "0"),
        ("dont know", "don't know"),
        ("couldntve", "couldn't've"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("red/blue", "red blue"),
        ("red, blue", "red blue"),
        ("a\tcat\n", "cat"),
        ("", ""),
    ],
)
def test_vqa_answers_are_compared_in_one_spelling(said, kept):
    assert normalise(said) == kept


def test_textvqa_splits_possessives_and_drops_question_marks():
    assert normalise("joe's?", spoken=True) == "joe 's"
    assert normalise("joe's") == "joe's"


@given(st.text(max_size=40), st.lists(st.text(max_size=10), max_size=10))
def test_vqa_accuracy_is_a_share_of_anything(said, annotators):
    assert 0 <= vqa_accuracy(said, annotators) <= 1
    normalise(normalise(said))


@pytest.mark.parametrize(
    ("said", "pope", "mme"),
    [
        ("Yes, there is.", "yes", "yes"),
        ("No.", "no", "no"),
        ("There is not a dog. Yes", "no", "other"),
        ("", "yes", "other"),
        ("y", "yes", "yes"),
        ("Nothing", "yes", "no"),
        ("It is. no", "yes", "other"),
    ],
)
def test_yes_and_no_are_read_as_the_authors_read_them(said, pope, mme):
    assert scorers.pope_answer(said) == pope
    assert scorers.mme_answer(said) == mme


def item(number, reference, category=None, group=None):
    return Prompt(
        id=str(number), suite="s", kind=Kind.UTILITY, modality=Modality.IMAGE, prompt="[question]",
        request="[question]", group=group or str(number), category=category, reference=reference, image="x.png",
    )  # fmt: skip


def test_pope_numbers_by_hand():
    prompts = [item(n, ref) for n, ref in enumerate(["yes"] * 4 + ["no"] * 4)]
    values = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0]  # 3 right yeses, 1 missed, 2 right noes, 2 false yeses
    assert scorers.precision(prompts, values) == pytest.approx(3 / 5)
    assert scorers.recall(prompts, values) == pytest.approx(3 / 4)
    assert scorers.f1(prompts, values) == pytest.approx(2 * 0.6 * 0.75 / 1.35)
    assert scorers.yes_ratio(prompts, values) == pytest.approx(5 / 8)


def test_a_number_of_one_category_by_hand():
    prompts = [item(0, "yes", "random"), item(1, "no", "random"), item(2, "yes", "popular")]
    assert scorers.of_category("random", scorers.f1, prompts, [1.0, 0.0, 0.0]) == pytest.approx(2 / 3)
    assert scorers.of_category("popular", scorers.f1, prompts, [1.0, 0.0, 0.0]) == 0.0


def test_mme_adds_accuracy_and_accuracy_plus():
    prompts = [
        item(0, "yes", "count", "count/a"), item(1, "no", "count", "count/a"),
        item(2, "yes", "count", "count/b"), item(3, "no", "count", "count/b"),
        item(4, "yes", "code_reasoning", "code/a"), item(5, "no", "code_reasoning", "code/a"),
    ]  # fmt: skip
    values = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    # count: accuracy 75, accuracy+ 50; code_reasoning: 100 and 100
    assert scorers.mme_score(prompts, values) == pytest.approx(75 + 50 + 200)
    assert scorers.mme_part(scorers.MME_PERCEPTION, prompts, values) == pytest.approx(125)
    assert scorers.mme_part(scorers.MME_COGNITION, prompts, values) == pytest.approx(200)
    assert scorers.mme_score(prompts, [0.0] * 6) == 0


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B. a cat", "B"),
        ("B\nIt purrs.", "B"),
        ("b", "B"),
        ("(b)", "B"),
        ("b) a cat", "B"),
        ("**B**", "B"),
        ("**B.** a cat", "B"),
        ("B is right", "B"),
        ("The answer is C.", "C"),
        ("The answer is C because it swims", "C"),
        ("the answer is: (c)", "C"),
        ("Answer: A", "A"),
        ("The answer is A because it barks.", "A"),
        ("Option B", "B"),
        ("I would choose option B.", "B"),
        ("The correct option is B", "B"),
        ("The correct choice is option C, I think.", "C"),
        ("Option A is wrong. The answer is B.", "B"),
        ("The answer: A cat", "B"),  # an article, and the words of a choice
        ("The correct answer is a cat.", "B"),
        ("The answer is a dog or a cat", None),
        ("Option A or option B", None),
        ("The answer is A. The answer is B.", None),
        ("e.g. a cat", None),
        ("An answer is hard", None),
        ("a cat", "B"),
        ("A cat", "B"),  # no letter, though it begins like one
        ("a dog or a cat", None),
        ("D", None),  # there are three choices
        ("", None),
        ("Because", None),
    ],
)
def test_the_letter_of_an_answer(said, letter):
    assert chosen_letter(said, ("a dog", "a cat", "a fish")) == letter


@given(st.text(max_size=60))
def test_any_answer_can_be_read(said):
    assert chosen_letter(said, ("a", "b")) in {"A", "B", None}
    assert scorers.mme_answer(said) in {"yes", "no", "other"}


def test_truthfulqa_by_hand():
    prompt = item(0, "true one").model_copy(
        update={"choices": ("true one", "true two", "false"), "answers": ("true one", "true two")}
    )
    # probabilities ½, ¼ and ¼ up to a common factor
    scores = [-1.0, -1.0 - 0.6931471805599453, -1.0 - 0.6931471805599453]
    assert true_share(prompt, scores) == pytest.approx(0.75)
    assert best_is_right(prompt, scores) == 1.0
    assert best_is_right(prompt, [-3.0, -1.0, -2.0]) == 0.0
    assert true_share(prompt, [-1000.0, -1000.0, -1000.0]) == pytest.approx(2 / 3)  # nothing underflows


def test_grades_are_read_from_json_and_nothing_else():
    assert scorers.read_pair('Sure: {"answer_1": 8, "answer_2": 6}') == (75.0, 8.0)
    assert scorers.read_score('{"correctness": 0.5}') == (0.5, 1.0)
    for reply in ("", "8 6", '{"answer_1": 8}', '{"answer_1": 11, "answer_2": 5}', '{"answer_1": true, "answer_2": 5}'):
        with pytest.raises(ValueError):
            scorers.read_pair(reply)
    for reply in ('{"correctness": NaN}', '{"correctness": 2}', "{", '{"correctness": "1"}'):
        with pytest.raises(ValueError):
            scorers.read_score(reply)
