"""Published files: from the benchmark folder, from the cache, or fetched once from a pinned address; all faked here."""

import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer

import huggingface_hub
import pytest

from unsay.assets import Hub, Url
from unsay.data.published import Pictures, Published, github, hub
from unsay.errors import UserError
from unsay.files import file_key
from unsay.suites import SUITES, Setting


@pytest.fixture(autouse=True)
def _nothing_here(tmp_path, monkeypatch):
    monkeypatch.delenv("UNSAY_DATA_DIR", raising=False)
    monkeypatch.setenv("UNSAY_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def server():
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            found = self.path.endswith(".csv")
            self.send_response(200 if found else 404)
            body = b"prompt\n[request 1]\n" if found else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}", asked
    http.shutdown()


def test_a_file_is_fetched_once_and_kept(server):
    address, asked = server
    file = Published("set/a.csv", "somewhere", Url(f"{address}/commit/a.csv"))
    assert not file.here
    path = file.find()
    assert path.read_text() == "prompt\n[request 1]\n"
    assert file.here
    assert file.find() == path
    assert asked == ["/commit/a.csv"]
    # Another revision is another file.
    assert not Published("set/a.csv", "somewhere", Url(f"{address}/other/a.csv")).here


def test_the_benchmark_folder_comes_first(server, tmp_path, monkeypatch):
    address, asked = server
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.csv").write_text("mine")
    monkeypatch.setenv("UNSAY_DATA_DIR", str(tmp_path))
    assert Published("set/a.csv", "somewhere", Url(f"{address}/a.csv")).find() == tmp_path / "set/a.csv"
    assert asked == []


def test_a_wrong_hash_keeps_nothing(server, tmp_path):
    address, _ = server
    wrong = Published("set/a.csv", "somewhere", Url(f"{address}/a.csv"), "0" * 16)
    with pytest.raises(UserError, match=r"wrong sha256\); by hand it goes to set/a\.csv of the folder .*: somewhere$"):
        wrong.find()
    assert not wrong.here
    good = Published("set/a.csv", "somewhere", Url(f"{address}/a.csv"))
    assert Published("set/a.csv", "somewhere", good.source, file_key(good.find())).find().exists()


def test_what_cannot_be_fetched_is_one_line(server):
    address, _ = server
    with pytest.raises(UserError, match=r"404 Not Found; by hand it goes to set/a\.txt of the folder .*: somewhere$"):
        Published("set/a.txt", "somewhere", Url(f"{address}/a.txt")).find()
    with pytest.raises(UserError, match=r"^cannot reach \S+: .*; by hand it goes to set/b of the .*: somewhere$"):
        Published("set/b", "somewhere", Url("http://127.0.0.1:9/b")).find()
    with pytest.raises(UserError, match=r"^set UNSAY_DATA_DIR to a folder that holds set/b: by hand$"):
        Published("set/b", "by hand").find()


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    asked = []

    def download(dataset, file, *, repo_type, revision):
        asked.append((dataset, file, repo_type, revision))
        path = tmp_path / "hub" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([{"question": "[request 1]", "category": "morality", "image": "S-01.png"}]))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def test_the_hub_is_asked_for_the_pinned_revision(fake_hub):
    file = hub("set/a.json", "owner/name", "data/a.json", "abc123")
    assert json.loads(file.find().read_text())[0]["question"] == "[request 1]"
    file.find()
    assert fake_hub == [("owner/name", "data/a.json", "dataset", "abc123")]


def test_only_the_pictures_that_are_asked_for_are_fetched(fake_hub, tmp_path):
    suite = SUITES["siuo"]
    assert "fetched when the suite is named" in suite.missing()
    rows = suite.prompts(Setting(tmp_path / "images"))
    assert len(rows) == 1
    assert [file for _, file, _, _ in fake_hub] == ["siuo_gen.json", "images/S-01.png"]
    assert {revision for _, _, _, revision in fake_hub} == {"024e80a01795376b9fed12f8073a12f2275f22ee"}


@pytest.mark.parametrize("status", [401, 404, 500])
def test_the_hubs_refusals_are_one_line(monkeypatch, status, tmp_path):
    from huggingface_hub.errors import HfHubHTTPError

    class Answer:
        status_code = status

    def refused(*_args, **_more):
        error = HfHubHTTPError.__new__(HfHubHTTPError)
        Exception.__init__(error, "two\nlines")
        error.response = Answer()
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refused)
    with pytest.raises(UserError, match=f"the hub answered {status}") as found:
        Hub("owner/name", "abc", "a.json").fetch(tmp_path, ["a.json"])
    assert "\n" not in str(found.value)
    assert ("HF_TOKEN" in str(found.value)) is (status == 401)


def test_no_network_is_one_line(monkeypatch, tmp_path):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(*_args, **_more):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(UserError, match=r"cannot reach huggingface\.co/datasets/owner/name at abc"):
        Hub("owner/name", "abc", "a.json").fetch(tmp_path, ["a.json"])


def test_a_picture_folder_is_here_or_fetched_one_by_one(tmp_path, monkeypatch, server):
    address, _ = server
    pictures = Pictures("set/images", "somewhere", lambda name: Url(f"{address}/{name}"))
    assert pictures.fetchable
    assert not pictures.here
    assert pictures.picture("a.csv").read_text().startswith("prompt")
    for bad in ("../a.csv", "/etc/passwd", "a/../../b"):
        with pytest.raises(UserError, match="no picture of that folder"):
            pictures.picture(bad)
    (tmp_path / "set/images").mkdir(parents=True)
    monkeypatch.setenv("UNSAY_DATA_DIR", str(tmp_path))
    assert pictures.here


def test_addresses_hold_their_revision():
    file = github("a/b.csv", "owner/name", "c0ffee", "data/b.csv")
    assert file.source == Url("https://raw.githubusercontent.com/owner/name/c0ffee/data/b.csv")
    assert "github.com/owner/name" in file.missing
    assert partial(hub, "a", "b", "c")().source == Hub("b", "main", "c")
