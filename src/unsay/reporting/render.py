"""One self-contained HTML page from the scores and what surrounds them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unsay.errors import UserError
from unsay.files import write_text
from unsay.records import Kind, Phase
from unsay.reporting import numbers
from unsay.reporting.apart import apart
from unsay.reporting.charts import ORDER, bar_groups, suite_groups, utility_rows
from unsay.reporting.curves import panels
from unsay.reporting.details import details
from unsay.reporting.headline import headline
from unsay.reporting.inputs import ReportInputs, read_inputs, redact
from unsay.reporting.pieces import Piece, piece_of
from unsay.reporting.samples import Sample
from unsay.scoring import Scores, TargetResult, TransferRow, read_scores

MEASURES = {
    "asr": "attack success",
    "over_refusal": "over-refusal",
    "degenerate": "degenerate",
    "over_refusal_rise": "rise in over-refusal",
    "utility_loss": "loss of utility",
}


def write_report(run_dir: Path) -> Path:
    """Write `report.html` from a run directory, atomically, and return its path.

    Only `scores.json` must be there; what else is missing is left out of the page.

    Raises:
        UserError: no such run, no scores, or a malformed file.
    """
    run_dir = Path(run_dir)
    path = run_dir / "scores.json"
    if not run_dir.is_dir():
        raise UserError(f"{run_dir}: no such run directory")
    if not path.exists():
        raise UserError(f"{path}: no such file; score the run before writing its report")
    scores = read_scores(path)
    page = run_dir / "report.html"
    write_text(page, render(scores, read_inputs(run_dir, scores)))
    return page


def render(scores: Scores, extras: ReportInputs) -> str:
    """The page as text. Everything that comes from outside is escaped; nothing is loaded from anywhere."""
    environment = Environment(
        loader=PackageLoader("unsay.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": numbers.percent,
        "span": numbers.span,
        "points": numbers.points,
        "count": numbers.count,
        "part": numbers.part,
        "change": numbers.change,
        "flops": numbers.flops,
        "memory": numbers.memory,
        "seconds": numbers.seconds,
        "p_value": numbers.p_value,
        "no_transfer": _no_transfer,
    }
    curves = panels(extras.metrics)
    page = environment.get_template("report.html.j2").render(
        scores=scores,
        extras=extras,
        apart=apart(scores),
        head=headline(scores),
        attacks=suite_groups(scores, Kind.ATTACK),
        benign=suite_groups(scores, Kind.BENIGN),
        utility=utility_rows(scores),
        bars=bar_groups(scores),
        labels=[label.value for label in ORDER],
        targets=[_target(result) for result in scores.targets],
        curves=[panel for panel in curves if panel.main],
        other_curves=[panel for panel in curves if not panel.main],
        samples_by_suite=_by_suite(scores, extras.samples),
        details=details(scores),
        utility_parts=[row for row in scores.utility if row.parts or row.failed],
        judge=scores.judge.headline(),
        settings=flatten(redact(dict(scores.settings))),
        environment=flatten(extras.environment),
        total=_total(scores),
        both_phases={row.phase for row in scores.rows} | {row.phase for row in scores.utility} == set(Phase),
    )
    return page.strip() + "\n"


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


def _target(result: TargetResult) -> dict[str, str]:
    """One line of the targets table."""
    target = result.target
    phase = "" if target.measure in ("over_refusal_rise", "utility_loss") else f", {target.phase}"
    verdict = {True: "met", False: "missed", None: "undecided" if result.undecided else "not measured"}[result.met]
    rise = target.measure in ("over_refusal_rise", "utility_loss")
    show = numbers.points if rise else numbers.percent
    return {
        "title": result.title,
        "measure": f"{MEASURES[target.measure]}{phase}",
        "limit": f"{target.direction} {target.limit * 100:g}{' points' if rise else '%'}",
        "value": show(result.value),
        "verdict": verdict,
        "why": result.undecided,
    }


def _no_transfer(row: TransferRow) -> str:
    """Why there is no ratio: a side that lacks verdicts says nothing of the drop on the other."""
    drops = (("text", row.drop_text), ("the image twin", row.drop_image))
    if unjudged := [name for name, drop in drops if drop is None]:
        return f"{' and '.join(unjudged)} not judged in both phases"
    return "no clear drop on text"


def _by_suite(scores: Scores, samples: Sequence[Sample]) -> list[tuple[str, list[Sample]]]:
    """Samples under the title of what they were scored with: a suite's conditions have a title each."""
    titles = {piece_of(row): row.title for row in scores.rows}
    groups: dict[Piece, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(piece_of(sample), []).append(sample)
    return [(titles.get(piece, piece[0]), group) for piece, group in groups.items()]


def _total(scores: Scores) -> dict[str, float]:
    """Sums over the stages; memory is the largest, for stages run one after the other."""
    return {
        "seconds": sum(row.seconds for row in scores.cost),
        "text_tokens": sum(row.text_tokens for row in scores.cost),
        "image_tokens": sum(row.image_tokens for row in scores.cost),
        "flops": sum(row.flops for row in scores.cost),
        "judge_requests": sum(row.judge_requests for row in scores.cost),
        "judge_tokens": sum(row.judge_tokens for row in scores.cost),
        "judge_price": sum(row.judge_price for row in scores.cost),
        "peak_memory_bytes": max((row.peak_memory_bytes for row in scores.cost), default=0),
        "peak_accelerator_bytes": max((row.peak_accelerator_bytes for row in scores.cost), default=0),
    }
