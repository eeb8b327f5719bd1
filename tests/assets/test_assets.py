"""The cache: whole and verified, or not there. The real pip runs here too, against a folder or a local server."""

import errno
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from unsay import assets
from unsay.assets import ASSETS, Asset, Member, Progress, Source, Url, Wheel, cache, download
from unsay.errors import UserError
from unsay.files import atomic_path

CONTENT = b"some pinned content\n" * 50
HELD = "toy/data/held.txt"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Counting:
    """A source that writes `content` and counts how often it was asked."""

    content: bytes = CONTENT
    calls: ClassVar[list[Path]] = []

    def fetch(self, into: Path, paths: Sequence[str], progress: Progress | None = None) -> None:
        self.calls.append(into)
        for path in paths:
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            (into / path).write_bytes(self.content)


@dataclass(frozen=True)
class LocalFile:
    """A source that copies a file of this machine."""

    path: Path

    def fetch(self, into: Path, paths: Sequence[str], progress: Progress | None = None) -> None:
        if progress:
            progress(f"copying {self.path.name}")
        with atomic_path(into / paths[0]) as temporary:
            shutil.copyfile(self.path, temporary)


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """An empty cache and no user settings of pip's, except for the tests that share the real cache."""
    if request.node.get_closest_marker("pocket"):
        return assets.cache_dir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("UNSAY_CACHE_DIR", str(tmp_path / "cache"))
    Counting.calls.clear()
    return tmp_path / "cache"


def add(monkeypatch: pytest.MonkeyPatch, source: Source, content: bytes = CONTENT, path: str = HELD) -> None:
    pinned = Member(path, len(content), digest(content))
    monkeypatch.setitem(ASSETS, "toy", Asset("a toy", "MIT", source, (pinned,)))


def build_wheel(folder: Path, held: bytes = CONTENT) -> Wheel:
    """A wheel `toy-1.0` that no Python satisfies (it is never installed, so that must not matter)."""
    folder.mkdir(exist_ok=True)
    path = folder / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(HELD, held)
        archive.writestr("toy/__init__.py", "raise SystemExit('executed')")
        archive.writestr(
            "toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\nRequires-Python: >=99\n"
        )
        archive.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("toy-1.0.dist-info/RECORD", "")
    return Wheel("toy==1.0", digest(path.read_bytes()), path.stat().st_size)


def nothing_cached(root: Path) -> bool:
    """No file but lock files."""
    return [path.name for path in root.rglob("*") if path.is_file() and not path.name.endswith(".lock")] == []


# --- the cache ---------------------------------------------------------------------------------------------------


def test_override_and_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert assets.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("UNSAY_CACHE_DIR")
    assert "unsay" in assets.cache_dir().parts


def test_without_a_home_it_says_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSAY_CACHE_DIR", "~nobody-of-this-name/cache")
    with pytest.raises(UserError, match="set UNSAY_CACHE_DIR"):
        assets.cache_dir()


def test_fetches_once_and_reports_only_then(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "here.txt").write_bytes(CONTENT)
    add(monkeypatch, LocalFile(tmp_path / "here.txt"))
    said: list[str] = []
    first = assets.member("toy", HELD, said.append)
    assert first.read_bytes() == CONTENT
    assert len(said) == 1
    (tmp_path / "here.txt").unlink()
    assert assets.member("toy", HELD, said.append) == first
    assert len(said) == 1


