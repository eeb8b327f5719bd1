"""Subjects of requests: what a request is about, harmful or not, so that a batch can show both sides of one subject.

The contrast prompts that were written by subject say so themselves. Every other request has the subject of its source's
category where that names one, and else the subject whose contrast prompts its words are likeliest in.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from unsay.data.sources import shipped
from unsay.data.splits import content_words
from unsay.records import Example, SourceRow

OF_CATEGORY = {
    "bias": "hate_discrimination",
    "harassment": "harassment_bullying",
    "harassment_bullying": "harassment_bullying",
    "hate": "hate_discrimination",
    "hate_speech": "hate_discrimination",
    "info_integrity": "misinformation_politics",
    "malware": "hacking_malware",
    "misinformation": "misinformation_politics",
    "phishing": "fraud_scams",
    "representational": "hate_discrimination",
    "scams": "fraud_scams",
    "self_harm": "self_harm",
}
"""Categories of harmful sources that name a subject → the subject."""


def with_subjects(rows: Sequence[SourceRow]) -> list[SourceRow]:
    """The rows, each with a subject; one that has a subject keeps it."""
    missing = [row.text for row in rows if row.subject is None and row.category not in OF_CATEGORY]
    nearest = dict(zip(missing, _nearest(missing), strict=True))
    return [
        row
        if row.subject is not None
        else row.model_copy(update={"subject": OF_CATEGORY.get(row.category or "") or nearest[row.text]})
        for row in rows
    ]


def unalarming(retain: Sequence[Example]) -> list[Example]:
    """The normal examples that do not sound harmful: those without a subject, or all where contrast prompts are all."""
    return [row for row in retain if row.subject is None] or list(retain)


def _nearest(texts: Sequence[str]) -> list[str]:
    """The subject of each text by its content words (complement naive Bayes over tf-idf, Rennie et al. 2003)."""
    return [str(subject) for subject in _classifier().predict(texts)] if texts else []


@cache
def _classifier() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.naive_bayes import ComplementNB
    from sklearn.pipeline import make_pipeline

    rows = [row for row in shipped.contrast() if row.subject is not None]
    words = TfidfVectorizer(analyzer=lambda text: sorted(content_words(text)))
    return make_pipeline(words, ComplementNB()).fit([row.text for row in rows], [row.subject for row in rows])
