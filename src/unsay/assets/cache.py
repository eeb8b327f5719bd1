"""The cache: what is in it is whole and verified, or it is not in it.

    <cache>/assets/<name>-<key>/<member path>     files as they were fetched
    <cache>/derived/<name>-<key>/...              folders built from them

An entry is prepared in a temporary folder beside its place, verified, flushed to disk and renamed: a kill or a full
disk at any moment leaves either nothing or a folder that no one reads (and that the next fetch removes). Two
processes that want the same entry take turns at a lock file. The key is a hash of the asset's description, so a
changed pin is another entry.
"""

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from unsay.assets.download import Progress
from unsay.assets.table import ASSETS, Asset, Member
from unsay.errors import UserError
from unsay.files import content_key, read_json, write_json

FULL_CHECK_BYTES = 256 << 20
"""Members up to this size are hashed once in every process; larger ones are trusted by size after their fetch."""

MANIFEST = ".manifest.json"

_checked: set[tuple[str, int, int]] = set()
"""(path, size, mtime in ns) of files whose hash this process has seen to be right."""


def cache_dir() -> Path:
    """The cache folder: `UNSAY_CACHE_DIR`, else the platform's user cache folder for "unsay". It may not exist yet."""
    override = os.environ.get("UNSAY_CACHE_DIR")
    try:
        return Path(override).expanduser().absolute() if override else Path(platformdirs.user_cache_dir("unsay"))
    except RuntimeError as error:
        raise UserError(f"cache: {error}; set UNSAY_CACHE_DIR to a folder that can be written") from None


def member(name: str, path: str, progress: Progress | None = None) -> Path:
    """The path of one verified file of an asset, fetching the asset if it is not (or no longer rightly) in the cache.

    Every call compares the size, the first call in a process the sha256 too; a file that was damaged in the cache is
    fetched again.

    Raises:
        KeyError: no such asset or member (a mistake in the code, not in the world).
        UserError: it cannot be fetched, or what was fetched is not what was pinned.
    """
    asset = ASSETS[name]
    wanted = next((item for item in asset.members if item.path == path), None)
    if wanted is None:
        raise KeyError(f"asset {name} has no member {path}")
    folder = _folder(name)
    if not _intact(folder, wanted):
        with _exclusive(folder, f"waiting for another process to fetch {name}", progress):
            if not _intact(folder, wanted):
                _fetch(asset, folder, progress)
    return folder / path


def derived(name: str, key: str, build: Callable[[Path], None], progress: Progress | None = None) -> Path:
    """A folder that is computed once and then kept, for instance weights converted from one format to another.

    Args:
        name: what it is, for the folder name (`a-z A-Z 0-9 . _ -`).
        key: changes whenever the result would: see `unsay.files.content_key`.
        build: fills the empty folder it is given; whatever it raises is raised here, and nothing is kept.
        progress: receives one line when it has to be built.

    Returns:
        The folder. If one of its files has gone missing or changed size since, it is built again.
    """
    if not re.fullmatch(r"[\w.-]+", name + key, flags=re.ASCII):
        raise ValueError(f"not a folder name: {name}-{key}")
    folder = derived_folder(name, key)
    if not _complete(folder):
        with _exclusive(folder, f"waiting for another process to prepare {name}", progress):
            if not _complete(folder):
                if progress:
                    progress(f"preparing {name}")
                with _new_folder(folder) as temporary:
                    build(temporary)
                    write_json(temporary / MANIFEST, _sizes(temporary))
    return folder


def derived_folder(name: str, key: str) -> Path:
    """Where `derived` keeps the folder of that name and key; it may not exist yet."""
    return cache_dir() / "derived" / f"{name}-{key}"


def _folder(name: str) -> Path:
    asset = ASSETS[name]
    key = content_key(repr(asset.source), [(item.path, item.size, item.sha256) for item in asset.members])
    return cache_dir() / "assets" / f"{name}-{key}"


def _intact(folder: Path, wanted: Member) -> bool:
    """Whether the file is there, has the right size and (once per process and version of the file) the right hash."""
    path = folder / wanted.path
    try:
        status = path.stat()
        if status.st_size != wanted.size:
            return False
        seen = (str(path), status.st_size, status.st_mtime_ns)
        if wanted.size <= FULL_CHECK_BYTES and seen not in _checked:
            if _sha256(path) != wanted.sha256:
                return False
            _checked.add(seen)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    return True


def _fetch(asset: Asset, folder: Path, progress: Progress | None) -> None:
    with _new_folder(folder) as temporary:
        asset.source.fetch(temporary, [item.path for item in asset.members], progress)
        for item in asset.members:
            _verify(temporary / item.path, item)


def _verify(path: Path, wanted: Member) -> None:
    if not path.is_file():
        raise UserError(f"{wanted.path}: was not in the download; nothing was kept")
    if path.stat().st_size != wanted.size or _sha256(path) != wanted.sha256:
        raise UserError(f"{wanted.path}: its content is not the pinned one (wrong sha256); nothing was kept")


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def _exclusive(folder: Path, waiting: str, progress: Progress | None) -> Iterator[None]:
    """Hold the lock of one entry. The system releases it when the process dies, however it dies."""
    with _disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress:
                progress(waiting)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that takes the place of `folder` on success. Needs the entry's lock."""
    prefix = f".{folder.name}.part-"
    with _disk_errors(folder):
        # Whoever left these was killed: we hold the lock.
        for leftover in folder.parent.glob(f"{prefix}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=prefix))
    try:
        with _disk_errors(folder):
            yield temporary
            _flush(temporary)
            if folder.exists():
                folder.rename(temporary.with_name(f"{prefix}old"))
            temporary.chmod(0o755)
            temporary.rename(folder)
            _flush_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(temporary.with_name(f"{prefix}old"), ignore_errors=True)


def _flush(folder: Path) -> None:
    """Force a folder's content to disk, so that the rename cannot become durable before what it names."""
    for root, _, names in os.walk(folder):
        for name in names:
            with (Path(root) / name).open("rb") as handle:
                os.fsync(handle.fileno())
        _flush_folder(Path(root))


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"disk full while writing {path}: free some space, or set UNSAY_CACHE_DIR, and run it again"
            ) from error
        raise UserError(
            f"cannot write {path}: {error.strerror or error} (UNSAY_CACHE_DIR chooses the place)"
        ) from error


def _complete(folder: Path) -> bool:
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return False
    try:
        return bool(read_json(manifest) == _sizes(folder))
    except UserError:
        return False


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