def test_unknown_names_are_mistakes_in_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, Counting())
    with pytest.raises(KeyError):
        assets.member("no such asset", HELD)
    with pytest.raises(KeyError):
        assets.member("toy", "no/such/member")


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "folder"])
def test_a_damaged_file_is_fetched_again(monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    add(monkeypatch, Counting())
    path = assets.member("toy", HELD)
    if damage == "truncate":
        path.write_bytes(CONTENT[:-1])
    elif damage == "flip":  # same size: only the hash tells
        path.write_bytes(b"X" + CONTENT[1:])
        os.utime(path, ns=(1, 1))
    elif damage == "delete":
        path.unlink()
    else:
        shutil.rmtree(path.parent)
        path.parent.write_bytes(b"a file where a folder was")
    assert assets.member("toy", HELD).read_bytes() == CONTENT
    assert len(Counting.calls) == 2


def test_same_size_damage_is_found_by_the_next_process(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, Counting())
    path = assets.member("toy", HELD)
    before = path.stat()
    path.write_bytes(b"X" + CONTENT[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    cache._checked.clear()  # what a new process knows
    assert assets.member("toy", HELD).read_bytes() == CONTENT


def test_wrong_member_hash_keeps_nothing(monkeypatch: pytest.MonkeyPatch, private_cache: Path) -> None:
    add(monkeypatch, Counting(b"x" * len(CONTENT)))
    with pytest.raises(UserError, match=r"held\.txt: .*wrong sha256"):
        assets.member("toy", HELD)
    assert nothing_cached(private_cache)


def test_a_changed_pin_is_another_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, Counting())
    first = assets.member("toy", HELD)
    add(monkeypatch, Counting(b"second version"), b"second version")
    second = assets.member("toy", HELD)
    assert first.read_bytes() == CONTENT
    assert second.read_bytes() == b"second version"


def test_full_disk_is_one_line_and_keeps_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "here.txt").write_bytes(CONTENT)
    add(monkeypatch, LocalFile(tmp_path / "here.txt"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.shutil, "copyfile", full)
    with pytest.raises(UserError, match=r"^disk full[^\n]*$"):
        assets.member("toy", HELD)
    assert nothing_cached(tmp_path / "cache")


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file, not a folder")
    monkeypatch.setenv("UNSAY_CACHE_DIR", str(tmp_path / "occupied"))
    add(monkeypatch, Counting())
    with pytest.raises(UserError, match="UNSAY_CACHE_DIR"):
        assets.member("toy", HELD)


# --- derived folders ---------------------------------------------------------------------------------------------


def test_derived_is_built_once_and_again_when_damaged() -> None:
    built = []

    def build(into: Path) -> None:
        built.append(into)
        (into / "sub").mkdir()
        (into / "sub" / "weights").write_bytes(CONTENT)

    folder = assets.derived("toy", "k1", build)
    assert assets.derived("toy", "k1", build) == folder
    assert len(built) == 1
    assert (folder / "sub" / "weights").read_bytes() == CONTENT
    assert assets.derived("toy", "k2", build) != folder
    (folder / "sub" / "weights").write_bytes(CONTENT[:-5])
    assert assets.derived("toy", "k1", build) == folder
    assert (folder / "sub" / "weights").read_bytes() == CONTENT
    assert len(built) == 3


def test_derived_keeps_nothing_of_a_failed_build(private_cache: Path) -> None:
    def build(into: Path) -> None:
        (into / "half").write_bytes(b"half")
        raise RuntimeError("conversion failed")

    with pytest.raises(RuntimeError, match="conversion failed"):
        assets.derived("toy", "k", build)
    assert nothing_cached(private_cache)


def test_derived_refuses_names_that_leave_the_cache() -> None:
    with pytest.raises(ValueError, match="not a folder name"):
        assets.derived("../up", "k", lambda _: None)


KILLED = """
    import os, signal
    from unsay import assets
    def build(into):
        (into / "half").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    assets.derived("toy", "k", build)
"""


def test_a_killed_process_leaves_nothing_that_is_taken_for_good(private_cache: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED)], check=False)
    assert killed.returncode < 0
    assert [path.name for path in private_cache.rglob("half")] == ["half"]
    folder = assets.derived("toy", "k", lambda into: (into / "whole").write_bytes(b"whole") and None)
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == ["whole"]
    assert list(private_cache.rglob("half")) == []


AT_ONCE = """
    import sys, time
    from pathlib import Path
    from unsay import assets
    log = Path(sys.argv[1])
    def build(into):
        with log.open("a") as handle:
            handle.write("built\\n")
        time.sleep(0.5)
        (into / "whole").write_bytes(b"whole")
    assert (assets.derived("toy", "k", build) / "whole").read_bytes() == b"whole"
"""


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(AT_ONCE), str(tmp_path / "log")]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


# --- wheels, through the real pip --------------------------------------------------------------------------------


@pytest.fixture
def local_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def test_wheel_gives_only_the_pinned_member(
    monkeypatch: pytest.MonkeyPatch, local_index: Path, private_cache: Path
) -> None:
    add(monkeypatch, build_wheel(local_index))
    said: list[str] = []
    path = assets.member("toy", HELD, said.append)
    assert path.read_bytes() == CONTENT
    assert said
    kept = [item.name for item in private_cache.rglob("*") if item.is_file() and not item.name.endswith(".lock")]
    assert kept == ["held.txt"]


