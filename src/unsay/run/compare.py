"""Two finished evaluations as before and after: the same items, paired, scored and shown as a run's two phases are."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import JsonValue

from unsay.data.pictures import pixel_key, read_image
from unsay.errors import UserError
from unsay.files import file_key, read_rows, read_text, write_json, write_rows, write_text
from unsay.records import Phase, Prompt, Response, Verdict
from unsay.reports import write_report
from unsay.reports.html import redact
from unsay.run.cautions import contamination_cautions, sampling_cautions
from unsay.run.directory import RESULTS, lock_directory
from unsay.run.evaluate import Value, template_path
from unsay.run.finished import VERSIONS, FinishedRun, public_name, read_run
from unsay.run.score import answer_conditions, answering_model, score
from unsay.scoring import Caution, CostRow, Scores, write_scores
from unsay.scoring.pairing import by_id

Said = TypeVar("Said", Response, Verdict, Value)
"""What came of a prompt."""
RUN = ("scores.json", "config.yaml")
"""What a finished run has."""
PRECISION = ("dtype", "quantisation")
"""What a run's settings say of the weights that answered."""


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        folder: its run directory, as it was given.
        phase: the phase of it that counts.
        run: its numbers and settings.
        suites: what that phase was asked; paths of pictures are absolute.
    """

    folder: Path
    phase: Phase
    run: FinishedRun
    suites: dict[str, list[Prompt]]

    @property
    def adapter(self) -> str | None:
        """The adapter that an evaluation put on; None where a run asked its own, or none."""
        given = self.run.scores.settings.get("adapter") if self.phase is Phase.AFTER else None
        return None if given is None else str(given)

    @property
    def method(self) -> str | None:
        """The method of a run that asked what it had unlearned itself."""
        given = self.run.scores.settings.get("method") if self.phase is Phase.AFTER else None
        return None if given is None else str(given)

    @property
    def name(self) -> str:
        """What answered."""
        model = public_name(answering_model(self.run.config))
        if self.adapter is not None:
            return f"{model} with {'/'.join(Path(self.adapter).parts[-2:])}"
        return model if self.method is None else f"{model} after {self.method}"

    def about(self, name: str) -> dict[str, JsonValue]:
        """What explains its half of the numbers, under a name that tells it from the other's."""
        config, said = self.run.config, self.run.scores.settings
        server = config.evaluation.responder
        learned = {"adapter": self.adapter, "method": self.method}
        return {
            "name": name,
            "run": str(self.folder),
            "phase": self.phase.value,
            "model": answering_model(config),
            **({} if server is None else {"server": server.url}),
            **({} if server is None or not server.extra else {"extra": _shown(server.extra)}),
            **{key: said[key] for key in PRECISION if key in said},
            **{key: value for key, value in learned.items() if value is not None},
            "seed": config.seed,
        }


def compare(before: Path | str, after: Path | str, out: Path, *, common: bool = False) -> Scores:
    """Pair two finished evaluations, and write `scores.json` and `report.html`.

    What the two were asked and said is copied into `out` in the layout of a run directory, so that its report can be
    written anew; pictures stay where they are.

    Args:
        before: a run directory, or `DIR:before` or `DIR:after` for a phase of it; its last phase if none is named.
        after: the same.
        out: the directory of the comparison.
        common: compare the suites that both were asked alike, and leave the others out.

    Raises:
        UserError: no finished run there, or one that is being written; the same evaluation twice; other suites, items,
            generation settings or judges; or `out` holds a run.
    """
    places = [_place(before), _place(after)]
    with ExitStack() as until_read:
        # What is read here must not be written meanwhile. Afterwards others may read it, as the next comparison does;
        # in one order, lest two that read the same wait for each other.
        for folder in sorted({folder.resolve() for folder, _ in places}):
            if (lock := lock_directory(folder, reading=True)) is not None:
                until_read.callback(lock.release)
        one, other = (_side(*place) for place in places)
        if (one.folder.resolve(), one.phase) == (other.folder.resolve(), other.phase):
            raise UserError(f"{one.folder}: its phase '{one.phase}' is given twice; name DIR:before and DIR:after")
        if (out / "config.yaml").exists():
            raise UserError(f"{out}: holds a run, whose scores would be lost; choose another --out")
        _check_alike(one, other)
        apart = _apart(one, other)
        names = [name for name in one.suites if name not in apart]
        if apart and not (common and names):
            advice = "; --common leaves them out" if names else ""
            raise UserError(f"{one.folder} and {other.folder} were not asked the same: {_listed(apart)}{advice}")
        _held = lock_directory(out)  # until this function returns
        for name in RESULTS:
            (out / name).unlink(missing_ok=True)
        sides = {Phase.BEFORE: one, Phase.AFTER: other}
        suites = {name: one.suites[name] for name in names}
        for phase, side in sides.items():
            _copy(side, out, phase, suites)
    write_json(out / "environment.json", {phase.value: side.run.environment for phase, side in sides.items()})
    scores = _scored(out, sides, suites, _cautions(sides, suites, apart))
    write_scores(out / "scores.json", scores)
    write_report(out)
    return scores


