"""Forms put words around a request and leave it as it is, the same for every role."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from helpers.harmful import harmful_examples
from unsay.data import pictures
from unsay.data.formats import LISTS, WRAPPED, sample_format
from unsay.data.forms import FORMS, KINDS, sample_form
from unsay.data.recipe import OwnAnswer, RecipeSettings, retain_examples
from unsay.data.sources import shipped
from unsay.data.splits import normalise
from unsay.records import SourceRow
from unsay.suites import figstep, twins
from unsay.training.companions import surroundings

ALL = [form for forms in FORMS.values() for form in forms]


@given(st.text(max_size=80), st.integers(0, 1000))
def test_the_request_stands_in_its_form_unchanged(request_text, seed):
    made = sample_form(random.Random(seed))(request_text)
    assert request_text in made
    assert made == sample_form(random.Random(seed))(request_text)


@pytest.mark.parametrize("kind", FORMS)
def test_forms_of_a_kind_are_several_and_differ(kind):
    assert len(set(FORMS[kind])) >= 4
    for form in FORMS[kind]:
        assert form.count("{request}") == 1
        # Any request fits: in quotation marks, at an end of the text, or before a new line.
        assert re.search(r'"\{request\}"|\{request\}\n|\{request\}$', form), form


def test_long_forms_add_25_to_60_words_and_others_fewer():
    added = {form: len(form.replace("{request}", "").split()) for form in ALL}
    assert all(25 <= added[form] <= 60 for form in FORMS["long"])
    assert all(added[form] < 25 for form in ALL if form not in FORMS["long"])


def test_long_forms_stand_on_both_sides_equally_often():
    before = sum(form.startswith("{request}") for form in FORMS["long"])
    assert before * 2 == len(FORMS["long"])


def test_kinds_are_drawn_equally_and_long_ones_twice_as_often():
    rng, counts = random.Random(0), Counter()
    for _ in range(8000):
        made = sample_form(rng)("{request}")
        counts[next(kind for kind, forms in FORMS.items() if made in forms)] += 1
    # Four standard errors of a share of 1/8 in 8,000 are 0.015.
    for kind in FORMS:
        assert counts[kind] / 8000 == pytest.approx(KINDS.count(kind) / len(KINDS), abs=0.02)


def test_no_form_has_the_words_of_a_suite_or_of_another_format():
    values = [value for module in (twins, figstep) for value in vars(module).values()]
    theirs = [text for value in values for text in (value if isinstance(value, tuple) else [value])]
    theirs = [text for text in theirs if isinstance(text, str)]
    theirs += [*pictures.FOLLOW, *pictures.COMPLETE, *pictures.READ, *(form("") for form in (*WRAPPED, *LISTS))]
    sentences = {normalise(part) for text in theirs for part in re.split(r"[.!?\n]", text) if len(part.split()) >= 4}
    assert len(sentences) > 15
    for form in ALL:
        for part in re.split(r"[.!?:\n]", form.replace("{request}", "\n")):
            assert normalise(part) not in sentences


SETTINGS = RecipeSettings(
    wrapped=0, lists=0, forms=0.4, retain_wrapped=0, retain_lists=0, retain_forms=0.4, probe=0, refusals_per_prompt=1
)


def test_every_role_is_asked_in_every_form_in_its_share():
    texts = [f"Name {number} rivers of the north" for number in range(3000)]
    rows = [SourceRow(text=text, source="toy", answers=("[answer]",)) for text in texts]
    own = [OwnAnswer(request=text, answer="[answer]", complete=True) for text in texts]
    examples = harmful_examples(rows, own, SETTINGS, 0) + retain_examples(rows, SETTINGS, 0)[0]
    by_role: dict[str, Counter[str]] = {}
    for example in examples:
        assert example.request in example.prompt
        by_role.setdefault(example.role, Counter())[example.prompt.replace(example.request, "{request}")] += 1
    assert {role: set(counts) - {"{request}"} for role, counts in by_role.items()} == {
        role: set(ALL) for role in by_role
    }
    for counts in by_role.values():  # four standard errors are 0.036
        assert 1 - counts["{request}"] / 3000 == pytest.approx(0.4, abs=0.04)


def test_a_form_can_be_told_from_another():
    rows = [SourceRow(text="Name a river", source="toy")]
    made = harmful_examples(rows, [], SETTINGS.model_copy(update={"forms": 1.0, "refusals_per_prompt": 40}), 0)
    assert len({surroundings(example) for example in made}) > 10


def test_no_request_gets_more_refusals_than_there_are():
    many = SETTINGS.model_copy(update={"refusals_per_prompt": 10_000})
    rows = [SourceRow(text="Name a river", source="toy"), SourceRow(text="Sing", source="toy", answers=("No.",))]
    counts = Counter(example.request for example in harmful_examples(rows, [], many, 0))
    assert counts == {"Name a river": len(shipped.refusals()), "Sing": 1}


def test_shares_add_up_to_no_more_than_all():
    RecipeSettings(wrapped=0.25, lists=0.25, scans=0.25, forms=0.25)
    with pytest.raises(ValidationError, match="retain_forms: add up to more than 1"):
        RecipeSettings(retain_wrapped=0.5, retain_forms=0.6)


def test_without_forms_nothing_else_changes():
    for seed in range(200):
        old = sample_format(random.Random(seed), wrapped=0.2, lists=0.2, scans=0.2)("x")
        assert sample_format(random.Random(seed), wrapped=0.2, lists=0.2, scans=0.2, forms=0.0)("x") == old
