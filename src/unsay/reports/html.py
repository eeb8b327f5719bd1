"""`report.html`: one self-contained page from the scores and the files of a run."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from pydantic import JsonValue

from unsay.errors import UserError
from unsay.files import read_json, read_rows, read_text, write_text
from unsay.records import Kind, Phase, Prompt, Response, Verdict
from unsay.reports import numbers
from unsay.reports.attacks import MOST_ROWS, sections, strongest
from unsay.reports.charts import ORDER, bar_groups, panels, read_metrics, separation_rows, suite_groups, utility_rows
from unsay.reports.headline import compared_models, headline
from unsay.reports.imports import ImportedRow, imported
from unsay.reports.samples import Sample, choose
from unsay.scoring import PartRow, Scores, SuiteRow, TargetResult, TransferRow, read_scores
from unsay.scoring.limits import MAX_FAILED
from unsay.scoring.red_team import RedTeam, read_red_team
from unsay.scoring.robustness import Robustness, read_robustness
from unsay.scoring.subsets import Subset, by_subset, subset_of

Item = TypeVar("Item", Response, Verdict)

SECRET = re.compile(r"(?i)(api[_-]?key|secret|passw(or)?d|credential|authorization|bearer|(access|auth|hf)[_-]?token)")
HIDDEN = "(hidden)"
CODE = re.compile(r"`([^`\n]+)`")
MEASURES = {
    "asr": "attack success",
    "over_refusal": "over-refusal",
    "degenerate": "degenerate",
    "over_refusal_rise": "rise in over-refusal",
    "utility_loss": "loss of utility",
}


@dataclass(frozen=True)
class ReportInputs:
    """What `render` shows beside the scores; every part may be missing."""

    name: str = "run"
    metrics: list[dict[str, Any]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    environment: dict[str, JsonValue] = field(default_factory=dict)
    config: str = ""  # the text of `config.yaml`
    imported: list[ImportedRow] = field(default_factory=list)  # numbers of other harnesses
    red_team: RedTeam | None = None  # what the original model gave in to
    robustness: Robustness | None = None


def write_report(run_dir: Path) -> Path:
    """Write `report.html` from a run directory, atomically, and return its path.

    Only `scores.json` is required; what else is missing is left out of the page.
    """
    run_dir = Path(run_dir)
    path = run_dir / "scores.json"
    if not run_dir.is_dir():
        raise UserError(f"{run_dir}: no run there")
    if not path.exists():
        raise UserError(f"{path}: no such file; score the run before writing its report")
    scores = read_scores(path)
    page = run_dir / "report.html"
    write_text(page, render(scores, read_inputs(run_dir, scores)))
    return page


def render(scores: Scores, extras: ReportInputs) -> str:
    """The page as text. Everything that comes from outside is escaped, and the page loads nothing."""
    environment = page_templates()
    environment.filters["no_transfer"] = _no_transfer
    curves = panels(extras.metrics)
    page = environment.get_template("report.html.j2").render(
        scores=scores,
        extras=extras,
        max_failed=MAX_FAILED,
        compared=compared_models(scores),
        head=headline(scores),
        attacks=suite_groups(scores, Kind.ATTACK),
        benign=suite_groups(scores, Kind.BENIGN),
        separation=separation_rows(scores),
        utility=utility_rows(scores),
        bars=bar_groups(scores),
        labels=[label.value for label in ORDER],
        targets=[_target(result) for result in scores.targets],
        curves=[panel for panel in curves if panel.main],
        other_curves=[panel for panel in curves if not panel.main],
        samples_by_suite=_by_suite(scores, extras.samples),
        details=_details(scores),
        utility_parts=[row for row in scores.utility if row.parts or row.failed],
        judge=scores.judge.headline(),
        settings=flatten(redact(dict(scores.settings))),
        environment=flatten(extras.environment),
        total=_total(scores),
        attack_warnings=() if extras.robustness is None else extras.robustness.warnings,
        strongest=() if extras.robustness is None else strongest(extras.robustness),
        most_rows=MOST_ROWS,
        checks=() if extras.robustness is None else sections(extras.robustness),
        both_phases={row.phase for row in scores.rows} | {row.phase for row in scores.utility} == set(Phase),
    )
    return page.strip() + "\n"


def page_templates(room: str = "unsay.reports") -> Environment:
    """The templates of a room, with the parts and filters of reports. All that a page is given is escaped."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(room, "."), PackageLoader("unsay.reports", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = ("percent", "span", "points", "count", "part", "change", "flops", "memory", "seconds", "p_value")
    environment.filters |= {name: getattr(numbers, name) for name in filters}
    environment.filters["marked"] = marked
    return environment


