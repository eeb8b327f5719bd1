"""Why a request fails, and which parameters a server does not take.

Why a request got no answer: some failures pass, some only the user can mend, some are one prompt's own.

What of a request a server does not take, and what it is sent instead.

OpenAI's models that think (o-series, GPT-5) answer 400, here and on Azure:

    {"code": "unsupported_parameter", "param": "max_tokens", "message": "Unsupported parameter: 'max_tokens' is not
    supported with this model. Use 'max_completion_tokens' instead."}
    {"code": "unsupported_value", "param": "temperature", "message": "Unsupported value: 'temperature' does not support
    0 with this model. Only the default (1) value is supported."}

Others leave out code or field and say it in words alone: "gpt-5 models don't support temperature=0.0" (LiteLLM),
"`temperature` is deprecated for this model." (Claude behind a proxy), "invalid temperature: only 1 is allowed for this
model" (Moonshot). vLLM, SGLang and llama.cpp take both parameters; where they name one, it is its value that is wrong.

How answers that are kept were asked for, where that is not as the settings say.
"""

import re
import threading
from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from unsay.journal import Journal


class Fault(StrEnum):
    """What stood between a request and its answer."""

    ACCESS = "access"
    """A wrong key, no credit, a wrong address, no such model: only the user can mend it."""
    AWAY = "away"
    """No server there, or one that has no time: never one request's own fault."""
    SERVER = "server"
    """The server broke down, was too slow or spoke nonsense, this time."""
    FORM = "form"
    """The server does not take this request: it is too long, or asks for what the server does not know."""
    LENGTH = "length"
    """The token limit came before the first word: a reasoning model was still thinking."""
    CONTENT = "content"
    """A filter stopped this prompt or its answer, and would again."""


PASSING = frozenset({Fault.AWAY, Fault.SERVER})
"""What may be over when the same is asked again."""

HELP = {
    Fault.ACCESS: "check url, model and {key} (and that its account has credit)",
    Fault.AWAY: "start the server, or wait until it has time",
    Fault.SERVER: "see that the server is well",
    Fault.FORM: "the server takes no request of this form: check the model and its settings",
    Fault.LENGTH: "raise the token limit (a judge's max_tokens), or start the server with thinking off",
}
"""What the user can do where a server is given up; `{key}` is the variable that holds the key."""

NO_ACCESS = frozenset({401, 402, 404})
FORBIDDEN = 403
NO_TIME = frozenset({429, 502, 503, 504})
TRY_AGAIN = frozenset({408, 409})
"""The only other statuses below 500 that blame no request."""

FILTERED = frozenset({"content_filter", "content_policy_violation", "data_inspection_failed"})
"""Codes of servers whose filter answers with an error."""

NO_CREDIT = frozenset({"insufficient_quota", "exceeded_current_quota_error"})
"""Codes or types of a 429 that no waiting mends (OpenAI, Moonshot)."""

USED_UP = "model output limit was reached"
"""In the message of OpenAI's 400 where thinking left no token for the answer."""

WORD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,48}")
"""What a code or a field's name looks like; anything else might be a prompt's own words, which stand in no message."""


class EndpointError(Exception):
    """A request that got no answer.

    Attributes:
        fault: what stood in its way.
    """

    def __init__(self, reason: str, fault: Fault = Fault.SERVER) -> None:
        super().__init__(reason)
        self.fault = fault


def refusal(status: int, body: object, url: str, *, known: bool) -> EndpointError:
    """What an HTTP error means. Of its body, code and field are told and nothing else: the message may quote a prompt.

    Args:
        status: of the answer.
        body: the error that the server sent with it, if it could be read.
        url: of the server.
        known: whether the server has answered before: then its 403 is no wrong key but a moderator's no to one prompt.
    """
    details: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    words = [str(details.get(name) or "") for name in ("code", "param")]
    told = ", ".join(word for word in words if WORD.fullmatch(word) and word != str(status))
    fault = _fault(status, details, known)
    why = ", the token limit came before the answer" if fault is Fault.LENGTH else ""
    return EndpointError(f"HTTP {status} from {url}" + (f" ({told})" if told else "") + why, fault)


