"""How many harmful requests gave in to which way of asking: what drew a model's own harmful answers out of it."""

from pathlib import Path

from pydantic import ValidationError

from unsay.errors import UserError
from unsay.files import read_json
from unsay.records import Record
from unsay.statistics import Interval, wilson

FILE = "train/red_team.json"
"""Its place in a run directory."""


TITLES = {
    "words": "in words",
    "prefill": "with the first words of the answer given",
    "typographic": "as a picture",
    "figstep": "as the heading of an empty list, in a picture",
    "templates": "inside published jailbreaks",
    "samples": "in words again, sampled at temperature 1",
}
"""The ways (`unsay.generation.ways`), for people."""


class Attempt(Record):
    """One way of asking, tried on the requests that had not given in to any before it."""

    way: str
    """Its name in `data.own_answers.ways`."""
    detail: str = ""
    """Which of a way's several: the template's name, the first words, the number of the sample."""
    asked: int
    gave_in: int
    """Requests with an answer that the judge found harmful."""
    failed: int = 0
    """Requests without a verdict, which are in no share."""
    newly_judged: int
    """Requests with a verdict that had none from this way before: its earlier attempts failed, or did not fit them."""


class WayResult(Record):
    """All attempts of one way together."""

    way: str
    asked: int
    """Requests of which the judge could tell."""
    gave_in: int
    interval: Interval | None
    """Wilson's 95 % interval of the share that gave in; None where none was asked."""
    together: int
    """Requests that gave in to this way or to one before it."""

    @property
    def share(self) -> float | None:
        """Of these requests; None where there are none."""
        return self.gave_in / self.asked if self.asked else None

    @property
    def title(self) -> str:
        """How the request was put, in words."""
        return TITLES.get(self.way, self.way)


class RedTeam(Record):
    """`train/red_team.json`: what the original model gave in to. The order of ways matters: each asks what is left."""

    model: str
    judge: str
    answer_tokens: int
    """Longest answer, in tokens."""
    requests: int
    attempts: tuple[Attempt, ...] = ()
    wanted: int | None = None
    """Answers at which no further way was tried; None where every way was."""
    given: int = 0
    """Requests beside or among these whose harmful answer is their source's and not the model's."""

    @property
    def gave_in(self) -> int:
        """Requests that gave in to any way."""
        return sum(attempt.gave_in for attempt in self.attempts)

    @property
    def failed(self) -> int:
        """Answers without a verdict."""
        return sum(attempt.failed for attempt in self.attempts)

    @property
    def ways(self) -> list[WayResult]:
        """The ways in the order in which they were tried."""
        results, together = [], 0
        for way in dict.fromkeys(attempt.way for attempt in self.attempts):
            mine = [attempt for attempt in self.attempts if attempt.way == way]
            asked, gave_in = (sum(getattr(attempt, name) for attempt in mine) for name in ("newly_judged", "gave_in"))
            together += gave_in
            interval = wilson(gave_in, asked)
            results.append(WayResult(way=way, asked=asked, gave_in=gave_in, interval=interval, together=together))
        return results

    def __str__(self) -> str:
        """`complied with 60 of 180 requests (12 words, 40 prefill, 8 figstep; 2 were not judged)`."""
        parts = []
        if len(self.ways) > 1:
            parts.append(", ".join(f"{way.gave_in:,} {way.way}" for way in self.ways))
        if self.failed:
            parts.append(f"{self.failed:,} were not judged")
        inside = f" ({'; '.join(parts)})" if parts else ""
        return f"complied with {self.gave_in:,} of {self.requests:,} requests{inside}"


def read_red_team(run_dir: Path) -> RedTeam | None:
    """What a run's original model gave in to; None for a run that asked it nothing, or of an earlier version."""
    path = run_dir / FILE
    if not path.exists():
        return None
    try:
        return RedTeam.model_validate(read_json(path))
    except (UserError, ValidationError):
        return None  # torn or of another version: the next run of the same settings writes it anew
