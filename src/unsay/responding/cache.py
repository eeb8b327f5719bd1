"""Answers by content key, in an append-only file that survives being killed."""

import json
from pathlib import Path

from pydantic import ValidationError

from unsay.files import content_key, file_key
from unsay.records import Prompt, Response


class ResponseCache:
    """Answers that were generated before, found by what decided them and not by where they stood."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, Response] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
            try:
                key, row = json.loads(line)
                self._rows[str(key)] = Response.model_validate(row)
            except (json.JSONDecodeError, ValidationError, ValueError, TypeError):
                continue  # a line torn by a kill

    def get(self, prompt: Prompt, model_key: str) -> Response | None:
        """The answer to this prompt and image by this model, whatever suite it was asked in."""
        row = self._rows.get(_key(prompt, model_key))
        if row is None:
            return None
        return row.model_copy(
            update={"id": prompt.id, "suite": prompt.suite, "modality": prompt.modality, "image": prompt.image}
        )

    def add(self, pairs: list[tuple[Prompt, Response]]) -> None:
        """Remember answers, on disk before the call returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write("\n")  # ends a line that a kill may have torn
            for prompt, response in pairs:
                key = _key(prompt, response.model_key)
                self._rows[key] = response
                handle.write(json.dumps([key, response.model_dump(mode="json")]) + "\n")


def _key(prompt: Prompt, model_key: str) -> str:
    return content_key(model_key, prompt.prompt, file_key(Path(prompt.image)) if prompt.image else None)
