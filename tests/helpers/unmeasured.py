"""A judge of which nothing is known: measuring the agreement of the real one with people takes seconds."""

from unsay.judges import Judge
from unsay.judges.agreement import Accuracy


def unmeasured(judge: Judge) -> Accuracy:
    """Stands in for `RulesJudge.accuracy`. Deleting that would stay in Python's cache of protocols for other tests."""
    return Accuracy(judge=judge.name, key=judge.key, measured_on="", calibration=None)
