"""Results of other harnesses beside our own: the JSON files that `lm-eval` and `lmms-eval` write.

Both write one object: `results` has, per task, `"<metric>,<filter>"` and `"<metric>_stderr,<filter>"` keys (the
standard error may be `"N/A"`) beside `alias` and other words; `n-samples`, `n-shot`, `higher_is_better` and `configs`
are by task; `lm_eval_version` or `lmms_eval_version` names the harness.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from unsay.errors import UserError
from unsay.files import content_key, read_json, read_rows, write_rows
from unsay.reports.numbers import is_number
from unsay.scoring.schema import Row

FOLDER = "imported"
"""In the run directory: one file of rows per import."""
STDERR = "_stderr"


class ImportedRow(Row):
    """One number of another harness."""

    harness: str  # `lm-eval 0.4.9`, or `lm-eval or lmms-eval` where the file does not say
    model: str
    task: str
    metric: str
    filter: str
    value: float
    stderr: float | None = None
    n: int | None = Field(None, ge=0)
    shots: int | None = None
    higher_is_better: bool | None = None


def import_results(run_dir: Path, path: Path) -> int:
    """Add the numbers of a results file to a run, so that its report shows them; returns how many they are.

    Importing the same file again changes nothing.
    """
    if not run_dir.is_dir():
        raise UserError(f"{run_dir}: no run there")
    rows = read_results(path)
    write_rows(run_dir / FOLDER / f"{content_key([row.model_dump() for row in rows])}.jsonl", rows)
    return len(rows)


def imported(run_dir: Path) -> list[ImportedRow]:
    """Every number that was imported into a run, sorted by harness, model and task."""
    folder = run_dir / FOLDER
    rows = [row for path in sorted(folder.glob("*.jsonl")) for row in read_rows(path, ImportedRow)]
    return sorted(rows, key=lambda row: (row.harness, row.model, row.task, row.metric, row.filter))


def read_results(path: Path) -> list[ImportedRow]:
    """The numbers of a results file, without words, standard errors without a metric and values that are not finite.

    A file without a single number is a `UserError`.
    """
    content = read_json(path)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise UserError(f"{path}: results: an object was expected; is it a results file of lm-eval or lmms-eval?")
    rows = [row for task, values in results.items() if isinstance(values, dict) for row in _task(content, task, values)]
    if not rows:
        raise UserError(f"{path}: results: holds no number")
    return rows


def _task(content: Mapping[str, Any], task: str, numbers: Mapping[str, Any]) -> list[ImportedRow]:
    rows = []
    for key, value in numbers.items():
        metric, comma, filtered = key.partition(",")
        if not comma or STDERR in metric or not is_number(value):
            continue
        error = numbers.get(f"{metric}{STDERR},{filtered}")
        better, counts, shots = (_of(content, name, task) for name in ("higher_is_better", "n-samples", "n-shot"))
        direction = better.get(metric) if isinstance(better, dict) else None
        effective = counts.get("effective") if isinstance(counts, dict) else None
        rows.append(
            ImportedRow(
                harness=_harness(content),
                model=_model(content),
                task=task,
                metric=metric,
                filter=filtered,
                value=float(value),
                stderr=float(error) if error is not None and is_number(error) else None,
                n=effective if isinstance(effective, int) and effective >= 0 else None,
                shots=shots if isinstance(shots, int) else None,
                higher_is_better=direction if isinstance(direction, bool) else None,
            )
        )
    return rows


def _of(content: Mapping[str, Any], name: str, task: str) -> Any:
    by_task = content.get(name)
    return by_task.get(task) if isinstance(by_task, dict) else None


def _harness(content: Mapping[str, Any]) -> str:
    for key, name in (("lmms_eval_version", "lmms-eval"), ("lm_eval_version", "lm-eval")):
        if key in content:
            return f"{name} {content[key]}"
    return "lm-eval or lmms-eval"


def _model(content: Mapping[str, Any]) -> str:
    config = content.get("config")
    arguments = config.get("model_args") if isinstance(config, dict) else None
    name = content.get("model_name") or arguments or "not stated"
    return name if isinstance(name, str) else json.dumps(name, ensure_ascii=False)
