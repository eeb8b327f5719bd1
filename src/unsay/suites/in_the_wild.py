"""Jailbreak templates that people posted (Shen et al. 2023, arXiv 2308.03825), each with forbidden questions.

Two suites of the same pairs: `in-the-wild` puts the template before the question, in one turn; `in-the-wild-system`
gives the template as the system prompt.
"""

import random
from collections.abc import Iterator

from unsay.data.published import csv_rows, github
from unsay.errors import UserError
from unsay.files import content_key
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

REPOSITORY = "verazuo/jailbreak_llms"
FLOATING = "its commit could not be looked up"
TEMPLATES = github(
    "in_the_wild/jailbreak_prompts_2023_12_25.csv",
    REPOSITORY,
    "main",
    "data/prompts/jailbreak_prompts_2023_12_25.csv",
    floating=FLOATING,
)
QUESTIONS = github(
    "in_the_wild/forbidden_question_set.csv",
    REPOSITORY,
    "main",
    "data/forbidden_question/forbidden_question_set.csv",
    floating=FLOATING,
)
PER_QUESTION = 4
"""Templates that each question is put into."""
LONGEST = 6000
"""Characters of a template; longer ones do not fit the context of small models, and are cut without notice."""


def _pairs() -> Iterator[tuple[str, str, str]]:
    """(template, question, category): every question in `PER_QUESTION` templates, sampled by the question alone."""
    path = TEMPLATES.find()
    texts = [row.text("prompt") for row in csv_rows(path, ("platform", "prompt"))]
    templates = [text for text in dict.fromkeys(texts) if len(text) <= LONGEST]
    if len(templates) < PER_QUESTION:
        raise UserError(f"{path}: holds {len(templates)} templates, at least {PER_QUESTION} were expected")
    for row in csv_rows(QUESTIONS.find(), ("content_policy_name", "question")):
        question, category = row.text("question"), row.text("content_policy_name")
        for template in random.Random(f"in-the-wild/{question}").sample(templates, PER_QUESTION):
            yield template, question, category


def _in_one_turn() -> list[Item]:
    return [Item(f"{t}\n\n{q}", request=q, category=category) for t, q, category in _pairs()]


def _as_system_prompt() -> list[Item]:
    return [Item(q, category=category, system=t, key=content_key(t)) for t, q, category in _pairs()]


SUITE = Suite(
    name="in-the-wild",
    title="In-the-wild templates",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"jailbreak prompts and forbidden questions, github.com/{REPOSITORY}",
    licence="MIT",
    items=_in_one_turn,
    size=1560,
    bare=False,
    files=(TEMPLATES, QUESTIONS),
)
SYSTEM = Suite(
    name="in-the-wild-system",
    title="In-the-wild templates as system prompts",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=SUITE.source,
    licence="MIT",
    items=_as_system_prompt,
    size=1560,
    bare=False,
    files=(TEMPLATES, QUESTIONS),
)
