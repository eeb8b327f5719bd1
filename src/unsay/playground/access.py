"""Who may open the playground: this machine alone, or whoever knows the password."""

import asyncio
import base64
import binascii
import ipaddress
import os
import secrets

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from unsay.errors import UserError

PASSWORD_VARIABLE = "UNSAY_PLAY_PASSWORD"
SHORTEST = 8
"""Characters of a password."""
UNKNOWN = 401
"""The status that makes a browser ask for a name and a password; any name is let in."""
PATIENCE = 1.0
"""Seconds that a wrong password costs whoever tries it."""


def is_local(host: str) -> bool:
    """Whether an interface can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def password_from_environment() -> str | None:
    """The password in `UNSAY_PLAY_PASSWORD`, checked; None if it is not set."""
    password = os.environ.get(PASSWORD_VARIABLE)
    return None if password is None else checked(password)


def checked(password: str) -> str:
    """The password; a `UserError` if it is too short."""
    if len(password) < SHORTEST:
        raise UserError(f"the password of the playground needs {SHORTEST} characters or more")
    return password


class Gate:
    """Lets in requests of this page alone, and where a password is set, of those who know it.

    Another page in the same browser could otherwise ask the models: by a form, or under a name of its own that leads
    to this machine. So the host must be one of `hosts`, and whatever changes or asks something must come from this
    page, as JSON.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None, password: str | None) -> None:
        """`hosts` are the values of the `Host` header that are let in; None lets in any."""
        self.app, self.hosts = app, hosts
        self.password = None if password is None else password.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, or refuse."""
        if scope["type"] == "http" and (refusal := self._refusal(scope["method"], Headers(scope=scope))) is not None:
            if refusal.status_code == UNKNOWN and "authorization" in Headers(scope=scope):
                await asyncio.sleep(PATIENCE)
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        if self.hosts is not None and host not in self.hosts:
            return PlainTextResponse("this playground is opened under the address that it printed", 421)
        if self.password is not None and not self._knows(headers.get("authorization", "")):
            challenge = {"WWW-Authenticate": 'Basic realm="unsay playground", charset="UTF-8"'}
            return PlainTextResponse("the playground asks for its password", UNKNOWN, challenge)
        if method != "GET":
            origin = headers.get("origin")
            ours = origin is None or origin.partition("://")[2] == host
            if not ours or headers.get("content-type", "").partition(";")[0] != "application/json":
                return PlainTextResponse("only the page itself may ask", 403)
        return None

    def _knows(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "basic" or self.password is None:
            return False
        try:
            password = base64.b64decode(given, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
        return secrets.compare_digest(password, self.password)
