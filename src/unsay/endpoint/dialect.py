"""What of a request a server does not take, and what it is sent instead.

OpenAI's models that think (o-series, GPT-5) answer 400, here and on Azure:

    {"code": "unsupported_parameter", "param": "max_tokens", "message": "Unsupported parameter: 'max_tokens' is not
    supported with this model. Use 'max_completion_tokens' instead."}
    {"code": "unsupported_value", "param": "temperature", "message": "Unsupported value: 'temperature' does not support
    0 with this model. Only the default (1) value is supported."}

Others leave out code or field and say it in words alone: "gpt-5 models don't support temperature=0.0" (LiteLLM),
"`temperature` is deprecated for this model." (Claude behind a proxy), "invalid temperature: only 1 is allowed for this
model" (Moonshot). vLLM, SGLang and llama.cpp take both parameters; where they name one, it is its value that is wrong.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

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
