"""Compare two finished evaluations: paired, scored and reported like the two phases of a run."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import JsonValue

from unsay.data.pictures import pixel_key, read_image
from unsay.errors import UserError
from unsay.files import file_key, read_rows, write_json, write_rows
from unsay.records import Phase, Prompt, Response, Verdict
from unsay.reports import write_report
from unsay.reports.html import redact
from unsay.run.cautions import sampling_cautions
from unsay.run.directory import RESULTS, absolute_image, lock_directory
from unsay.run.evaluate import PhaseResult, Value, answer_conditions, conditions_path, read_phase
from unsay.run.finished import VERSIONS, FinishedRun, public_name, read_run
from unsay.run.overlap import contamination_cautions
from unsay.run.score import answering_model, score_phases
from unsay.run.suites import Suites
from unsay.scoring import Caution, CostRow, Scores, write_scores
from unsay.scoring.subsets import by_id

Answered = TypeVar("Answered", Response, Verdict, Value)
FINISHED_FILES = ("scores.json", "config.yaml")
OTHERS = {"config.yaml": "run", "study.yaml": "study"}
"""Files of directories that a comparison must not be written into → what is in them."""
PRECISION = ("dtype", "quantisation")
"""The settings of a run's scores that tell the precision of its weights."""

EARLIER_JUDGES = {"8a0e34ba6459e7ca": "d77d3ca6a2d024c7"}
"""Key of the packaged judge `probe` before judges had versions → its key since then; its verdicts are the same."""


@dataclass(frozen=True)
class Side:
    """One of the two evaluations: a phase of a finished run, with its prompts and answers."""

    folder: Path
    phase: Phase
    run: FinishedRun
    suites: Suites
    result: PhaseResult

    @property
    def adapter(self) -> str | None:
        """The adapter that was evaluated; None for the original model, and for a run that trained its own."""
        return self._setting_after("adapter")

    @property
    def method(self) -> str | None:
        """The method of a run that trained its own adapter; None otherwise."""
        return self._setting_after("method")

    def _setting_after(self, name: str) -> str | None:
        value = self.run.scores.settings.get(name) if self.phase is Phase.AFTER else None
        return None if value is None else str(value)

    @property
    def name(self) -> str:
        """The model that answered, for people."""
        model = public_name(answering_model(self.run.config))
        if self.adapter is not None:
            return f"{model} with {'/'.join(Path(self.adapter).parts[-2:])}"
        return model if self.method is None else f"{model} after {self.method}"

    def about(self, name: str) -> dict[str, JsonValue]:
        """The settings behind this side's numbers, under a name that tells it from the other side."""
        config, settings = self.run.config, self.run.scores.settings
        server = config.evaluation.responder
        learned = {"adapter": self.adapter, "method": self.method}
        return {
            "name": name,
            "run": str(self.folder),
            "phase": self.phase.value,
            "model": answering_model(config),
            **({} if server is None else {"server": server.url}),
            **({} if server is None or not server.extra else {"extra": _redacted(server.extra)}),
            **{key: settings[key] for key in PRECISION if key in settings},
            **{key: value for key, value in learned.items() if value is not None},
            "seed": config.seed,
        }


def compare(before: Path | str, after: Path | str, out: Path, *, common: bool = False) -> Scores:
    """Pair two finished evaluations, and write `scores.json` and `report.html` (see `unsay.compare`).

    Prompts, answers and verdicts are copied into `out` in the layout of a run directory, so that the report can be
    written again; pictures stay where they are.
    """
    places = [_parse_place(before), _parse_place(after)]
    with ExitStack() as until_read:
        # Nobody may write what is read here. Sorted, so that two comparisons of the same runs do not wait for each
        # other.
        for folder in sorted({folder.resolve() for folder, _ in places}):
            if (lock := lock_directory(folder, reading=True)) is not None:
                until_read.callback(lock.release)
        one, other = (_read_side(*place) for place in places)
        if (one.folder.resolve(), one.phase) == (other.folder.resolve(), other.phase):
            raise UserError(f"{one.folder}: its phase '{one.phase}' is given twice; name DIR:before and DIR:after")
        if kind := next((kind for name, kind in OTHERS.items() if (out / name).exists()), None):
            raise UserError(f"{out}: holds a {kind}, whose scores would be lost; choose another --out")
        _check_alike(one, other)
        differences = _differences(one, other)
        suites = {name: prompts for name, prompts in one.suites.items() if name not in differences}
        if differences and not (common and suites):
            advice = "; --common leaves them out" if suites else ""
            raise UserError(f"{one.folder} and {other.folder} were not asked the same: {_listed(differences)}{advice}")
        _lock = lock_directory(out)  # until this function returns
        for name in RESULTS:
            (out / name).unlink(missing_ok=True)
    sides = {Phase.BEFORE: one, Phase.AFTER: other}
    results = [_write_side(out, side, phase, suites) for phase, side in sides.items()]
    write_json(out / "environment.json", {phase.value: side.run.environment for phase, side in sides.items()})
    scores = _score(sides, results, suites, _cautions(sides, suites, differences))
    write_scores(out / "scores.json", scores)
    write_report(out)
    return scores