def _place(given: Path | str) -> tuple[Path, Phase | None]:
    """The directory and the phase that were named.

    Raises:
        UserError: no finished run there.
    """
    start, _, end = str(given).rpartition(":")
    named = bool(start) and end in set(Phase) and not Path(given).exists()
    folder = Path(start if named else given)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run directory")
    if missing := [name for name in RUN if not (folder / name).exists()]:
        raise UserError(f"{folder}: holds no finished run ({missing[0]} is missing)")
    return folder, Phase(end) if named else None


def _side(folder: Path, phase: Phase | None) -> Side:
    run = read_run(folder)
    asked = [*run.verdicts, *run.values]
    phases = [had for had in Phase if any(key[1] is had for key in asked)]
    if not phases or phase not in (None, *phases):
        said = f"no phase '{phase}', only '{phases[0]}'" if phases else "no suite that was asked"
        raise UserError(f"{folder}: has {said}")
    chosen = phase or phases[-1]
    suites = {
        suite: [_opened(folder, row) for row in read_rows(folder / "suites" / f"{suite}.jsonl", Prompt)]
        for suite in dict.fromkeys(suite for suite, had in asked if had is chosen)
    }
    return Side(folder, chosen, run, suites)


def _opened(folder: Path, row: Prompt) -> Prompt:
    """The row with a path that opens from anywhere; one that is absolute stays as it is."""
    return row if row.image is None else row.model_copy(update={"image": str(folder.resolve() / row.image)})


def _check_alike(one: Side, other: Side) -> None:
    """What decides answers and verdicts beside the models.

    Raises:
        UserError: it differs.
    """
    # How many prompts share a batch is no part of what is asked.
    first, second = (
        side.run.config.evaluation.generation.model_dump(exclude={"batch_tokens"}) for side in (one, other)
    )
    if differing := [name for name in first if first[name] != second[name]]:
        raise UserError(
            f"{one.folder} and {other.folder}: their generation settings differ in {', '.join(differing)}; evaluate "
            "one of them again"
        )
    judges = [side.run.scores.judge for side in (one, other)]
    if (judges[0].name, judges[0].key) != (judges[1].name, judges[1].key):
        names = [judge.name for judge in judges]
        said = f"'{names[0]}' and '{names[1]}'" if names[0] != names[1] else f"'{names[0]}' with other settings"
        raise UserError(
            f"{one.folder} and {other.folder}: their judges differ, {said}; evaluate one of them again with the "
            "other's judge, which keeps its answers"
        )


def _apart(one: Side, other: Side) -> dict[str, str]:
    """The suites that the two were not asked alike → how they differ."""
    found = {}
    for suite in dict.fromkeys((*one.suites, *other.suites)):
        if missing := [side for side in (one, other) if suite not in side.suites]:
            found[suite] = f"not asked in {missing[0].folder}, {missing[0].phase}"
            continue
        first, second = ({row.id: row for row in side.suites[suite]} for side in (one, other))
        every = first.keys() | second.keys()
        alike = sum(_same(first[id], second[id]) for id in first.keys() & second.keys())
        if alike < len(every):
            found[suite] = f"{len(every) - alike:,} of {len(every):,} items differ"
    return found


def _same(one: Prompt, other: Prompt) -> bool:
    """Whether two rows ask the same, in words and in the picture."""
    return one.model_dump(exclude={"image"}) == other.model_dump(exclude={"image"}) and _same_picture(
        one.image, other.image
    )


def _same_picture(one: str | None, other: str | None) -> bool:
    """By content; by name where a picture is not here, for a run may come from a machine that has the data."""
    if one is None or other is None or one == other:
        return one == other
    paths = Path(one), Path(other)
    if not all(path.is_file() for path in paths):
        return paths[0].name == paths[1].name
    if file_key(paths[0]) == file_key(paths[1]):
        return True
    return pixel_key(read_image(paths[0])) == pixel_key(read_image(paths[1]))


def _copy(side: Side, out: Path, phase: Phase, suites: dict[str, list[Prompt]]) -> None:
    """One side's files under the phase that it stands for, rows in the order of the prompts."""
    verdicts = f"verdicts/{side.run.scores.judge.name}"
    for name, prompts in suites.items():
        write_rows(out / "suites" / f"{name}.jsonl", prompts)
        files = f"{name}.{side.phase.value}.jsonl", f"{name}.{phase.value}.jsonl"
        _copy_rows(side.folder / "responses" / files[0], out / "responses" / files[1], Response, prompts)
        _copy_rows(side.folder / verdicts / files[0], out / verdicts / files[1], Verdict, prompts)
        _copy_rows(side.folder / "values" / files[0], out / "values" / files[1], Value, prompts)
    source, target = template_path(side.folder, side.phase), template_path(out, phase)
    target.unlink(missing_ok=True)
    if source.exists():
        write_text(target, read_text(source))


