"""What is asked: attacks, benign requests and utility, in text and in image. One file and one line each."""

from unsay.errors import UserError
from unsay.suites import advbench, answer_loss, benign, contrast, figstep, shapes, transcription, xstest
from unsay.suites.base import Measure, Setting, Suite
from unsay.suites.drawing import list_twin, typographic_twin

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        advbench.SUITE,
        typographic_twin(advbench.SUITE),
        list_twin(advbench.SUITE),
        figstep.SUITE,
        benign.SUITE,
        typographic_twin(benign.SUITE),
        list_twin(benign.SUITE),
        contrast.SUITE,
        xstest.SUITE,
        transcription.SUITE,
        shapes.SUITE,
        answer_loss.SUITE,
    )
}


def get_suite(name: str) -> Suite:
    """A suite by its name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in SUITES:
        raise UserError(f"suite: unknown '{name}'; known are {', '.join(SUITES)}")
    return SUITES[name]


__all__ = ["SUITES", "Measure", "Setting", "Suite", "get_suite"]
