"""Jailbreak templates that people posted (Shen et al. 2023, arXiv 2308.03825), each with forbidden questions.

Two suites of the same pairs: `in-the-wild` puts the template before the question, in one turn; `in-the-wild-system`
gives the template as the system prompt.
"""

import random

from unsay.data.sources.published import csv_rows, github, text_field
from unsay.errors import UserError
from unsay.files import content_key
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

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
"""Characters of a template; longer ones do not fit the context of small models, and say so nowhere."""


def pairs() -> list[tuple[str, str, str]]:
    """(template, question, category): every question in `PER_QUESTION` templates, drawn by the question alone.

    Raises:
        UserError: a file cannot be had or is malformed, or there are too few templates.
    """
    path = TEMPLATES.find()
    texts = [text_field(row["prompt"], path, "prompt", line) for line, row in csv_rows(path, ("platform", "prompt"))]
    templates = [text for text in dict.fromkeys(texts) if len(text) <= LONGEST]
    if len(templates) < PER_QUESTION:
        raise UserError(f"{path}: holds {len(templates)} templates, at least {PER_QUESTION} were expected")
    path = QUESTIONS.find()
    found = []
    for line, row in csv_rows(path, ("content_policy_name", "question")):
        question = text_field(row["question"], path, "question", line)
        category = text_field(row["content_policy_name"], path, "content_policy_name", line)
        drawn = random.Random(f"in-the-wild/{question}").sample(templates, PER_QUESTION)
        found += [(template, question, category) for template in drawn]
    return found


def one_turn() -> list[Item]:
    """Template and question as one text."""
    return [Item(text=f"{t}\n\n{q}", request=q, category=category) for t, q, category in pairs()]


def system_prompted() -> list[Item]:
    """The template as the system prompt, the question alone in the user's turn."""
    return [Item(text=q, category=category, system=t, key=content_key(t)) for t, q, category in pairs()]


SUITE: Suite = Suite(
    name="in-the-wild",
    title="In-the-wild templates",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"jailbreak prompts and forbidden questions, github.com/{REPOSITORY}",
    licence="MIT",
    prompts=lambda setting: listed(SUITE, one_turn(), setting),
    size=1560,
    bare=False,
    files=(TEMPLATES, QUESTIONS),
)
SYSTEM: Suite = Suite(
    name="in-the-wild-system",
    title="In-the-wild templates as system prompts",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=SUITE.source,
    licence="MIT",
    prompts=lambda setting: listed(SYSTEM, system_prompted(), setting),
    size=1560,
    bare=False,
    files=(TEMPLATES, QUESTIONS),
)
