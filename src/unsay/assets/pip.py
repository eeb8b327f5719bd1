"""Downloading one pinned wheel with pip's own hash-checking mode, and saying in one line why it failed."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from unsay.errors import UserError
from unsay.files import write_text

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


def download(
    requirement: str, sha256: str, folder: Path, size: int, progress: Callable[[str], None] | None = None
) -> Path:
    """Download the wheel `requirement` (`name==version`) with exactly this sha256 into the new folder `folder`.

    pip runs as a child process with this interpreter, honours the user's own index settings, installs nothing,
    resolves no dependency, and keeps its temporary files inside `folder` too: one folder to remove, whatever happens.

    Args:
        requirement: exactly one pinned requirement.
        sha256: of the wheel, in hex.
        folder: made here; must not exist.
        size: of the wheel in bytes; only for the progress line.
        progress: told every half second how far it is.

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
    process: "subprocess.Popen[bytes]", temporary: Path, what: str, size: int, progress: Callable[[str], None] | None
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
