"""Answers by content key, in an append-only file that survives being killed."""

import json
from pathlib import Path

from unsay.files import append_text, content_key, file_key
from unsay.records import Prompt, Response


class ResponseCache:
    """Answers that were generated before, found by what decided them and not by where they stood."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, Response] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []:
            try:
                key, row = json.loads(line)
                self._rows[str(key)] = Response.model_validate(row)
            except (ValueError, TypeError, RecursionError):
                continue  # a line torn by a kill, or of another version: that answer is generated anew

    def get(self, prompt: Prompt, model_key: str) -> Response | None:
        """The answer to this prompt and image by this model, whatever suite it was asked in."""
        row = self._rows.get(_key(prompt, model_key))
        if row is None:
            return None
        return row.model_copy(
            update={"id": prompt.id, "suite": prompt.suite, "modality": prompt.modality, "image": prompt.image}
        )

    def add(self, pairs: list[tuple[Prompt, Response]]) -> None:
        """Remember answers, written out before the call returns.

        Raises:
            UserError: the disk is full or the file cannot be written.
        """
        lines = []
        for prompt, response in pairs:
            key = _key(prompt, response.model_key)
            self._rows[key] = response
            lines.append(json.dumps([key, response.model_dump(mode="json")]) + "\n")
        append_text(self.path, "\n" + "".join(lines))  # the first line break ends a line that a kill may have torn


def _key(prompt: Prompt, model_key: str) -> str:
    # A system prompt or earlier turns join only where there are any: keys of plain prompts stay what they were.
    said = [prompt.system, prompt.turns] if prompt.system is not None or prompt.turns else []
    return content_key(model_key, prompt.prompt, file_key(Path(prompt.image)) if prompt.image else None, *said)
