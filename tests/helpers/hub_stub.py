"""A stand-in for the model hub's API: repositories in memory, for `huggingface_hub`'s own client."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from helpers.listening import listening

TOKEN = "hf_stub"
COMMIT = "c" * 40


@dataclass
class Hub:
    """The running stand-in, and what it was given."""

    url: str
    private: dict[str, bool] = field(default_factory=dict)  # repository → whether it is private
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)  # repository → path → content
    blobs: dict[str, bytes] = field(default_factory=dict)  # sha256 → large file
    calls: list[str] = field(default_factory=list)


@contextmanager
def hub() -> Iterator[Hub]:
    """Serve on a free port; only `TOKEN` may write."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self, value: Any, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def answer(self) -> None:
            path, body = self.path.partition("?")[0], self.body()
            stub.calls.append(f"{self.command} {path}")
            if path.startswith("/blob/"):
                assert hashlib.sha256(body).hexdigest() == path.removeprefix("/blob/")
                stub.blobs[path.removeprefix("/blob/")] = body
                self.reply({})
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.reply({"error": "Invalid credentials"}, 401)
            elif path == "/api/repos/create":
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                if name in stub.private:
                    self.reply({"error": "You already created this model repo", "url": f"{stub.url}/{name}"}, 409)
                else:
                    stub.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
                    self.reply({"url": f"{stub.url}/{name}", "name": name, "id": name})
            elif path == "/api/validate-yaml":
                self.reply({"errors": [], "warnings": []})
            elif path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {**one, "actions": {"upload": {"href": f"{stub.url}/blob/{one['oid']}", "header": {}}}}
                    for one in json.loads(body)["objects"]
                ]
                self.reply({"transfer": "basic", "objects": objects})
            elif "/preupload/" in path:
                files = [
                    {"path": one["path"], "shouldIgnore": False,
                     "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular"}
                    for one in json.loads(body)["files"]
                ]  # fmt: skip
                self.reply({"files": files})
            elif "/commit/" in path:
                name = "/".join(path.split("/")[3:5])
                kept = stub.files.setdefault(name, {})
                for line in body.decode().splitlines():
                    row = json.loads(line)
                    if row["key"] == "file":
                        kept[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
                    elif row["key"] == "lfsFile":
                        kept[row["value"]["path"]] = stub.blobs[row["value"]["oid"]]
                self.reply({"commitOid": COMMIT, "commitUrl": f"{stub.url}/{name}/commit/{COMMIT}", "hookOutput": ""})
            elif path.startswith("/api/models/"):
                name = "/".join(path.split("/")[3:5])
                if name in stub.private:
                    self.reply({"id": name, "private": stub.private[name], "sha": COMMIT, "tags": [], "siblings": []})
                else:
                    self.reply({"error": "Repository not found"}, 404)
            else:
                self.reply({"error": "not in this stand-in"}, 404)

        do_GET = do_POST = do_PUT = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler) as url:
        stub = Hub(url)
        yield stub