def marked(text: str) -> Markup:
    """The text, escaped, with `code` in backticks set as code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(text))))


def read_inputs(run_dir: Path, scores: Scores) -> ReportInputs:
    """Read what a run directory holds beside its scores; a `UserError` names the file and line that are malformed."""
    config, path = run_dir / "config.yaml", run_dir / "environment.json"
    environment = read_json(path) if path.exists() else {}
    return ReportInputs(
        name=run_dir.resolve().name,
        metrics=read_metrics(run_dir / "train/metrics.jsonl"),
        samples=_samples(run_dir, scores),
        environment=redact(environment if isinstance(environment, dict) else {"environment": environment}),
        config=redact_yaml(read_text(config)) if config.exists() else "",
        imported=imported(run_dir),
        red_team=read_red_team(run_dir),
        robustness=read_robustness(run_dir),
    )


def _samples(run_dir: Path, scores: Scores) -> list[Sample]:
    judge_dir = _judge_dir(run_dir, scores.judge.name)
    samples: list[Sample] = []
    for suite in dict.fromkeys(row.suite for row in scores.rows):
        prompts = run_dir / "suites" / f"{suite}.jsonl"
        if prompts.exists():
            scored = [row.phase for row in scores.rows if row.suite == suite]  # an earlier evaluation may have had more
            answers = _by_phase(run_dir / "responses", suite, scored, Response)
            verdicts = _by_phase(judge_dir, suite, scored, Verdict)
            samples += choose(read_rows(prompts, Prompt), answers, verdicts, run_dir)
    return samples


def _by_phase(folder: Path, suite: str, phases: Iterable[Phase], kind: type[Item]) -> dict[Phase, dict[str, Item]]:
    """The rows of a suite by phase and id, of those phases that have a file."""
    files = {phase: folder / f"{suite}.{phase}.jsonl" for phase in phases}
    return {phase: {row.id: row for row in read_rows(file, kind)} for phase, file in files.items() if file.exists()}


def _judge_dir(run_dir: Path, judge: str) -> Path:
    """The folder of the judge that the scores name, or the only one."""
    named = run_dir / "verdicts" / judge
    if named.is_dir() or not named.parent.is_dir():
        return named
    folders = sorted(path for path in named.parent.iterdir() if path.is_dir())
    return folders[0] if len(folders) == 1 else named


def redact(value: dict[str, Any]) -> dict[str, Any]:
    """The same settings with anything named like a password or key hidden, because reports get passed on."""
    return {
        key: HIDDEN if SECRET.search(str(key)) else redact(item) if isinstance(item, dict) else item
        for key, item in value.items()
    }


def redact_yaml(text: str) -> str:
    """The same for YAML text, line by line, so that comments and order stay."""
    lines = []
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        lines.append(f"{key}: {HIDDEN}" if colon and value.strip() and SECRET.search(key) else line)
    return "\n".join(lines)


def flatten(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, text) pairs."""
    pairs: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            pairs += flatten(item, f"{name}.")
        else:
            pairs.append((name, item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)))
    return pairs


@dataclass(frozen=True)
class PartLine:
    """One part of a suite, before and after, as text."""

    part: str
    n: str
    before: str
    after: str


