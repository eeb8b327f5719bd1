"""Training data in the usual formats: one line of JSON → prompts with answers and roles."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from unsay.records import Role

ANSWERS = ("response", "answer")
"""Usual names of an answer's field."""
SPEAKERS = {"human": "user", "gpt": "assistant"}
"""Speakers in ShareGPT's and LLaVA's rows → roles."""
PLACEHOLDER = "<image>"
"""Marks the picture's place in the text of such a row."""
TURNS = (["user"], ["user", "assistant"], ["assistant"])
"""The conversations that fit one example, or a half of one."""


class UnfitError(Exception):
    """Why a row cannot be taken. The reason repeats nothing of the row, so that rows can be counted by it."""


@dataclass(frozen=True)
class Fields:
    """Names of fields that the user gives; None looks for the usual ones."""

    prompt: str | None = None
    response: str | None = None


USUAL = Fields()


@dataclass(frozen=True)
class Exchange:
    """One prompt with at most one answer; the other fields are those of `Example`.

    Attributes:
        prompt: the request.
        answer: None where the row is a request alone.
        role: None where the row has none.
        image: the picture's path, as it is written in the row.
    """

    prompt: str
    answer: str | None
    role: Role | None = None
    image: str | None = None
    request: str | None = None
    category: str | None = None
    complete: bool = True


class _Parts(NamedTuple):
    """What a conversation, or a field of a row, holds."""

    prompt: str | None = None
    answer: str | None = None
    pictures: tuple[str | None, ...] = ()
    """Paths; None for a picture whose path stands elsewhere in the row."""


def read_row(line: str, fields: Fields) -> list[Exchange]:
    """The exchanges of one line: two where it prefers one answer over another, else one.

    Formats are tried in this order: `chosen` and `rejected` (preference data), `messages` (a conversation),
    `conversations` (one of ShareGPT or LLaVA), a prompt with or without an answer. A name in `fields` goes before the
    formats that have no such field.

    Raises:
        UnfitError: it is no JSON object, has none of the formats, or says more than an example can hold.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise UnfitError("not JSON") from None
    if not isinstance(row, dict):
        raise UnfitError("no JSON object")
    if fields.response is None and ("chosen" in row or "rejected" in row):
        return _preference(row, fields.prompt or "prompt")
    if fields == USUAL and "messages" in row:
        parts = _conversation(row["messages"])
    elif fields == USUAL and "conversations" in row:
        parts = _conversation(_with_roles(row["conversations"]))
    else:
        names = ANSWERS if fields.response is None else (fields.response,)
        answers = [row[name] for name in names if row.get(name) is not None]
        parts = _parts(row.get(fields.prompt or "prompt"), "user")
        parts = parts._replace(answer=_parts(answers[0], "assistant").answer if answers else None)
    return [_exchange(row, parts, _role(row))]


def _preference(row: dict[str, Any], field: str) -> list[Exchange]:
    """The answer that was rejected is to be forgotten, the one that was chosen is the refusal."""
    exchanges = []
    for name, role in (("rejected", Role.FORGET), ("chosen", Role.REFUSE)):
        parts = _parts(row.get(name), "assistant")
        if parts.answer is None:
            raise UnfitError("a preference without both answers")
        if row.get(field) is not None:
            parts = _parts(row[field], "user")._replace(answer=parts.answer)
        exchanges.append(_exchange(row, parts, role))
    return exchanges


def _parts(value: Any, role: str) -> _Parts:
    """Of a text in a role, or of the turns of a conversation."""
    if isinstance(value, list):
        return _conversation(value)
    if value is not None and not isinstance(value, str):
        raise UnfitError(f"{'a prompt' if role == 'user' else 'an answer'} that is no text")
    return _Parts(prompt=value) if role == "user" else _Parts(answer=value)


def _conversation(turns: Any) -> _Parts:
    """Of a conversation of one question and at most one answer."""
    if not isinstance(turns, list):
        raise UnfitError("a conversation that is no list of turns")
    texts: dict[str, str] = {}
    roles: list[str] = []
    pictures: list[str | None] = []
    for turn in turns:
        role = turn.get("role") if isinstance(turn, dict) else None
        if role == "system":
            raise UnfitError("a system prompt, which no example can hold")
        if role not in ("user", "assistant"):
            raise UnfitError("a turn that is neither the user's nor the assistant's")
        texts[role], shown = _content(turn.get("content"))
        if shown and role == "assistant":
            raise UnfitError("a picture in an answer")
        roles.append(role)
        pictures += shown
    if roles not in TURNS:
        raise UnfitError("a conversation of more than a question and an answer")
    return _Parts(texts.get("user"), texts.get("assistant"), tuple(pictures))


def _with_roles(turns: Any) -> Any:
    """ShareGPT's and LLaVA's turns as those of `messages`; what is no such turn stays, to be refused there.

    The placeholder is taken out as LLaVA's own training does (`preprocess_multimodal`): the picture stands before the
    prompt, wherever in it the placeholder stood.
    """
    return [_with_role(turn) for turn in turns] if isinstance(turns, list) else turns


def _with_role(turn: Any) -> Any:
    if not isinstance(turn, dict) or "from" not in turn:
        return turn
    speaker, text = turn["from"], turn.get("value")
    role = SPEAKERS.get(speaker, speaker) if isinstance(speaker, str) else None
    if not isinstance(text, str) or PLACEHOLDER not in text:
        return {"role": role, "content": text if isinstance(text, str) else None}
    pictures = [{"type": "image"}] * text.count(PLACEHOLDER)
    return {"role": role, "content": [*pictures, {"type": "text", "text": text.replace(PLACEHOLDER, "").strip()}]}


def _content(content: Any) -> tuple[str, list[str | None]]:
    """The text of a turn, and its pictures' paths; None for one that stands elsewhere in the row."""
    if isinstance(content, str):
        return content, []
    texts: list[str] = []
    pictures: list[str | None] = []
    for given in content if isinstance(content, list) else [None]:
        part = given if isinstance(given, dict) else {}
        kind = part.get("type")
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image":
            paths = [part[name] for name in ("image", "path", "url") if isinstance(part.get(name), str)]
            pictures.append(paths[0] if paths else None)
        else:
            raise UnfitError("a turn with a part that is neither text nor a picture")
    return "\n".join(texts), pictures


