"""The suites that a table of results quotes, and that nobody looks at while a recipe is chosen.

Harmful requests come from sets that training does not draw on; harmless ones that alarm come short (OKTest, half of
XSTest) and long (most of FalseReject). `development` holds what is chosen on, and keeps clear of the requests here.
"""

from unsay.suites import benign, figstep, harmful_questions, jailbreakv, over_refusal, shapes, transcription, xstest
from unsay.suites.base import Suite
from unsay.suites.twins import drawn_twins

DRAWN: tuple[Suite, ...] = (
    harmful_questions.BEAVERTAILS,
    jailbreakv.REDTEAM_2K,
    harmful_questions.DO_NOT_ANSWER,
    over_refusal.OKTEST,
    over_refusal.FALSEREJECT_REPORTED,
    xstest.SAFE_REPORTED,
    xstest.UNSAFE_REPORTED,
    benign.BENIGN,
)
"""Reported in words and by every renderer that training never uses."""

SUITES: tuple[Suite, ...] = (
    *(form for suite in DRAWN for form in (suite, *drawn_twins(suite))),
    figstep.TEXT,
    figstep.SUITE,
    transcription.SUITE,
    shapes.SUITE,
    benign.ANSWER_LOSS,
)
