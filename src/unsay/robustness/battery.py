"""The checks of a run, one after the other, each a stage; none is lost when another fails. Writes `robustness.json`."""

import shutil
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from unsay.errors import UserError
from unsay.files import content_key, file_key, read_rows, write_json, write_rows, write_text
from unsay.judges.agreement import Judged
from unsay.models.failures import memory_advice, out_of_memory
from unsay.records import Prompt, Role
from unsay.robustness import CHECKS
from unsay.robustness.base import Check
from unsay.robustness.bench import ATTACKS, HARMLESS, Bench, Labels, Measured, Measurement
from unsay.run.directory import Adapter, Run, absolute_image, image_keys, relative_image
from unsay.run.environment import precision_settings
from unsay.run.examples import prepare_examples
from unsay.run.finished import public_name
from unsay.run.overlap import contamination_cautions
from unsay.run.score import judge_info
from unsay.run.suites import Suites
from unsay.scoring import SuiteCoverage
from unsay.scoring.robustness import (
    CheckResult,
    Outcome,
    Robustness,
    Subject,
    read_result,
    result_path,
    score_outcome,
    write_robustness,
)
from unsay.stages import Spent, StageRecord
from unsay.suites import Setting as Sampling
from unsay.suites import get_suite, suites_key

VERSION = 1
"""Raised by hand when the prompts or the models that all checks share would differ."""

REQUESTS, QUICK_REQUESTS = 24, 16
"""Per suite. A rate of one half is then known to ± 19 points, or 22; a check asks them once for each setting."""

Place: TypeAlias = tuple[Subject, str, str]
"""Subject, key of the setting, suite."""


def run_battery(run: Run, adapter: Adapter, checks: Sequence[Check], *, quick: bool = False) -> Robustness:
    """Run these checks on a run's adapter and on its original model, and write `robustness.json`.

    Results of other checks stay in the file while they are those of this adapter. A check that fails is written down as
    failed, and the others go on.

    Raises:
        UserError: the run has no forget examples, or a server answers for its model.
    """
    if run.config.evaluation.responder is not None:
        raise UserError("evaluation.responder: a server's model cannot be attacked from here; give the model itself")
    battery = _Battery(run, adapter, quick)
    if not run.examples_path.is_file():
        raise UserError(f"{run.examples_path}: missing; the checks need the examples that the run has unlearned")
    battery.bench(UNATTACKED, quick).examples(Role.FORGET)
    unattacked = battery.unattacked()
    results = {check.name: battery.result(check) for check in checks}
    for name in CHECKS.keys() - results.keys():
        if (earlier := battery.earlier(CHECKS[name])) is not None:
            results[name] = earlier
    result = Robustness(
        unattacked=unattacked,
        checks=tuple(results[name] for name in CHECKS if name in results),
        judge=battery.judge,
        asked=tuple(map(_coverage, battery.suites.values())),
        settings={
            "model": public_name(run.config.model),
            **precision_settings(run.config),
            "adapter": adapter.key,
            "seed": run.config.seed,
            "generation": run.config.evaluation.generation.model_dump(mode="json"),
        },
        warnings=tuple(contamination_cautions(adapter.folder, battery.suites)),
    )
    write_robustness(run.folder, result)
    return result


def make_examples(run: Run) -> None:
    """Make the examples of a directory in which nothing was trained, as a run makes them."""
    prepare_examples(run, _suites(run), training=False)


UNATTACKED = Check(
    name="unattacked",
    title="Ask both models without an attack",
    setting="nothing",
    source="",
    version=1,
    run=lambda _bench: (),
)
"""No check of its own, but what all of them are compared with."""


