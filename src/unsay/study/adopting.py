"""What all arms have in common is made once: an arm takes over finished stages of the run of the untrained model."""

import shutil
from pathlib import Path

from pydantic import ValidationError

from unsay.errors import UserError
from unsay.files import append_text, atomic_path, read_json, write_json
from unsay.stages import StageRecord

STAGES = ("suites", "own-answers", "evaluate-before")
"""Stages that depend on the model and on what is asked, and not on how it is trained."""
ALONG = {"own-answers": ("train/cache.jsonl",), "evaluate-before": ("responses/cache.jsonl",)}
"""Answers that an arm may need although it asks for less, or for more; they join those that it has."""


def adopt(original: Path, arm: Path) -> None:
    """Copy finished stages of one run directory into another, with their dates, so that they are reused there.

    Nothing is taken on trust: a run compares the key of its own inputs with the stage's, and does the stage again where
    they differ. What was copied once is not copied again, for the arm may have made it anew for a good reason.
    """
    log = arm / "adopted.json"
    adopted = _log(log)
    for name in STAGES:
        record = _record(original, name)
        if record is None or adopted.get(name) == record.key:
            continue
        for path in (*record.outputs, f"stages/{name}.json"):
            if (original / path).is_file():
                with atomic_path(arm / path) as temporary:
                    shutil.copy2(original / path, temporary)
        for path in ALONG.get(name, ()):
            if (original / path).is_file():  # the arm's own answers stay; the first line break ends one torn by a kill
                append_text(arm / path, "\n" + (original / path).read_text(encoding="utf-8", errors="replace"))
        adopted[name] = record.key
        write_json(log, adopted)


def _record(run: Path, name: str) -> StageRecord | None:
    try:
        return StageRecord.model_validate(read_json(run / "stages" / f"{name}.json"))
    except (UserError, ValidationError):
        return None


def _log(path: Path) -> dict[str, str]:
    try:
        found = read_json(path)
    except UserError:
        return {}
    return {str(name): str(key) for name, key in found.items()} if isinstance(found, dict) else {}
