"""Requests that a person keeps from the playground, as rows of a suite file that `unsay evaluate` reads."""

import os
import shutil
from pathlib import Path
from threading import Lock

from unsay.errors import UserError
from unsay.files import append_text, atomic_path
from unsay.records import Condition, Prompt
from unsay.run.suites import Question, read_user_rows


class KeptRows:
    """The suite file of one playground; it is written with the first row that is kept."""

    def __init__(self, path: Path) -> None:
        """Rows are added to `path`; pictures go to the folder `<name>-images` beside it."""
        self.path = path
        self._lock = Lock()

    def add(self, prompt: Prompt) -> int:
        """Add a request, unless it is there already; returns the number of rows.

        Raises:
            UserError: no words, or the file cannot be written, or is no suite file.
        """
        with self._lock:
            known = self._ids()
            if prompt.id not in known:
                row = self._row(prompt).model_dump_json(exclude_none=True, exclude_defaults=True)
                append_text(self.path, f"\n{row}\n")  # an editor may have left the last line without its end
                known.add(prompt.id)
            return len(known)

    def _ids(self) -> set[str]:
        if not self.path.exists():
            return set()
        return {row.id for _, row in read_user_rows(self.path, Question, "questions")}

    def _row(self, prompt: Prompt) -> Question:
        if not prompt.prompt:
            raise UserError("a picture alone cannot be kept: a row of a suite file needs words beside it")
        image = None
        if prompt.image is not None:
            folder = self.path.with_name(f"{self.path.stem}-images")
            kept = folder / f"{prompt.id}{Path(prompt.image).suffix or '.png'}"
            with atomic_path(kept) as temporary:
                shutil.copyfile(prompt.image, temporary)
            image = os.path.relpath(kept, self.path.parent)
        return Question(
            id=prompt.id,
            prompt=prompt.prompt,
            image=image,
            kind=prompt.kind,
            request=prompt.request if prompt.request != prompt.prompt else None,
            category=prompt.category,
            condition=prompt.condition if prompt.condition in (Condition.BLANK, Condition.UNRELATED) else None,
        )