def test_wheel_with_another_hash_is_refused_by_pip(
    monkeypatch: pytest.MonkeyPatch, local_index: Path, private_cache: Path
) -> None:
    pinned = build_wheel(local_index)
    build_wheel(local_index, held=b"replaced on the index")
    add(monkeypatch, pinned)
    with pytest.raises(UserError, match=r"^toy==1\.0: [^\n]*wrong sha256[^\n]*$"):
        assets.member("toy", HELD)
    assert nothing_cached(private_cache)


def test_index_without_it(monkeypatch: pytest.MonkeyPatch, local_index: Path, private_cache: Path) -> None:
    wheel = build_wheel(local_index)
    shutil.rmtree(local_index)
    local_index.mkdir()
    add(monkeypatch, wheel)
    with pytest.raises(UserError, match=r"^toy==1\.0: the package index does not have it[^\n]*$"):
        assets.member("toy", HELD)
    assert nothing_cached(private_cache)


def test_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, private_cache: Path) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    add(monkeypatch, build_wheel(tmp_path / "unused"))
    with pytest.raises(UserError, match=r"^toy==1\.0: the package index cannot be reached[^\n]*$"):
        assets.member("toy", HELD)
    assert nothing_cached(private_cache)


def test_pip_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add(monkeypatch, build_wheel(tmp_path / "unused"))
    monkeypatch.setattr(download.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip is not installed[^\n]*ensurepip"):
        assets.member("toy", HELD)


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "^disk full"),
        ("ERROR: Exception:\nurllib3.exceptions.IncompleteRead: IncompleteRead(5 bytes read)", "interrupted"),
        ("error: incomplete-download\n× Download failed because not enough bytes were received", "interrupted"),
        ("ReadTimeoutError: HTTPSConnectionPool: Read timed out.\nERROR: No matching distribution", "interrupted"),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError: Failed to establish a new connection'\n"
            "ERROR: No matching distribution found",
            "cannot be reached",
        ),
        ("note\nERROR: something new\n", "pip could not download it: ERROR: something new$"),
        ("ERROR: Exception:\nTraceback:\n  File x\nValueError: odd\n", "could not download it: ValueError: odd$"),
        ("", "pip said nothing$"),
    ],
)
def test_each_failure_of_pip_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, private_cache: Path, output: str, line: str
) -> None:
    add(monkeypatch, build_wheel(tmp_path / "unused"))
    real = subprocess.Popen

    def failing(_: list[str], **options: object) -> "subprocess.Popen[bytes]":
        return real([sys.executable, "-c", f"print({output!r}); raise SystemExit(2)"], **options)

    monkeypatch.setattr(download.subprocess, "Popen", failing)
    with pytest.raises(UserError, match=line) as caught:
        assets.member("toy", HELD)
    assert "\n" not in str(caught.value)
    assert nothing_cached(private_cache)


def test_pip_does_not_outlive_ctrl_c(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, private_cache: Path) -> None:
    add(monkeypatch, build_wheel(tmp_path / "unused"))
    real = subprocess.Popen
    started: list[subprocess.Popen[bytes]] = []

    def sleeping(_: list[str], **options: object) -> "subprocess.Popen[bytes]":
        started.append(real([sys.executable, "-c", "import time; time.sleep(60)"], **options))
        return started[-1]

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(download.subprocess, "Popen", sleeping)
    with pytest.raises(KeyboardInterrupt):
        assets.member("toy", HELD, interrupt)
    assert started[0].poll() is not None
    assert nothing_cached(private_cache)


@pytest.mark.parametrize("path", ["../outside.txt", "/outside.txt", "a/../../outside.txt", "a\\..\\outside.txt"])
def test_unpacking_never_leaves_its_folder(tmp_path: Path, path: str) -> None:
    with zipfile.ZipFile(tmp_path / "evil.whl", "w") as archive:
        archive.writestr(path, "gotcha")
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="refused"):
        download.unpack(tmp_path / "evil.whl", [path], tmp_path / "in")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["evil.whl", "in"]


