"""How answers that are kept were asked for, where that is not as the settings say."""

import json
import threading
from collections.abc import Collection
from pathlib import Path

from unsay.endpoint.dialect import INSTEAD
from unsay.files import append_text


class Deviations:
    """An append-only file beside a cache: whoever uses an answer again must know, and asks the server nothing."""

    def __init__(self, cache: Path, key: str) -> None:
        """Read what is there.

        Args:
            cache: the file of answers; `x.jsonl` has `x.sent.jsonl` beside it.
            key: of what gave the answers; one cache may hold those of several.
        """
        self._path = cache.with_suffix(".sent.jsonl")
        self._key = key
        self._lock = threading.Lock()
        self.names: frozenset[str] = frozenset()
        text = self._path.read_text(encoding="utf-8", errors="replace") if self._path.exists() else ""
        for line in text.split("\n"):
            try:
                owner, names = json.loads(line)
                if owner == key:
                    self.names |= INSTEAD.keys() & set(names)
            except (ValueError, TypeError, RecursionError):
                continue  # a line torn by a kill: what it stood for was not kept yet

    def note(self, names: Collection[str]) -> None:
        """Write down which parameters the server did not take, before an answer so asked for is kept.

        Raises:
            UserError: the disk is full or the file cannot be written.
        """
        with self._lock:
            if new := sorted(set(names) - self.names):
                # The first line break ends a line that a kill may have torn.
                append_text(self._path, "\n" + json.dumps([self._key, new]) + "\n")
                self.names |= set(new)