def _copy_rows(source: Path, target: Path, kind: type[Said], prompts: Sequence[Prompt]) -> None:
    """Nothing where there are none: utility suites have no verdicts, likelihoods no responses."""
    if source.exists():
        found = by_id(prompts, read_rows(source, kind), prompts[0].suite, source.parts[-2])
        write_rows(target, [found[prompt.id] for prompt in prompts])


def _scored(
    out: Path, sides: dict[Phase, Side], suites: dict[str, list[Prompt]], cautions: Sequence[Caution]
) -> Scores:
    one, other = sides.values()
    first, second = one.run.scores, other.run.scores
    names, generation = _names(sides), other.run.config.evaluation.generation
    hows = {phase: answer_conditions(out, [phase]) for phase in sides}
    both = hows[Phase.BEFORE].keys() & hows[Phase.AFTER].keys()
    # What only one of the two was sent is said of that one.
    own = {phase: {name: value for name, value in how.items() if name not in both} for phase, how in hows.items()}
    return score(
        out,
        suites,
        list(Phase),
        # The same judge; one of the two may have been compared with people since.
        second.judge if second.judge.accuracy else first.judge,
        other.run.seed,
        asked=[row for row in first.asked if row.suite in suites],
        settings={
            **{phase.value: {**side.about(names[phase]), **own[phase]} for phase, side in sides.items()},
            "generation": generation.model_dump(mode="json"),
            **{name: value for name, value in answer_conditions(out, list(Phase)).items() if name in both},
        },
        cost=[row for phase, side in sides.items() for row in _cost(side, phase)],
        left_out={name: why for name, why in first.left_out.items() if name in second.left_out},
        cautions=[
            *cautions,
            *(row for phase in sides for row in _of(names[phase], sampling_cautions(hows[phase], generation))),
        ],
    )


def _names(sides: dict[Phase, Side]) -> dict[Phase, str]:
    """What the two are called; with their directories where the same answered in both."""
    alike = len({side.name for side in sides.values()}) == 1
    return {phase: f"{side.name} ({side.folder})" if alike else side.name for phase, side in sides.items()}


def _cost(side: Side, phase: Phase) -> list[CostRow]:
    """What answering and judging took in its own run; nothing of it was done for the comparison."""
    stage = f"evaluate-{side.phase.value}"
    found = [row for row in side.run.scores.cost if row.stage == stage]
    return [row.model_copy(update={"stage": f"evaluate-{phase.value}", "reused": True}) for row in found]


def _cautions(sides: dict[Phase, Side], suites: dict[str, list[Prompt]], apart: dict[str, str]) -> list[Caution]:
    found = []
    if apart:
        text = f"Left out, for the two were not asked the same there: {_listed(apart)}."
        found.append(Caution(text=text, severe=True))
    one, other = (_versions(side.run) for side in sides.values())
    if differing := [name for name in dict.fromkeys((*one, *other)) if one.get(name) != other.get(name)]:
        said = ", ".join(f"{name} {one.get(name, 'unknown')} and {other.get(name, 'unknown')}" for name in differing)
        found.append(Caution(text=f"The two were made with different versions, which decide numbers too: {said}."))
    names = _names(sides)
    for phase, side in sides.items():
        found += _of(names[phase], (row.model_copy(update={"phase": phase}) for row in _known(side, suites)))
    return found


def _known(side: Side, suites: dict[str, list[Prompt]]) -> list[Caution]:
    """What its run knew of the model beside its numbers, and of an adapter what can be seen now, each once.

    Scores that were written by an earlier unsay do not tell the former from what numbers call for.
    """
    said = [caution for caution in side.run.scores.warnings if caution.phase is side.phase]
    seen = [] if side.adapter is None else contamination_cautions(Path(side.adapter), suites)
    return list({caution.text: caution for caution in (*said, *seen)}.values())


def _of(name: str, cautions: Iterable[Caution]) -> list[Caution]:
    """Cautions of one of the two, which say of which."""
    return [caution.model_copy(update={"text": f"{name}: {caution.text}"}) for caution in cautions]


def _shown(value: Any) -> Any:
    """A server's further fields without what is named like a key, in lists, too."""
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in redact(value).items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


def _versions(run: FinishedRun) -> dict[str, str]:
    """What decides numbers beside models and settings, by name."""
    found: dict[str, str] = {}
    for name in VERSIONS:
        value = run.environment.get(name)
        found |= {key: str(item) for key, item in value.items()} if isinstance(value, dict) else {name: str(value)}
    return found


def _listed(apart: dict[str, str]) -> str:
    return "; ".join(f"'{suite}' ({how})" for suite, how in apart.items())
