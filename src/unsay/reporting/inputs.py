"""Everything beside the scores that a report shows, read from a run directory; every part may be missing."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from unsay.files import read_json, read_rows, read_text
from unsay.records import Phase, Prompt, Response, Verdict
from unsay.reporting.curves import read_metrics
from unsay.reporting.imports import ImportedRow, imported
from unsay.reporting.samples import Sample, choose
from unsay.scoring import Scores

SECRET = re.compile(r"(?i)(api[_-]?key|secret|passw(or)?d|credential|authorization|bearer|(access|auth|hf)[_-]?token)")
HIDDEN = "(hidden)"


@dataclass(frozen=True)
class ReportInputs:
    """What `render` shows beside the scores."""

    name: str = "run"
    metrics: list[dict[str, Any]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    environment: dict[str, JsonValue] = field(default_factory=dict)
    config: str = ""
    """The text of `config.yaml`."""
    imported: list[ImportedRow] = field(default_factory=list)
    """Numbers of other harnesses."""


def read_inputs(run_dir: Path, scores: Scores) -> ReportInputs:
    """Read what there is in a run directory.

    Raises:
        UserError: a file that exists but is malformed; names the file and the line.
    """
    metrics, environment, config = (
        run_dir / part for part in ("train/metrics.jsonl", "environment.json", "config.yaml")
    )
    found = read_json(environment) if environment.exists() else {}
    return ReportInputs(
        name=run_dir.resolve().name,
        metrics=read_metrics(metrics) if metrics.exists() else [],
        samples=_samples(run_dir, scores),
        environment=redact(found if isinstance(found, dict) else {"environment": found}),
        config=redact_yaml(read_text(config)) if config.exists() else "",
        imported=imported(run_dir),
    )


def _samples(run_dir: Path, scores: Scores) -> list[Sample]:
    judge_dir = _judge_dir(run_dir, scores.judge.name)
    samples: list[Sample] = []
    for suite in dict.fromkeys(row.suite for row in scores.rows):
        path = run_dir / "suites" / f"{suite}.jsonl"
        if not path.exists():
            continue
        answers: dict[Phase, dict[str, Response]] = {}
        verdicts: dict[Phase, dict[str, Verdict]] = {}
        for phase in Phase:
            said = run_dir / "responses" / f"{suite}.{phase}.jsonl"
            if said.exists():
                answers[phase] = {row.id: row for row in read_rows(said, Response)}
            judged = judge_dir / f"{suite}.{phase}.jsonl"
            if judged.exists():
                verdicts[phase] = {row.id: row for row in read_rows(judged, Verdict)}
        samples += choose(read_rows(path, Prompt), answers, verdicts, run_dir)
    return samples


def _judge_dir(run_dir: Path, judge: str) -> Path:
    """The folder of the judge that the scores name, or the only one there is."""
    named = run_dir / "verdicts" / judge
    if named.is_dir() or not named.parent.is_dir():
        return named
    folders = sorted(path for path in named.parent.iterdir() if path.is_dir())
    return folders[0] if len(folders) == 1 else named


def redact(value: dict[str, Any]) -> dict[str, Any]:
    """The same settings with anything that is named like a password or key hidden: reports get passed on."""
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
