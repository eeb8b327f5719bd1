"""Why a request gets no answer, when a server is given up, and which parameters a server ignores.

Some failures pass, some only the user can fix, some belong to one prompt. Of a server's error, only code and field are
quoted: its message may repeat the prompt.

OpenAI's reasoning models (o-series, GPT-5) reject two parameters with a 400, here and on Azure:

    {"code": "unsupported_parameter", "param": "max_tokens", "message": "Unsupported parameter: 'max_tokens' is not
    supported with this model. Use 'max_completion_tokens' instead."}
    {"code": "unsupported_value", "param": "temperature", "message": "Unsupported value: 'temperature' does not support
    0 with this model. Only the default (1) value is supported."}

Others leave out code or field and only say so in the message: "gpt-5 models don't support temperature=0.0" (LiteLLM),
"`temperature` is deprecated for this model." (Claude behind a proxy), "invalid temperature: only 1 is allowed for this
model" (Moonshot). vLLM, SGLang and llama.cpp take both parameters; if they name one, its value is wrong.
"""

import re
import threading
from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from unsay.journal import Journal


class Fault(StrEnum):
    """Why a request has no answer."""

    ACCESS = "access"
    """A wrong key, no credit, a wrong address, no such model: only the user can fix it."""
    AWAY = "away"
    """No server at the address, or an overloaded one: never the fault of one request."""
    SERVER = "server"
    """The server broke down, timed out or sent an invalid answer, this time."""
    FORM = "form"
    """The server rejects this request: it is too long, or uses a feature that the server lacks."""
    LENGTH = "length"
    """The token limit came before the first word: a reasoning model was still thinking."""
    CONTENT = "content"
    """A content filter stopped this prompt or its answer, and would do so again."""


PASSING = frozenset({Fault.AWAY, Fault.SERVER})
"""Faults that may be gone when the same request is sent again."""

HELP = {
    Fault.ACCESS: "check url, model and {key} (and that its account has credit)",
    Fault.AWAY: "start the server, or wait until it has capacity",
    Fault.SERVER: "check the server's log",
    Fault.FORM: "the server rejects requests of this form: check the model and its settings",
    Fault.LENGTH: "raise the token limit (a judge's max_tokens), or start the server with thinking off",
}
"""What the user can do when a server is given up; `{key}` is the environment variable that holds the key."""

NO_ACCESS = frozenset({401, 402, 404})
FORBIDDEN = 403
OVERLOADED = frozenset({429, 502, 503, 504})
TRY_AGAIN = frozenset({408, 409})
"""The other statuses below 500 that do not blame the request."""

FILTERED = frozenset({"content_filter", "content_policy_violation", "data_inspection_failed"})
"""Codes of servers whose content filter answers with an error."""

NO_CREDIT = frozenset({"insufficient_quota", "exceeded_current_quota_error"})
"""Codes or types of a 429 that waiting does not fix (OpenAI, Moonshot)."""

USED_UP = "model output limit was reached"
"""Part of the message of OpenAI's 400 when reasoning left no token for the answer."""

WORD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,48}")
"""What a code or a field name looks like; anything else may be words of a prompt, which no message may quote."""

SUBSTITUTES: Final[Mapping[str, str | None]] = {"max_tokens": "max_completion_tokens", "temperature": None}
"""Parameters that some servers ignore, each with its substitute; None leaves the value to the server."""

UNSUPPORTED_CODES = frozenset({"unsupported_parameter", "unsupported_value"})

UNSUPPORTED_WORDS = re.compile(
    r"unsupported|(?:\bnot|n't|\bno longer) support|\bdeprecated|\bunrecognized|\bonly \S+ is (?:allowed|supported)",
    re.IGNORECASE,
)
"""Words that blame the parameter, or every value but the default; not a value that is too large or negative."""


class EndpointError(Exception):
    """A request that got no answer.

    Attributes:
        fault: why.
    """

    def __init__(self, reason: str, fault: Fault = Fault.SERVER) -> None:
        super().__init__(reason)
        self.fault = fault


def refusal(status: int, body: object, url: str, *, known: bool) -> EndpointError:
    """The `EndpointError` for an HTTP error; it quotes code and field of the body and nothing else.

    Args:
        status: of the answer.
        body: the error that came with it, if it can be read.
        url: of the server.
        known: whether the server has answered before: then a 403 is a moderator's no to one prompt and not a wrong key.
    """
    details: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    words = [str(details.get(name) or "") for name in ("code", "param")]
    quoted = ", ".join(word for word in words if WORD.fullmatch(word) and word != str(status))
    fault = _fault(status, details, known)
    why = ", the token limit came before the answer" if fault is Fault.LENGTH else ""
    return EndpointError(f"HTTP {status} from {url}" + (f" ({quoted})" if quoted else "") + why, fault)


def _fault(status: int, details: Mapping[str, Any], known: bool) -> Fault:
    if _filtered(details):
        return Fault.CONTENT
    if status == 400 and USED_UP in str(details.get("message")):
        return Fault.LENGTH
    if status in NO_ACCESS or (status == 429 and NO_CREDIT & {str(details.get(name)) for name in ("code", "type")}):
        return Fault.ACCESS
    if status == FORBIDDEN:
        return Fault.CONTENT if known else Fault.ACCESS
    if status in OVERLOADED:
        return Fault.AWAY
    return Fault.FORM if 400 <= status < 500 and status not in TRY_AGAIN else Fault.SERVER