class _Battery:
    """What the checks of one call share."""

    def __init__(self, run: Run, adapter: Adapter, quick: bool) -> None:
        self.run, self.adapter, self.quick = run, adapter, quick
        # The measurement nearest to what is judged, as beside scores; most answers are as long as they may be.
        judged = Judged(tokens=run.config.evaluation.generation.max_new_tokens, jailbreaks=False)
        self.suites, self.judge = _suites(run), judge_info(run.judge, judged)
        self._images = image_keys(run.folder, chain.from_iterable(self.suites.values()))
        self._before: dict[Subject, Measured] = {}

    def bench(self, check: Check, quick: bool) -> Bench:
        """What a check is given."""
        key = content_key(self._inputs(check, quick))
        asked = {name: prompts[:QUICK_REQUESTS] if quick else prompts for name, prompts in self.suites.items()}
        return Bench(self.run, self.adapter, check, key, asked, quick, self._before)

    def result(self, check: Check) -> CheckResult:
        """Run a check, or take over what an earlier call found; an error becomes a result that says so."""
        stages, path = self.run.stages, self._path(check, self.quick)
        bench = self.bench(check, self.quick)

        def work(spent: Spent) -> CheckResult:
            bench.spent = spent
            numbers = tuple(check.run(bench))
            result = _about(check, self.quick).model_copy(
                update={
                    "outcomes": tuple(self._outcomes(bench.measurements)),
                    "numbers": numbers,
                    "notes": tuple(bench.notes),
                }
            )
            write_json(path, result.model_dump(mode="json"))
            return result

        try:
            found = stages.run(
                _stage(check, self.quick),
                check.title,
                self._stage_inputs(bench),
                [path],
                work,
                load=lambda: read_result(path),
            )
        except Exception as error:
            stages.progress.finish("failed")
            return _about(check, self.quick).model_copy(update={"failed": self._failure(check, error)})
        return _with_cost(found, *stages.records[-1])

    def unattacked(self) -> tuple[Outcome, ...]:
        """Both models without an attack, on all suites: what every check is compared with."""
        bench, progress = self.bench(UNATTACKED, quick=False), self.run.stages.progress
        progress.start(UNATTACKED.title, len(Subject) * len(self.suites))
        bench.expect(len(Subject) * len(self.suites))
        for subject in Subject:
            self._before[subject] = bench.measure(subject, {}, partial(bench.model, subject), self.suites)
        progress.finish("done")
        return tuple(self._outcomes(bench.measurements))

    def earlier(self, check: Check) -> CheckResult | None:
        """What an earlier call found, in full or else in short; None if that is not of this adapter or settings."""
        for quick in (False, True):
            path = self._path(check, quick)
            if not path.exists():
                continue
            inputs = self._stage_inputs(self.bench(check, quick))
            found = self.run.stages.finished(_stage(check, quick), inputs, [path], load=partial(read_result, path))
            if found is not None:
                return _with_cost(found[1], found[0], reused=True)
        return None

    def _stage_inputs(self, bench: Bench) -> list[Any]:
        """What decides the result: more than what decides an answer."""
        return [*self._inputs(bench.check, bench.quick), *bench.possible]

    def _inputs(self, check: Check, quick: bool) -> list[Any]:
        run = self.run
        return [
            VERSION,
            [check.name, check.version],
            run.model_key,
            self.adapter.key,
            run.judge.key,
            run.config.evaluation.generation,
            run.config.seed,
            file_key(run.examples_path),
            {name: [relative_image(run.folder, row) for row in prompts] for name, prompts in self.suites.items()},
            quick,
            *([run.config.train.max_answer_tokens] if check.cuts_answers else []),
            *([self._images] if self._images else []),
        ]

    def _path(self, check: Check, quick: bool) -> Path:
        return result_path(self.run.folder, check.name, quick)

    def _outcomes(self, measurements: Sequence[Measurement]) -> Iterator[Outcome]:
        """Every measurement with its rates, beside the one that it starts from and beside the reference's."""
        found: dict[Place, Labels] = {
            (row.subject, content_key(row.setting), row.suite): row.labels for row in measurements
        }
        # These last: a check may ask some requests without an attack, and others start from their whole suite.
        found |= {
            (subject, content_key({}), suite): labels
            for subject, measured in self._before.items()
            for suite, labels in measured.items()
        }
        for row in measurements:
            yield score_outcome(
                row.prompts,
                row.labels,
                row.subject,
                row.setting,
                self.judge,
                baseline=row.baseline,
                labels_of_baseline=found.get((row.subject, content_key(row.baseline), row.suite)),
                labels_of_reference=found.get((Subject.REFERENCE, content_key(row.setting), row.suite)),
                title=get_suite(row.suite).title,
                seed=self.run.config.seed,
            )

    def _failure(self, check: Check, error: Exception) -> str:
        """Why a check failed, in one line. Messages of others may quote what a model said, so only places are kept."""
        if isinstance(error, UserError):
            return error.line
        if out_of_memory(error):
            return f"out of memory. {memory_advice(self.run.config.model_settings, self.run.config.device)}"
        path = self._path(check, self.quick).with_name("failure.txt")
        write_text(path, "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__ + "\n")
        return f"{type(error).__name__}: an error of unsay or of a library; {path.name} in {path.parent} says where"


def _stage(check: Check, quick: bool) -> str:
    return f"robustness-{check.name}{'-quick' if quick else ''}"


def _about(check: Check, quick: bool) -> CheckResult:
    return CheckResult(
        check=check.name,
        title=check.title,
        source=check.source,
        version=check.version,
        quick=quick,
        setting=check.setting,
        axis=check.axis,
    )


def _with_cost(result: CheckResult, record: StageRecord, reused: bool) -> CheckResult:
    cost = record.model_dump(include=set(CheckResult.model_fields) & set(StageRecord.model_fields))
    return result.model_copy(update={**cost, "reused": reused})


def _coverage(prompts: Sequence[Prompt]) -> SuiteCoverage:
    suite = get_suite(prompts[0].suite)
    return SuiteCoverage(suite=suite.name, title=suite.title, asked=len(prompts), size=suite.size, limit=REQUESTS)


def _suites(run: Run) -> Suites:
    """The prompts of all checks, the same for every run; written into `robustness/suites/`."""
    folder = run.folder / "robustness" / "suites"
    suites = [get_suite(name) for name in (*ATTACKS, *HARMLESS)]
    paths = {suite.name: folder / f"{suite.name}.jsonl" for suite in suites}

    def work(_spent: Spent) -> Suites:
        shutil.rmtree(folder, ignore_errors=True)  # an edited picture must not pass for a fresh one
        for suite in suites:
            prompts = suite.prompts(Sampling(folder / "images", REQUESTS))
            write_rows(paths[suite.name], [relative_image(run.folder, row) for row in prompts])
        return load()

    def load() -> Suites:
        return {
            name: [absolute_image(run.folder, row) for row in read_rows(path, Prompt)] for name, path in paths.items()
        }

    def outputs(built: Suites) -> list[Path]:
        return [*paths.values(), *(Path(row.image) for prompts in built.values() for row in prompts if row.image)]

    title = "Build the suites that the checks ask"
    return run.stages.run("robustness-suites", title, [REQUESTS, suites_key(suites)], outputs, work, load=load)