def _parse_place(given: Path | str) -> tuple[Path, Phase | None]:
    """The directory and the phase of `DIR` or `DIR:phase`."""
    start, _, end = str(given).rpartition(":")
    named = bool(start) and end in set(Phase) and not Path(given).exists()
    folder = Path(start if named else given)
    if not folder.is_dir():
        raise UserError(f"{folder}: no run there")
    if missing := [name for name in FINISHED_FILES if not (folder / name).exists()]:
        raise UserError(f"{folder}: holds no finished run ({missing[0]} is missing)")
    return folder, Phase(end) if named else None


def _read_side(folder: Path, phase: Phase | None) -> Side:
    run = read_run(folder)
    answered = [*run.verdicts, *run.values]
    phases = [each for each in Phase if any(of_phase is each for _, of_phase in answered)]
    if not phases or phase not in (None, *phases):
        problem = f"no phase '{phase}', only '{phases[0]}'" if phases else "no suite that was asked"
        raise UserError(f"{folder}: has {problem}")
    chosen = phase or phases[-1]
    suites = {
        name: [absolute_image(folder.resolve(), row) for row in read_rows(folder / "suites" / f"{name}.jsonl", Prompt)]
        for name in dict.fromkeys(name for name, of_phase in answered if of_phase is chosen)
    }
    return Side(folder, chosen, run, suites, read_phase(folder, suites, chosen, run.scores.judge.name))


def _check_alike(one: Side, other: Side) -> None:
    """Assert that generation settings and judge are the same."""
    # How many prompts share a batch does not change the request.
    first, second = (
        side.run.config.evaluation.generation.model_dump(exclude={"batch_tokens"}) for side in (one, other)
    )
    if differing := [name for name in first if first[name] != second[name]]:
        raise UserError(
            f"{one.folder} and {other.folder}: their generation settings differ in {', '.join(differing)}; evaluate "
            "one of them again"
        )
    judges = [side.run.scores.judge for side in (one, other)]
    keys = [EARLIER_JUDGES.get(judge.key, judge.key) for judge in judges]
    if (judges[0].name, keys[0]) != (judges[1].name, keys[1]):
        names = [judge.name for judge in judges]
        both = f"'{names[0]}' and '{names[1]}'" if names[0] != names[1] else f"'{names[0]}' with other settings"
        raise UserError(
            f"{one.folder} and {other.folder}: their judges differ, {both}; evaluate one of them again with the "
            "other's judge, which keeps its answers"
        )


def _differences(one: Side, other: Side) -> dict[str, str]:
    """The suites whose prompts are not the same on both sides → how they differ."""
    differences = {}
    for name in dict.fromkeys((*one.suites, *other.suites)):
        if missing := [side for side in (one, other) if name not in side.suites]:
            differences[name] = f"not asked in {missing[0].folder}, {missing[0].phase}"
            continue
        first, second = ({row.id: row for row in side.suites[name]} for side in (one, other))
        ids = first.keys() | second.keys()
        same = sum(_same_prompt(first[id], second[id]) for id in first.keys() & second.keys())
        if same < len(ids):
            differences[name] = f"{len(ids) - same:,} of {len(ids):,} items differ"
    return differences


def _same_prompt(one: Prompt, other: Prompt) -> bool:
    """Whether two prompts are the same, in words and in the picture."""
    return one.model_dump(exclude={"image"}) == other.model_dump(exclude={"image"}) and _same_picture(
        one.image, other.image
    )


def _same_picture(one: str | None, other: str | None) -> bool:
    """By content; by name where a picture is missing here, since a run may come from a machine that has the data."""
    if one is None or other is None or one == other:
        return one == other
    paths = Path(one), Path(other)
    if not all(path.is_file() for path in paths):
        return paths[0].name == paths[1].name
    if file_key(paths[0]) == file_key(paths[1]):
        return True
    return pixel_key(read_image(paths[0])) == pixel_key(read_image(paths[1]))


def _write_side(out: Path, side: Side, phase: Phase, suites: Suites) -> PhaseResult:
    """Write one side's files under the phase that it stands for; returns its result in the order of the prompts."""

    def write(folder: str, rows: Mapping[str, Sequence[Answered]]) -> dict[str, list[Answered]]:
        ordered = {}
        for name, prompts in suites.items():
            if name in rows:
                rows_by_id = by_id(prompts, rows[name], name, folder)
                ordered[name] = [rows_by_id[prompt.id] for prompt in prompts]
                write_rows(out / folder / f"{name}.{phase.value}.jsonl", ordered[name])
        return ordered

    for name, prompts in suites.items():
        write_rows(out / "suites" / f"{name}.jsonl", prompts)
    result = side.result
    conditions = conditions_path(out, phase)
    conditions.unlink(missing_ok=True)
    if result.conditions:
        write_json(conditions, result.conditions)
    return PhaseResult(
        phase,
        write("responses", result.responses),
        write(f"verdicts/{side.run.scores.judge.name}", result.verdicts),
        write("values", result.values),
        result.conditions,
    )