@dataclass(frozen=True)
class SuiteDetail:
    """What the page says of one suite beyond its rate."""

    title: str
    notes: tuple[str, ...]
    tables: tuple[tuple[str, tuple[PartLine, ...]], ...]  # (`category` or `image type`, lines)


def _details(scores: Scores) -> list[SuiteDetail]:
    """Every attack and benign suite: its condition, its repeats, what so few answers can show, and its parts."""
    details = []
    for subset, phases in by_subset(scores.rows).items():
        row = next(iter(phases.values()))
        parts = [part for part in scores.parts if subset_of(part) == subset]
        tables = []
        for by in dict.fromkeys(part.by for part in parts):
            of_this = [part for part in parts if part.by == by]
            lines = tuple(_part_line(name, of_this) for name in dict.fromkeys(part.part for part in of_this))
            tables.append((str(by), lines))
        details.append(SuiteDetail(row.title, tuple(_notes(row)), tuple(tables)))
    return details


def _part_line(name: str, parts: Iterable[PartRow]) -> PartLine:
    phases = {part.phase: part for part in parts if part.part == name}
    first = next(iter(phases.values()))
    distinct = f" ({first.unique} distinct)" if first.unique < first.n else ""
    return PartLine(name, f"{first.n}{distinct}", *(_part_cell(phases.get(phase)) for phase in Phase))


def _part_cell(part: PartRow | None) -> str:
    if part is None or part.interval is None:
        return numbers.DASH
    return f"{numbers.percent(part.rate)} ({numbers.span(part.interval)})"


def _notes(row: SuiteRow) -> Iterable[str]:
    yield f"Condition: {row.condition}."
    if row.unique < row.n:
        wordings = f" in {row.texts} wordings" if row.texts is not None else ""
        yield f"{row.n} prompts are {row.unique} distinct requests{wordings}; the interval resamples requests."
    if row.judged and row.detectable is not None:
        way = "drop" if row.kind is Kind.ATTACK else "rise"
        yield (
            f"With {row.judged} answers, another model on as many prompts would show a {way} of "
            f"{numbers.percent(row.detectable, 0)} or more (Fisher's exact test, 80% power)."
        )


def _target(result: TargetResult) -> dict[str, str]:
    """One line of the targets table."""
    target = result.target
    verdict = {True: "met", False: "missed", None: "undecided" if result.undecided else "not measured"}[result.met]
    show, unit = (numbers.points, " points") if target.is_change else (numbers.percent, "%")
    return {
        "title": result.title,
        "measure": MEASURES[target.measure] + ("" if target.is_change else f", {target.phase}"),
        "limit": f"{target.direction} {target.limit * 100:g}{unit}",
        "value": show(result.value),
        "verdict": verdict,
        "why": result.undecided,
    }


def _no_transfer(row: TransferRow) -> str:
    """Why there is no ratio: a side without verdicts says nothing about the drop on the other."""
    drops = (("text", row.drop_text), ("the image twin", row.drop_image))
    if unjudged := [name for name, drop in drops if drop is None]:
        return f"{' and '.join(unjudged)} not judged in both phases"
    return "no clear drop on text"


def _by_suite(scores: Scores, samples: Sequence[Sample]) -> list[tuple[str, list[Sample]]]:
    """Samples under the title of what they were scored with: each condition of a suite has a title of its own."""
    titles = {subset_of(row): row.title for row in scores.rows}
    groups: dict[Subset, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(subset_of(sample.prompt), []).append(sample)
    return [(titles.get(subset, subset[0]), group) for subset, group in groups.items()]


def _total(scores: Scores) -> dict[str, float]:
    """Sums over the stages; of memory the largest, because stages run one after the other."""
    sums = ("seconds", "text_tokens", "image_tokens", "flops", "judge_requests", "judge_tokens", "judge_price")
    peaks = ("peak_memory_bytes", "peak_accelerator_bytes")
    return {name: sum(getattr(row, name) for row in scores.cost) for name in sums} | {
        name: max((getattr(row, name) for row in scores.cost), default=0) for name in peaks
    }
