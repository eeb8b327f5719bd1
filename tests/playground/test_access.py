"""Who may open the page: this machine; other pages in the same browser may not; others with the password."""

import asyncio
import base64
import socket

import pytest

from unsay.errors import UserError
from unsay.playground import access
from unsay.playground.access import PASSWORD_VARIABLE, Gate, checked, is_local, password_from_environment
from unsay.playground.serve import serve

JSON = "application/json"


def status(gate: Gate, method: str = "GET", **headers: str) -> int:
    """What the gate answers; 200 is the page behind it."""
    sent = []

    async def send(message: dict) -> None:
        sent.append(message)

    names = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": method,
        "path": "/",
        "headers": names,
        "query_string": b"",
        "http_version": "1.1",
    }
    asyncio.run(gate(scope, None, send))
    return sent[0]["status"]


async def page(_scope: object, _receive: object, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def local() -> Gate:
    return Gate(page, frozenset({"127.0.0.1:7860", "localhost:7860"}), None)


def test_another_name_for_this_machine_is_refused(local: Gate) -> None:
    assert status(local, host="127.0.0.1:7860") == 200
    assert status(local, host="localhost:7860") == 200
    assert status(local, host="evil.example:7860") == 421
    assert status(local) == 421


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content_type": JSON}, 200),
        ({"content_type": JSON, "origin": "http://127.0.0.1:7860"}, 200),
        ({"content_type": JSON, "origin": "http://evil.example"}, 403),
        ({"content_type": JSON, "origin": "null"}, 403),
        ({"content_type": "text/plain"}, 403),
        ({"content_type": "application/x-www-form-urlencoded"}, 403),
        ({}, 403),
    ],
)
def test_another_page_may_not_ask(local: Gate, headers: dict[str, str], code: int) -> None:
    assert status(local, "POST", host="127.0.0.1:7860", **headers) == code


def basic(password: str, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(f'anyone:{password}'.encode()).decode()}"


def test_others_need_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "PATIENCE", 0.0)
    gate = Gate(page, None, "schlüssel:bund")
    assert status(gate, host="10.0.0.7:7860") == 401
    assert status(gate, host="10.0.0.7:7860", authorization=basic("schlüssel:bund")) == 200
    for wrong in ("schlüssel", "schlüssel:bund ", ""):
        assert status(gate, host="10.0.0.7:7860", authorization=basic(wrong)) == 401
    for odd in (basic("schlüssel:bund", "Bearer"), "Basic", "Basic %%%", "Basic " + base64.b64encode(b"x").decode()):
        assert status(gate, host="10.0.0.7:7860", authorization=odd) == 401


def test_a_wrong_password_takes_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(access.asyncio, "sleep", sleep)
    gate = Gate(page, None, "long enough")
    assert status(gate, host="x", authorization=basic("guess")) == 401
    assert status(gate, host="x") == 401
    assert waited == [access.PATIENCE]


def test_which_interfaces_are_this_machines_own() -> None:
    assert [name for name in ("127.0.0.1", "localhost", "::1", "127.8.8.8") if not is_local(name)] == []
    assert [name for name in ("0.0.0.0", "::", "10.0.0.7", "example.org", "") if is_local(name)] == []


def test_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    assert password_from_environment() is None
    monkeypatch.setenv(PASSWORD_VARIABLE, "long enough")
    assert password_from_environment() == "long enough"
    with pytest.raises(UserError, match="8 characters"):
        checked("short")


def test_no_page_for_others_without_a_password() -> None:
    with pytest.raises(UserError, match="needs a password"):
        serve(None, host="0.0.0.0", port=0)


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="cannot listen there"):
        serve(None, port=taken.getsockname()[1])