def _score(
    sides: dict[Phase, Side], results: Sequence[PhaseResult], suites: Suites, cautions: Sequence[Caution]
) -> Scores:
    first, second = (side.run.scores for side in sides.values())
    names, other = _names(sides), sides[Phase.AFTER].run
    generation = other.config.evaluation.generation
    conditions = {result.phase: answer_conditions([result]) for result in results}
    both = conditions[Phase.BEFORE].keys() & conditions[Phase.AFTER].keys()
    # A condition of only one side stands beside that side's name.
    own = {phase: {k: v for k, v in of_phase.items() if k not in both} for phase, of_phase in conditions.items()}
    sampling = (_with_name(names[phase], sampling_cautions(conditions[phase], generation)) for phase in sides)
    return score_phases(
        suites,
        results,
        # The same judge; one of the two may have been compared with people since.
        second.judge if second.judge.accuracy else first.judge,
        other.seed,
        asked=[row for row in first.asked if row.suite in suites],
        settings={
            **{phase.value: {**side.about(names[phase]), **own[phase]} for phase, side in sides.items()},
            "generation": generation.model_dump(mode="json"),
            **{name: value for name, value in answer_conditions(results).items() if name in both},
        },
        cost=[row for phase, side in sides.items() for row in _cost(side, phase)],
        left_out={name: why for name, why in first.left_out.items() if name in second.left_out},
        cautions=[*cautions, *(row for rows in sampling for row in rows)],
    )


def _names(sides: dict[Phase, Side]) -> dict[Phase, str]:
    """The names of the two sides; with their directories if the same model answered in both."""
    ambiguous = len({side.name for side in sides.values()}) == 1
    return {phase: f"{side.name} ({side.folder})" if ambiguous else side.name for phase, side in sides.items()}


def _cost(side: Side, phase: Phase) -> list[CostRow]:
    """The cost of answering and judging in the side's own run; nothing of it was spent on the comparison."""
    rows = [row for row in side.run.scores.cost if row.stage == f"evaluate-{side.phase.value}"]
    return [row.model_copy(update={"stage": f"evaluate-{phase.value}", "reused": True}) for row in rows]


def _cautions(sides: dict[Phase, Side], suites: Suites, differences: dict[str, str]) -> list[Caution]:
    cautions = []
    if differences:
        text = f"Left out, because the two were not asked the same there: {_listed(differences)}."
        cautions.append(Caution(text=text, severe=True))
    one, other = (_versions(side.run) for side in sides.values())
    if differing := [name for name in dict.fromkeys((*one, *other)) if one.get(name) != other.get(name)]:
        both = ", ".join(f"{name} {one.get(name, 'unknown')} and {other.get(name, 'unknown')}" for name in differing)
        cautions.append(Caution(text=f"The two were made with different versions, which decide numbers too: {both}."))
    names = _names(sides)
    for phase, side in sides.items():
        of_side = (row.model_copy(update={"phase": phase}) for row in _side_cautions(side, suites))
        cautions += _with_name(names[phase], of_side)
    return cautions


def _side_cautions(side: Side, suites: Suites) -> list[Caution]:
    """The cautions of its run about the model, and contamination of its adapter, each once.

    Scores of an earlier unsay do not tell the former from cautions that follow from the numbers.
    """
    stored = [caution for caution in side.run.scores.warnings if caution.phase is side.phase]
    current = [] if side.adapter is None else contamination_cautions(Path(side.adapter), suites)
    return list({caution.text: caution for caution in (*stored, *current)}.values())


def _with_name(name: str, cautions: Iterable[Caution]) -> list[Caution]:
    """The cautions with the name of the side that they are about."""
    return [caution.model_copy(update={"text": f"{name}: {caution.text}"}) for caution in cautions]


def _redacted(value: Any) -> Any:
    """A server's extra fields without those named like a key, in lists, too."""
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in redact(value).items()}
    return [_redacted(item) for item in value] if isinstance(value, list) else value


def _versions(run: FinishedRun) -> dict[str, str]:
    """The versions that decide numbers, by library."""
    versions: dict[str, str] = {}
    for name in VERSIONS:
        value = run.environment.get(name)
        versions |= {key: str(item) for key, item in value.items()} if isinstance(value, dict) else {name: str(value)}
    return versions


def _listed(differences: dict[str, str]) -> str:
    return "; ".join(f"'{name}' ({how})" for name, how in differences.items())
