"""The page of the playground and its routes. The page loads nothing from elsewhere, and the browser is told so."""

import json
from collections.abc import AsyncIterator, Generator
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from unsay.endpoint import EndpointError
from unsay.errors import UserError
from unsay.files import first_problem
from unsay.playground.access import Gate
from unsay.playground.request import MAX_BYTES, MAX_WORDS, Question, drawn_url
from unsay.playground.session import Line, Session
from unsay.playground.speakers import MAX_STRENGTH
from unsay.records import Kind, Prompt
from unsay.reports.html import page_templates
from unsay.suites import find_suite

Asked = TypeVar("Asked", bound=BaseModel)

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
PARTS = {"play.css": "text/css", "play.js": "text/javascript", "report.css": "text/css"}
"""Files of the page → their type; the report's style sheet is shared."""
LARGEST_BODY = 2 * MAX_BYTES
"""Bytes of a request: a picture of the largest size as a data URL, and words."""


class Drawn(BaseModel):
    """Words to be shown as the picture that they become."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=MAX_WORDS)


def build_app(session: Session, hosts: frozenset[str] | None, password: str | None) -> Starlette:
    """The application; `hosts` and `password` as in `Gate`."""
    page = _page(session)

    async def index(_request: Request) -> Response:
        return HTMLResponse(page, headers=HEADERS)

    async def part(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in PARTS:
            return Response(status_code=404)
        room = "unsay.reports" if name == "report.css" else "unsay.playground"
        return Response(files(room).joinpath(name).read_bytes(), media_type=PARTS[name], headers=HEADERS)

    async def state(_request: Request) -> Response:
        return JSONResponse(session.state(), headers=HEADERS)

    async def picture(request: Request) -> Response:
        number = request.path_params["number"]
        image = session.examples[number].image if number < len(session.examples) else None
        return Response(status_code=404) if image is None else FileResponse(image, headers=HEADERS)

    async def answer(request: Request) -> Response:
        question = await _body(request, Question)
        lines = _lines(session.answer(question))
        return StreamingResponse(lines, media_type="application/x-ndjson", headers=HEADERS)

    async def draw(request: Request) -> Response:
        words = await _body(request, Drawn)
        return JSONResponse({"picture": await run_in_threadpool(drawn_url, words.text)}, headers=HEADERS)

    async def keep(request: Request) -> Response:
        question = await _body(request, Question)
        return JSONResponse(await run_in_threadpool(session.keep, question), headers=HEADERS)

    return Starlette(
        routes=[
            Route("/", index),
            Route("/parts/{name}", part),
            Route("/state", state),
            Route("/picture/{number:int}", picture),
            Route("/answer", answer, methods=["POST"]),
            Route("/draw", draw, methods=["POST"]),
            Route("/keep", keep, methods=["POST"]),
        ],
        middleware=[Middleware(Gate, hosts=hosts, password=password)],
        exception_handlers={UserError: _problem, EndpointError: _problem},
    )


async def _problem(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400, headers=HEADERS)


async def _body(request: Request, kind: type[Asked]) -> Asked:
    """The checked body of a request; a `UserError` that repeats nothing of it."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise UserError(f"too large: at most {MAX_BYTES // 2**20} MB of picture are read")
    try:
        return kind.model_validate_json(bytes(body))
    except ValidationError as error:
        raise UserError(first_problem(error)) from None


async def _lines(answer: Generator[Line]) -> AsyncIterator[bytes]:
    """An answer as lines of JSON. When the page goes away, the answer ends."""
    try:
        while (line := await run_in_threadpool(partial(next, answer, None))) is not None:
            yield json.dumps(line).encode() + b"\n"
    finally:
        answer.close()


def _page(session: Session) -> str:
    template = page_templates("unsay.playground").get_template("play.html.j2")
    return template.render(
        title=session.title,
        names={phase.value: name for phase, name in session.names.items()},
        examples=[_example(number, prompt) for number, prompt in enumerate(session.examples)],
        max_strength=MAX_STRENGTH,
        max_words=MAX_WORDS,
    )


def _example(number: int, prompt: Prompt) -> dict[str, Any]:
    suite = find_suite(prompt.suite)
    return {
        "number": number,
        "id": prompt.id,
        "suite": suite.title if suite is not None else prompt.suite,
        "harmful": prompt.kind is Kind.ATTACK,
        "text": prompt.request,
        "pictured": prompt.image is not None,
        "modality": prompt.modality.value,
    }
