"""The finished runs of a study, wherever they are: in its directory, or in what was handed over."""

from collections.abc import Iterator
from pathlib import Path

from unsay.errors import UserError
from unsay.pipeline.finished import read_run
from unsay.study.job import MADE, evaluation_key, read_outcome
from unsay.study.kept import Found, RunId
from unsay.study.plan import Plan
from unsay.study.settings import ORIGINAL, Folders


class Finder:
    """Finds runs; each is read once.

    Attributes:
        folders: the study's directory.
        known: runs that were handed over and turned out to be runs of this study.
    """

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.known: dict[RunId, Found] = {}
        self._read: dict[RunId, Found] = {}

    def original(self, model: str) -> Found | None:
        """The evaluation of a model without training; None if there is none."""
        found = self._find(RunId.original(model), self.folders.original(model))
        return None if isinstance(found, str) else found

    def run(self, model: str, variant: str, seed: int) -> Found | str:
        """A trained run, or why there is none."""
        return self._find(RunId.trained(model, variant, seed), self.folders.run(model, variant, seed))

    def forget(self, model: str) -> None:
        """Known runs of a model (its folder's name) are no longer runs of this study."""
        self.known = {which: found for which, found in self.known.items() if which.model != model}

    def every(self, planned: Plan) -> Iterator[tuple[RunId, Found]]:
        """All finished runs of a study."""
        for model in planned.study.models:
            if (original := self.original(model)) is not None:
                yield RunId.original(model), original
        for variant in planned.variants:
            for seed in planned.study.seeds:
                if not isinstance(found := self.run(variant.model, variant.name, seed), str):
                    yield RunId.trained(variant.model, variant.name, seed), found

    def _find(self, which: RunId, folder: Path) -> Found | str:
        if which in self.known:
            return self.known[which]
        if which in self._read:
            return self._read[which]
        outcome = read_outcome(folder)
        if outcome is None:
            return "it was not run to its end"
        if outcome.state == "failed":
            return outcome.reason
        if which.variant != ORIGINAL and not all((folder / path).exists() for path in MADE):
            return "some of its files are gone"
        try:
            evaluated = evaluation_key(folder) if which.variant == ORIGINAL else None
            run = read_run(folder).as_measured(which.phase)
        except UserError as error:
            return f"its files cannot be read: {error}".replace(f"{folder}/", "")
        self._read[which] = Found(run, outcome.key, evaluated)
        return self._read[which]