def _exchange(row: dict[str, Any], parts: _Parts, role: Role | None) -> Exchange:
    complete = row.get("complete", True)
    if not isinstance(complete, bool):
        raise UnfitError("`complete` that is neither true nor false")
    return Exchange(
        prompt=_text(parts.prompt, "prompt"),
        answer=None if parts.answer is None else _text(parts.answer, "answer"),
        role=role,
        image=_picture(row, parts.pictures),
        request=_text(row["request"], "request") if isinstance(row.get("request"), str) else None,
        category=_text(row["category"], "category") if isinstance(row.get("category"), str) else None,
        complete=complete,
    )


def _text(text: str | None, what: str) -> str:
    if text is None or not text.strip():
        raise UnfitError(f"no {what}" if text is None else f"an empty {what}")
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a character, which JSON can write and UTF-8 cannot
        raise UnfitError(f"half a character in the {what}") from None
    return text


def _picture(row: dict[str, Any], pictures: Sequence[str | None]) -> str | None:
    """The one picture of a row, from wherever its path stands."""
    several = row.get("images")
    given = several if isinstance(several, list) else [several]
    paths = [path for path in [row.get("image"), *given, *pictures] if path is not None]
    if any(not isinstance(path, str) or not path.strip() or "\0" in path for path in paths):
        raise UnfitError("a picture that is named by no path")
    if len(set(paths)) > 1 or len(pictures) > 1:
        raise UnfitError("several pictures, where an example holds one")
    if pictures and not paths:
        raise UnfitError("a picture without a path")
    return _text(paths[0], "picture's path") if paths else None


def _role(row: dict[str, Any]) -> Role | None:
    role = row.get("role")
    if role is None:
        return None
    if role not in list(Role):
        raise UnfitError("a role that is none of forget, refuse and retain")
    return Role(role)
