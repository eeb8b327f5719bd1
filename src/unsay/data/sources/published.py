"""Files that their authors publish: read from `UNSAY_DATA_DIR`, from the cache, or fetched from their address."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unsay.assets import Hub, Source, Url, derived, derived_folder
from unsay.data.sources.reading import DATA_DIR_VARIABLE, data_dir
from unsay.errors import UserError
from unsay.files import content_key, file_key

BY_HAND = "it comes by hand, and no hash of it is known here"
_COMMIT = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")


def commit_of(source: Source | None) -> str | None:
    """The commit that an address names, all 40 digits of it; None where it names a branch or none."""
    found = _COMMIT.search(repr(source))
    return None if found is None else found[0]


@dataclass(frozen=True)
class Published:
    """One file, or one folder of files, of a public data set.

    Attributes:
        path: where it lies under `UNSAY_DATA_DIR`.
        how: the one line that says how a person gets it.
        source: where it is fetched from, its revision pinned; None for what only a person can get: gated sets, archives
            to be unpacked, folders.
        sha256: the first 16 hex digits of a file's hash, where they are known; a fetched file must have it.
        floating: why nothing fixes its content, where neither a commit nor a hash does.
    """

    path: str
    how: str
    source: Source | None = None
    sha256: str | None = None
    floating: str = BY_HAND

    @property
    def here(self) -> bool:
        """Whether it can be read now, without a network."""
        return self._local() is not None or derived_folder(self._name, self._key).is_dir()

    @property
    def fetchable(self) -> bool:
        """Whether it can be fetched from its address."""
        return self.source is not None

    @property
    def missing(self) -> str:
        """What to do where it is not here."""
        return f"{self.path}: {self.how}"

    @property
    def pin(self) -> str:
        """What fixes the content of what is fetched: commit, sha256 or both; else `not pinned` and the reason."""
        checked = self.source is not None and self.sha256 is not None
        fixed = ["commit"] * (commit_of(self.source) is not None) + ["sha256"] * checked
        return " and ".join(fixed) or f"not pinned: {self.floating}"

    def find(self) -> Path:
        """Its path on this machine.

        Raises:
            UserError: it is not here and cannot be fetched; says how to get it.
        """
        if (local := self._local()) is not None:
            return local
        if self.source is None:
            folder = data_dir()
            if folder is None:
                raise UserError(f"set {DATA_DIR_VARIABLE} to a folder that holds {self.path}: {self.how}")
            raise UserError(f"{folder / self.path}: no such file or folder: {self.how}")
        return derived(self._name, self._key, self._fetch) / Path(self.path).name

    def _fetch(self, into: Path) -> None:
        assert self.source is not None
        name = Path(self.path).name
        self.source.fetch(into, [name])
        if self.sha256 is not None and file_key(into / name) != self.sha256:
            raise UserError(f"{self.path}: what was fetched is not the pinned file (wrong sha256); nothing was kept")

    def _local(self) -> Path | None:
        folder = data_dir()
        return folder / self.path if folder is not None and (folder / self.path).exists() else None

    @property
    def _name(self) -> str:
        return f"benchmark-{self.path.split('/')[0]}"

    @property
    def _key(self) -> str:
        return content_key(self.path, repr(self.source), self.sha256)


def github(
    path: str, repository: str, revision: str, file: str, sha256: str | None = None, floating: str = ""
) -> Published:
    """A file of a GitHub repository at a commit; see `hub` for `floating`."""
    url = f"https://raw.githubusercontent.com/{repository}/{revision}/{file}"
    return Published(path, f"`{file}` of github.com/{repository}", Url(url), sha256, floating)


def hub(
    path: str, dataset: str, file: str, revision: str = "main", sha256: str | None = None, floating: str = ""
) -> Published:
    """A file of a data set on the Hugging Face hub.

    Where no commit is known here (`main`), `floating` says why, and the first fetch decides: the cache keeps what it
    brought.
    """
    source = Hub(dataset, revision, file)
    return Published(path, f"`{file}` of huggingface.co/datasets/{dataset}", source, sha256, floating)


@dataclass(frozen=True)
class Pictures:
    """A folder of pictures.

    Attributes:
        path: where it lies under `UNSAY_DATA_DIR`.
        how: the one line that says how a person gets it.
        each: gives the source of one picture by its name, where they can be fetched one by one.
        floating: why nothing fixes their content, where no commit does.
    """

    path: str
    how: str
    each: Callable[[str], Source] | None = None
    floating: str = "they come by hand"

    @property
    def here(self) -> bool:
        """Whether the folder is in the benchmark folder."""
        folder = data_dir()
        return folder is not None and (folder / self.path).is_dir()

    @property
    def fetchable(self) -> bool:
        """Whether its pictures can be fetched one by one."""
        return self.each is not None

    @property
    def missing(self) -> str:
        """What to do where it is not here."""
        return f"{self.path}/: {self.how}"

    @property
    def pin(self) -> str:
        """As that of a file."""
        fixed = self.each is not None and commit_of(self.each("any")) is not None
        return "commit" if fixed else f"not pinned: {self.floating}"

    def picture(self, name: str) -> Path:
        """The path of one picture.

        Raises:
            UserError: it is not here and cannot be fetched, or its name leaves the folder.
        """
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise UserError(f"{self.path}: {name!r} is no picture of that folder")
        source = self.each(name) if self.each is not None else None
        return Published(f"{self.path}/{name}", self.how, source).find()