def test_unpacking_refuses_links_and_damage(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr(link, "/etc/hostname")
        archive.writestr("good", CONTENT)
    for path, message in (("link", "not a plain file"), ("absent", "no item named")):
        with pytest.raises(UserError, match=message):
            download.unpack(tmp_path / "w.whl", [path], tmp_path / "in")
    whole = (tmp_path / "w.whl").read_bytes()
    (tmp_path / "w.whl").write_bytes(whole.replace(CONTENT[:20], b"!" * 20))
    with pytest.raises(UserError, match="damaged archive"):
        download.unpack(tmp_path / "w.whl", ["good"], tmp_path / "in")
    (tmp_path / "w.whl").write_bytes(whole[:100])
    with pytest.raises(UserError, match="damaged archive"):
        download.unpack(tmp_path / "w.whl", ["good"], tmp_path / "in")
    assert not (tmp_path / "in" / "good").exists()


# --- addresses and local files -----------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """`/whole` serves the content, `/half` breaks off in the middle, and a simple index serves half a wheel."""

    wheel: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        body, announced = b"", None
        if self.path in ("/whole", "/half"):
            body, announced = CONTENT, len(CONTENT)
        elif self.path.endswith(".whl"):
            body, announced = self.wheel, len(self.wheel)
        elif self.path == "/simple/toy/":
            name = "toy-1.0-py3-none-any.whl"
            body = f'<!DOCTYPE html><html><body><a href="/{name}">{name}</a></body></html>'.encode()
            announced = len(body)
        if announced is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if self.path.startswith("/simple") else "application/zip")
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        broken = self.path == "/half" or self.path.endswith(".whl")
        self.wfile.write(body[: len(body) // 2] if broken else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_url_whole(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    add(monkeypatch, Url(f"{server}/whole"))
    said: list[str] = []
    assert assets.member("toy", HELD, said.append).read_bytes() == CONTENT
    assert said


@pytest.mark.parametrize(
    ("path", "message"), [("/half", "interrupted after [^\n]*$"), ("/absent", "the server answered 404")]
)
def test_url_failures_keep_nothing(
    monkeypatch: pytest.MonkeyPatch, server: str, private_cache: Path, path: str, message: str
) -> None:
    add(monkeypatch, Url(f"{server}{path}"))
    with pytest.raises(UserError, match=message):
        assets.member("toy", HELD)
    assert nothing_cached(private_cache)


def test_url_without_network_or_with_a_file_scheme(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add(monkeypatch, Url("http://127.0.0.1:9/file"))
    with pytest.raises(UserError, match=r"^cannot reach http://127\.0\.0\.1:9/file"):
        assets.member("toy", HELD)
    add(monkeypatch, Url((tmp_path / "secret").as_uri()))
    with pytest.raises(UserError, match="not an http or https address"):
        assets.member("toy", HELD)


def test_wheel_whose_download_breaks_off(
    monkeypatch: pytest.MonkeyPatch, server: str, tmp_path: Path, private_cache: Path
) -> None:
    wheel = build_wheel(tmp_path / "unused")
    monkeypatch.setattr(Handler, "wheel", (tmp_path / "unused" / "toy-1.0-py3-none-any.whl").read_bytes())
    monkeypatch.setenv("PIP_INDEX_URL", f"{server}/simple")
    add(monkeypatch, wheel)
    with pytest.raises(UserError, match=r"^toy==1\.0: [^\n]*(interrupted|broken)[^\n]*nothing was kept[^\n]*$"):
        assets.member("toy", HELD)
    assert nothing_cached(private_cache)


# --- the real table ----------------------------------------------------------------------------------------------


def test_every_pin_is_well_formed() -> None:
    for asset in ASSETS.values():
        assert isinstance(asset.source, Wheel)
        assert asset.source.requirement.count("==") == 1
        assert len({item.path for item in asset.members}) == len(asset.members)
        assert any("LICENSE" in item.path for item in asset.members)
        for value in (asset.source.sha256, *(item.sha256 for item in asset.members)):
            assert len(bytes.fromhex(value)) == 32


@pytest.mark.pocket
@pytest.mark.parametrize("name", sorted(ASSETS))
def test_the_real_asset_is_what_the_table_says(name: str) -> None:
    for item in ASSETS[name].members:
        assets.member(name, item.path)
    folder = cache._folder(name)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {item.path for item in ASSETS[name].members}
