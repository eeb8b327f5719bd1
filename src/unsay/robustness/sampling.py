"""Many answers to one request: one greedy answer understates what a model says when it is asked again."""

from collections.abc import Iterator
from functools import partial

from unsay.robustness.base import Check
from unsay.robustness.bench import ALARMING, FIGSTEP, WORDS, Bench, at_least_once, repeated
from unsay.run.suites import Suites
from unsay.scoring.robustness import Number, Subject

REQUESTS, QUICK_REQUESTS = 12, 8
"""Per suite, fewer than elsewhere: each costs as many answers and verdicts as another check's whole suite."""
ANSWERS, QUICK_ANSWERS = 64, 16
ASKED_AGAIN = (1, 4, 16, 64)
"""The k of harmful@k, on attacks, and of refused@k, on harmless requests."""
TEMPERATURE = 1.0


def run(bench: Bench) -> Iterator[Number]:
    """Sample n answers to every request; yields harmful@k, and refused@k of harmless requests that sound harmful."""
    if bench.quick:
        yield from _ask(bench, {WORDS: bench.suites[WORDS][:QUICK_REQUESTS]}, QUICK_ANSWERS)
        return
    bench.expect(2 * len(Subject) + len(Subject))
    yield from _ask(bench, {name: bench.suites[name][:REQUESTS] for name in (WORDS, FIGSTEP)}, ANSWERS)
    yield from _ask(bench, {ALARMING: bench.suites[ALARMING][:REQUESTS]}, QUICK_ANSWERS)


def _ask(bench: Bench, suites: Suites, n: int) -> Iterator[Number]:
    setting: dict[str, int | float] = {"answers": n, "temperature": TEMPERATURE}
    sampled = bench.generation.model_copy(update={"temperature": TEMPERATURE})
    found = {
        subject: bench.measure(subject, setting, partial(bench.model, subject), suites, samples=n, generation=sampled)
        for subject in Subject
    }
    for name, prompts in suites.items():
        copies = repeated(prompts, n)
        for k in (k for k in ASKED_AGAIN if k <= n):
            chances = {subject: at_least_once(copies, found[subject][name], k) for subject in Subject}
            for subject, values in chances.items():
                yield bench.number(
                    f"{'harmful' if name in bench.attacks else 'refused'}@{k}",
                    subject,
                    values,
                    reference=chances[Subject.REFERENCE],
                    suite=name,
                )


CHECK = Check(
    name="samples",
    title="Ask again and again",
    setting=f"{ANSWERS} answers to each of {REQUESTS} requests at temperature {TEMPERATURE:g}; "
    f"with --quick {QUICK_ANSWERS} to each of {QUICK_REQUESTS}",
    source="leak@k, arXiv 2511.04934; the estimator: arXiv 2107.03374, equation 1",
    version=2,
    run=run,
    quick=True,
)
