"""Verdicts that were paid for once, in an append-only file that survives being killed."""

import json
import threading
from pathlib import Path

from unsay.files import append_text, content_key
from unsay.judges.base import Pair
from unsay.records import Label, Verdict


class RememberedVerdicts:
    """Verdicts by what was judged and by whom. Failed ones are not kept: they are to be asked for again."""

    def __init__(self, path: Path, judge_key: str, *, by_row: bool = False) -> None:
        """Read what is there.

        Args:
            path: the file.
            judge_key: of the judge whose verdicts are kept.
            by_row: tell rows of equal words apart, for a judge may see more than words; else they share a verdict.
        """
        self._path = path
        self._by_row = by_row
        self._judge_key = judge_key
        self._lock = threading.Lock()
        self._rows: dict[str, Verdict] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []:
            try:
                key, row = json.loads(line)
                self._rows[str(key)] = Verdict.model_validate(row)
            except (ValueError, TypeError, RecursionError):
                continue  # a line torn by a kill, or of another version: that verdict is asked for again

    def get(self, pair: Pair) -> Verdict | None:
        """The verdict on this request and answer, whatever suite and phase it stood in."""
        row = self._rows.get(self._key(pair))
        return None if row is None else row.model_copy(update={"id": pair[1].id})

    def add(self, pair: Pair, verdict: Verdict) -> None:
        """Remember a verdict, written out before the call returns.

        Raises:
            UserError: the disk is full or the file cannot be written.
        """
        if verdict.label is Label.FAILED:
            return
        key = self._key(pair)
        with self._lock:
            self._rows[key] = verdict
            # The first line break ends a line that a kill may have torn.
            append_text(self._path, "\n" + json.dumps([key, verdict.model_dump(mode="json")]) + "\n")

    def _key(self, pair: Pair) -> str:
        prompt, response = pair
        more = [prompt.id] if self._by_row else []
        return content_key(self._judge_key, prompt.kind, prompt.in_full, response.response, *more)