def _filtered(details: Mapping[str, Any]) -> bool:
    """Whether the server blames the prompt's content; OpenRouter gives a moderator's reasons."""
    more = details.get("metadata")
    return str(details.get("code")) in FILTERED or (isinstance(more, Mapping) and bool(more.get("reasons")))


class Health:
    """Counts failures in a row, over many threads, and gives up a server that answers none of them.

    Attributes:
        known: whether the server has ever answered.
        down: why nothing more is sent; None while the server is up.
    """

    def __init__(self, give_up_after: int, key_variable: str) -> None:
        self._give_up_after, self._key_variable = give_up_after, key_variable
        self._lock = threading.Lock()
        self.known = False
        self.down: EndpointError | None = None
        self._in_a_row = 0
        self._reached = False
        self._away: EndpointError | None = None

    def begin(self) -> None:
        """Forget failures: a server that was down may be up now."""
        with self._lock:
            self.down, self._in_a_row = None, 0
            self._reached, self._away = False, None

    def answered(self) -> None:
        """Count a request that was answered."""
        with self._lock:
            self.known = self._reached = True
            self._in_a_row = 0

    def failed(self, error: EndpointError) -> None:
        """Count a request that failed.

        A fault of one prompt does not count. Nor does a rejection by a server that has answered other requests; a
        server that rejects everything from the start is given up.
        """
        with self._lock:
            if error.fault is Fault.AWAY:
                self._away = error
            else:
                self._reached = True
            if error.fault is Fault.ACCESS:
                self._give_up(str(error), error.fault)
            elif error.fault is not Fault.CONTENT and (error.fault in PASSING or not self.known):
                self._in_a_row += 1
                if self._in_a_row >= self._give_up_after:
                    self._give_up(f"{self._in_a_row} requests failed in a row, the last with: {error}", error.fault)

    def trouble(self) -> EndpointError | None:
        """What the user must fix before more can be sent; None if all went well, or only single requests failed.

        A few requests do not make a row of failures; but if none of them reached a server, the fault is not theirs.
        """
        with self._lock:
            if self.down is None and self._away is not None and not self._reached:
                return EndpointError(f"{self._away}: {HELP[Fault.AWAY]}", Fault.AWAY)
            return self.down

    def _give_up(self, reason: str, fault: Fault) -> None:
        if self.down is None:
            self.down = EndpointError(f"{reason}: {HELP[fault].format(key=self._key_variable)}", fault)


def refused_parameter(body: object, sent: Collection[str]) -> str | None:
    """The parameter that a server rejects and that has a substitute; None if the error means anything else."""
    details: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    message = str(details.get("message") or "")
    named: set[str] = set()
    if field := details.get("param"):
        if str(details.get("code")) in UNSUPPORTED_CODES or UNSUPPORTED_WORDS.search(message):
            named = {str(field)}
    else:
        # Only in the sentence that blames it: the rest of a message may quote a prompt or mention other parameters.
        for sentence in re.split(r"[.!]\s", message):
            if UNSUPPORTED_WORDS.search(sentence):
                named |= set(re.findall(r"[A-Za-z_]+", sentence))
    return next((name for name in SUBSTITUTES if name in sent and name in named), None)


def without_ignored(parameters: Mapping[str, Any], ignored: Collection[str]) -> dict[str, Any]:
    """The same parameters with the ignored ones replaced by their substitutes, or left out."""
    names = {name: SUBSTITUTES[name] if name in ignored else name for name in parameters}
    return {other: parameters[name] for name, other in names.items() if other is not None}


def describe_ignored(ignored: Collection[str]) -> dict[str, str]:
    """What became of each parameter that a server ignores, in words for the record of a run."""
    return {
        name: "left to the server" if other is None else f"sent as {other}"
        for name, other in SUBSTITUTES.items()
        if name in ignored
    }


class IgnoredParameters:
    """The parameters that a server ignored, remembered beside a cache for runs that only use its answers.

    Attributes:
        names: of the parameters.
    """

    def __init__(self, cache: Path, key: str) -> None:
        """Read what earlier runs noted.

        Args:
            cache: the file of answers; the journal of `x.jsonl` is `x.sent.jsonl` beside it.
            key: of the model or judge; one cache may hold answers of several.
        """
        self._key = key
        self._lock = threading.Lock()
        self._journal = Journal(cache.with_suffix(".sent.jsonl"), list[str])
        noted = {name for owner, names in self._journal.lines() if owner == key for name in names}
        self.names: frozenset[str] = frozenset(SUBSTITUTES.keys() & noted)

    def note(self, names: Collection[str]) -> None:
        """Write down which parameters the server ignored; called before an answer of such a request is cached."""
        with self._lock:
            if new := sorted(set(names) - self.names):
                self._journal.add([(self._key, new)])
                self.names |= set(new)