def _fault(status: int, details: Mapping[str, Any], known: bool) -> Fault:
    if _filtered(details):
        return Fault.CONTENT
    if status == 400 and USED_UP in str(details.get("message")):
        return Fault.LENGTH
    if status in NO_ACCESS or (status == 429 and NO_CREDIT & {str(details.get(name)) for name in ("code", "type")}):
        return Fault.ACCESS
    if status == FORBIDDEN:
        return Fault.CONTENT if known else Fault.ACCESS
    if status in NO_TIME:
        return Fault.AWAY
    return Fault.FORM if 400 <= status < 500 and status not in TRY_AGAIN else Fault.SERVER


def _filtered(details: Mapping[str, Any]) -> bool:
    """Whether the server says that it was the prompt; OpenRouter gives a moderator's reasons."""
    more = details.get("metadata")
    return str(details.get("code")) in FILTERED or (isinstance(more, Mapping) and bool(more.get("reasons")))


INSTEAD: Final[Mapping[str, str | None]] = {"max_tokens": "max_completion_tokens", "temperature": None}
"""What stands in a parameter's place; None where nothing can and the server decides."""

CODES = frozenset({"unsupported_parameter", "unsupported_value"})

NOT_TAKEN = re.compile(
    r"unsupported|(?:\bnot|n't|\bno longer) support|\bdeprecated|\bunrecognized|\bonly \S+ is (?:allowed|supported)",
    re.IGNORECASE,
)
"""Words that blame a parameter, or any value of it but the server's own; not one that is too large or negative."""


def refused_parameter(body: object, sent: Collection[str]) -> str | None:
    """The parameter that a server does not take and that can be put otherwise; None if its no means anything else.

    Args:
        body: the error that came with a 400.
        sent: names of the request's parameters.
    """
    details: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    message = str(details.get("message") or "")
    named: set[str] = set()
    if field := details.get("param"):
        if str(details.get("code")) in CODES or NOT_TAKEN.search(message):
            named = {str(field)}
    else:
        # In one sentence with the blame: a message may quote a prompt, and speak of parameters elsewhere.
        for sentence in re.split(r"[.!]\s", message):
            if NOT_TAKEN.search(sentence):
                named |= set(re.findall(r"[A-Za-z_]+", sentence))
    return next((name for name in INSTEAD if name in sent and name in named), None)


def put_otherwise(parameters: Mapping[str, Any], untaken: Collection[str]) -> dict[str, Any]:
    """The same request without what the server does not take."""
    put = {}
    for name, value in parameters.items():
        other = INSTEAD[name] if name in untaken else name
        if other is not None:
            put[other] = value
    return put


def sent_instead(untaken: Collection[str]) -> dict[str, str]:
    """What became of each parameter that a server does not take, in words for the record of a run."""
    return {
        name: "left to the server" if other is None else f"sent as {other}"
        for name, other in INSTEAD.items()
        if name in untaken
    }


class Deviations:
    """An append-only file beside a cache: whoever uses an answer again must know, and asks the server nothing."""

    def __init__(self, cache: Path, key: str) -> None:
        """Read what is there.

        Args:
            cache: the file of answers; `x.jsonl` has `x.sent.jsonl` beside it.
            key: of what gave the answers; one cache may hold those of several.
        """
        self._key = key
        self._lock = threading.Lock()
        self._journal = Journal(cache.with_suffix(".sent.jsonl"), list[str])
        noted = {name for owner, names in self._journal.lines() if owner == key for name in names}
        self.names: frozenset[str] = frozenset(INSTEAD.keys() & noted)

    def note(self, names: Collection[str]) -> None:
        """Write down which parameters the server did not take, before an answer so asked for is kept.

        Raises:
            UserError: the disk is full or the file cannot be written.
        """
        with self._lock:
            if new := sorted(set(names) - self.names):
                self._journal.add([(self._key, new)])
                self.names |= set(new)
