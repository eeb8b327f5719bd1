"""What a judge is, and the one way to run it that never loses a row."""

import math
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from unsay.errors import UserError
from unsay.records import Label, Prompt, Response, Verdict

Pair: TypeAlias = tuple[Prompt, Response]


@runtime_checkable
class Judge(Protocol):
    """Gives each response exactly one label."""

    @property
    def name(self) -> str:
        """The name under which verdicts are filed."""
        ...

    @property
    def key(self) -> str:
        """A content key of everything that decides the verdicts: rules, weights, thresholds."""
        ...

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair, in order, with the id of its response."""
        ...


@runtime_checkable
class DetailedJudge(Protocol):
    """A judge whose name says too little."""

    def details(self) -> dict[str, str]:
        """What tells it from another judge of its name, for people: names to short texts."""
        ...


def judge_all(judge: Judge, pairs: Sequence[Pair]) -> list[Verdict]:
    """Judge every pair; what the judge cannot do becomes `failed` for that row alone.

    The pairs go to the judge together. If it raises, or gives anything but one valid verdict per pair, the pairs go
    again one by one, so that only the rows at fault are lost.

    Args:
        judge: any judge.
        pairs: prompts with their responses.

    Returns:
        One verdict per pair, in order: same ids, `failed` with the reason where the judge gave no valid answer.

    Raises:
        UserError: the judge cannot work here at all (its model is missing, the disk is full); that is for the user to
            mend, and no row's fault.
    """
    if not pairs:
        return []
    try:
        verdicts: Any = judge.judge(pairs)
    except UserError:
        raise
    except Exception:  # whatever it is, it must not cost the other rows; the retry below names it
        verdicts = None
    if isinstance(verdicts, list) and len(verdicts) == len(pairs):
        return [
            verdict if _problem(judge, pair, verdict) is None else _alone(judge, pair)
            for pair, verdict in zip(pairs, verdicts, strict=True)
        ]
    return [_alone(judge, pair) for pair in pairs]


def _alone(judge: Judge, pair: Pair) -> Verdict:
    try:
        verdicts: Any = judge.judge([pair])
    except UserError:
        raise
    except Exception as error:
        return _failed(judge, pair, f"the judge raised {type(error).__name__}: {error}")
    if not isinstance(verdicts, list) or len(verdicts) != 1:
        return _failed(judge, pair, "the judge did not give exactly one verdict")
    problem = _problem(judge, pair, verdicts[0])
    if problem:
        return _failed(judge, pair, problem)
    verdict: Verdict = verdicts[0]
    return verdict


def _problem(judge: Judge, pair: Pair, verdict: Any) -> str | None:
    """What is wrong with a verdict, or None."""
    prompt, response = pair
    if prompt.id != response.id:
        return f"the prompt's id {prompt.id!r} is not the response's {response.id!r}"
    if not isinstance(verdict, Verdict):
        return f"the judge gave a {type(verdict).__name__}, not a verdict"
    if verdict.id != response.id:
        return f"the verdict is for {verdict.id!r}"
    if verdict.judge != judge.name:
        return f"the verdict is signed {verdict.judge!r}"
    # A row that was built without validation (`model_construct`) can hold anything.
    label: Any = verdict.label
    if not isinstance(label, Label):
        return "the label is none of " + ", ".join(Label)
    if verdict.score is not None and not (math.isfinite(verdict.score) and 0 <= verdict.score <= 1):
        return f"the score {verdict.score} is no probability"
    return None


def _failed(judge: Judge, pair: Pair, reason: str) -> Verdict:
    return Verdict(id=pair[1].id, judge=judge.name, label=Label.FAILED, rationale=" ".join(reason.split())[:300])
