"""Training data as other people write it: one line of JSON, whatever its shape, as prompts with answers and roles."""

import json
from dataclasses import dataclass
from typing import Any

from unsay.records import Role

ANSWERS = ("response", "answer")
"""What the field of an answer is called, where nobody says."""
SPEAKERS = {"human": "user", "gpt": "assistant"}
"""Who speaks in ShareGPT's and LLaVA's rows."""
PLACEHOLDER = "<image>"
"""Where in the words of such a row its picture stands."""
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
class Said:
    """One prompt with at most one answer; the other fields are those of `Example`.

    Attributes:
        prompt: what is asked.
        answer: None where the row is a request alone.
        role: None where the row does not say.
        image: the picture's path, as it is written in the row.
    """

    prompt: str
    answer: str | None
    role: Role | None = None
    image: str | None = None
    request: str | None = None
    category: str | None = None
    complete: bool = True


def read_row(line: str, fields: Fields) -> list[Said]:
    """What one line says: two examples where it prefers one answer over another, else one.

    Shapes are tried in this order: `chosen` and `rejected` (preference data), `messages` (a conversation),
    `conversations` (one of ShareGPT or LLaVA), a prompt with or without an answer. A name in `fields` goes before the
    shapes that have no such field.

    Raises:
        UnfitError: it is no JSON object, has none of the shapes, or says more than an example can hold.
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
        prompt, answer, pictures = _conversation(row["messages"])
        return [_said(row, prompt, answer, pictures, _role(row))]
    if fields == USUAL and "conversations" in row:
        prompt, answer, pictures = _conversation(_renamed(row["conversations"]))
        return [_said(row, prompt, answer, pictures, _role(row))]
    names = ANSWERS if fields.response is None else (fields.response,)
    answers = [row[name] for name in names if row.get(name) is not None]
    prompt, _, pictures = _told(row.get(fields.prompt or "prompt"), "user")
    answer = _told(answers[0], "assistant")[1] if answers else None
    return [_said(row, prompt, answer, pictures, _role(row))]


def _preference(row: dict[str, Any], field: str) -> list[Said]:
    """The answer that was rejected is to be forgotten, the one that was chosen is the refusal."""
    said = []
    for name, role in (("rejected", Role.FORGET), ("chosen", Role.REFUSE)):
        prompt, answer, pictures = _told(row.get(name), "assistant")
        if answer is None:
            raise UnfitError("a preference without both answers")
        if row.get(field) is not None:
            prompt, _, pictures = _told(row[field], "user")
        said.append(_said(row, prompt, answer, pictures, role))
    return said


def _told(value: Any, role: str) -> tuple[str | None, str | None, list[str | None]]:
    """(Prompt, answer, pictures) of a text in a role, or of the turns of a conversation."""
    if isinstance(value, list):
        return _conversation(value)
    if value is not None and not isinstance(value, str):
        raise UnfitError(f"{'a prompt' if role == 'user' else 'an answer'} that is no text")
    return (value, None, []) if role == "user" else (None, value, [])


def _conversation(turns: Any) -> tuple[str | None, str | None, list[str | None]]:
    """(Prompt, answer, pictures) of a conversation of one question and at most one answer."""
    if not isinstance(turns, list):
        raise UnfitError("a conversation that is no list of turns")
    found: dict[str, str] = {}
    roles: list[str] = []
    pictures: list[str | None] = []
    for turn in turns:
        role = turn.get("role") if isinstance(turn, dict) else None
        if role == "system":
            raise UnfitError("a system prompt, which no example can hold")
        if role not in ("user", "assistant"):
            raise UnfitError("a turn that is neither the user's nor the assistant's")
        found[role], seen = _content(turn.get("content"))
        if seen and role == "assistant":
            raise UnfitError("a picture in an answer")
        roles.append(role)
        pictures += seen
    if roles not in TURNS:
        raise UnfitError("a conversation of more than a question and an answer")
    return found.get("user"), found.get("assistant"), pictures


def _renamed(turns: Any) -> Any:
    """ShareGPT's and LLaVA's turns as those of `messages`; what is no such turn stays, to be refused there.

    The placeholder is taken out as LLaVA's own training does (`preprocess_multimodal`): the picture stands before the
    prompt, wherever in it the placeholder stood.
    """
    return [_turn(turn) for turn in turns] if isinstance(turns, list) else turns


def _turn(turn: Any) -> Any:
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


def _said(
    row: dict[str, Any], prompt: str | None, answer: str | None, pictures: list[str | None], role: Role | None
) -> Said:
    complete = row.get("complete", True)
    if not isinstance(complete, bool):
        raise UnfitError("`complete` that is neither true nor false")
    return Said(
        prompt=_text(prompt, "prompt"),
        answer=None if answer is None else _text(answer, "answer"),
        role=role,
        image=_picture(row, pictures),
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


def _picture(row: dict[str, Any], pictures: list[str | None]) -> str | None:
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
