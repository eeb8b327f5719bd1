"""The suites: attacks, benign requests and utility, in text and in pictures; one line each."""

from collections.abc import Iterable

from unsay.data import renderers, shape_scenes, typography
from unsay.data.sources import data_key
from unsay.errors import UserError
from unsay.files import content_key
from unsay.records import Kind, Modality
from unsay.suites import (
    advbench,
    benign,
    development,
    figstep,
    graded_questions,
    hades,
    harmbench,
    harmful_questions,
    in_the_wild,
    jailbreak_in_pieces,
    jailbreakbench,
    jailbreakv,
    mm_safetybench,
    mme,
    mmlu,
    mossbench,
    mssbench,
    msts,
    over_refusal,
    pope,
    reporting,
    scienceqa,
    shapes,
    siuo,
    transcription,
    truthfulqa,
    twins,
    vlguard,
    vlsbench,
    vqa,
    xstest,
)
from unsay.suites.base import Grade, Measure, Setting, Suite
from unsay.suites.twins import CONDITIONS, TWINS, conditions_of, list_twin, typographic_twin, under

STANDARD: tuple[Suite, ...] = (
    advbench.SUITE,
    typographic_twin(advbench.SUITE),
    list_twin(advbench.SUITE),
    figstep.SUITE,
    benign.BENIGN,
    typographic_twin(benign.BENIGN),
    benign.CONTRAST,
    xstest.SUITE,
    transcription.SUITE,
    shapes.SUITE,
    benign.ANSWER_LOSS,
)
"""The suites of a run that names none: attack, transfer, over-refusal and utility, in minutes."""

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        *STANDARD,
        # attacks in text
        harmbench.SUITE,
        harmbench.CONTEXTUAL,
        jailbreakbench.SUITE,
        jailbreakbench.SECOND_TURN,
        harmful_questions.STRONGREJECT,
        jailbreakv.REDTEAM_2K,
        harmful_questions.BEAVERTAILS,
        harmful_questions.PKU_SAFERLHF,
        harmful_questions.DO_NOT_ANSWER,
        msts.SUITE,
        figstep.TEXT,
        in_the_wild.SUITE,
        in_the_wild.SYSTEM,
        # attacks with pictures
        list_twin(figstep.TEXT),
        *mm_safetybench.SUITES,
        harmbench.MULTIMODAL,
        jailbreakv.SUITE,
        jailbreakv.SMALL,
        hades.SUITE,
        siuo.SUITE,
        vlsbench.SUITE,
        *vlguard.SUITES,
        *mssbench.SUITES,
        jailbreak_in_pieces.SUITE,
        # harmless requests
        list_twin(benign.BENIGN),
        over_refusal.OR_BENCH,
        over_refusal.OKTEST,
        over_refusal.FALSEREJECT,
        jailbreakbench.BENIGN,
        figstep.BENIGN,
        list_twin(figstep.BENIGN),
        mossbench.SUITE,
        # utility
        vqa.VQAV2,
        vqa.TEXTVQA,
        scienceqa.SUITE,
        scienceqa.SMALL,
        mme.SUITE,
        pope.SUITE,
        graded_questions.LLAVA_BENCH,
        graded_questions.MM_VET,
        truthfulqa.MC1,
        truthfulqa.MC2,
        mmlu.SUITE,
    )
}
"""The suites that `unsay suites` lists. `find_suite` knows more: twins and conditions of every text suite."""

UNLISTED: dict[str, Suite] = {
    suite.name: suite for suite in (*development.SUITES, *reporting.DRAWN) if suite.name not in SUITES
}
"""Suites that are asked by name alone: those to choose a recipe on, and the halves of sets that are reported."""

GROUPS: dict[str, tuple[Suite, ...]] = {"development": development.FORMS, "reporting": reporting.SUITES}
"""Name → the suites that it stands for in a list of suites."""

GENERATED = (
    f"; every text suite also as {', '.join(f'NAME-{ending}' for ending in TWINS)}, NAME+blank and NAME+unrelated, "
    "every picture suite also as NAME+blank, NAME+unrelated and NAME+no-image"
)


def find_suite(name: str) -> Suite | None:
    """A listed or unlisted suite, or one made of it: a text suite's twin, or under another condition; else None."""
    known = {**SUITES, **UNLISTED}
    if name in known:
        return known[name]
    base, mark, ending = name.rpartition("+")
    if mark:
        suite = find_suite(base)
        return under(suite, ending) if suite is not None and ending in conditions_of(suite) else None
    base, mark, ending = name.rpartition("-")
    suite = known.get(base) if mark and ending in TWINS else None
    if suite is None or suite.modality is not Modality.TEXT or suite.kind is Kind.UTILITY or not suite.bare:
        return None
    return TWINS[ending](suite)


def get_suite(name: str) -> Suite:
    """The suite of that name."""
    suite = find_suite(name)
    if suite is None:
        raise UserError(f"suite: unknown '{name}'; known are {', '.join((*GROUPS, *SUITES))}{GENERATED}")
    return suite


def suites_key(suites: Iterable[Suite]) -> str:
    """Content key of what decides the prompts of these suites, apart from the published files on this machine.

    That is their names and versions, the versions of what renders pictures, and the data that comes with unsay.
    """
    versions = [[suite.name, suite.version] for suite in suites]
    drawing = [twins.VERSION, typography.VERSION, renderers.VERSION, shape_scenes.VERSION]
    return content_key(versions, drawing, data_key())


__all__ = [
    "CONDITIONS",
    "GROUPS",
    "STANDARD",
    "SUITES",
    "TWINS",
    "UNLISTED",
    "Grade",
    "Measure",
    "Setting",
    "Suite",
    "find_suite",
    "get_suite",
    "suites_key",
]
