"""One client for OpenAI-compatible chat servers: each request gives an answer or an `EndpointError` that says why not.

Retries, backoff and `Retry-After` are the `openai` client's own. It knows single requests only; what stands here is
about many: the pace at which they leave, and when a server that answers none of them is given up.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from unsay.endpoint.faults import EndpointError, Fault, Health, refusal, refused_parameter, without_ignored
from unsay.endpoint.parallel import Pace
from unsay.errors import UserError
from unsay.records import Record

NO_CONNECTION = frozenset({"ConnectError", "ConnectTimeout"})
"""Errors of the HTTP transport when no connection is made; after others, a server was there."""


DECISIVE = ("url", "model")
"""The settings that decide an answer; the others decide only how it is requested."""


class EndpointSettings(BaseModel):
    """An OpenAI-compatible chat server. The key itself is never a setting, because settings files are shared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        pattern=r"^https?://", description="base URL of the server, with its version: http://localhost:8000/v1"
    )
    model: str = Field(min_length=1, description="the model's name on that server")
    key_variable: str = Field(
        "OPENAI_API_KEY", description="environment variable that holds the key; servers of your own often need none"
    )
    timeout: float = Field(120.0, gt=0, description="seconds after which one attempt is given up")
    retries: int = Field(
        4, ge=0, description="further attempts after a timeout, a lost connection, 408, 409, 429 or 5xx; waits double"
    )
    concurrency: int = Field(8, ge=1, description="requests at the same time")
    requests_per_minute: float | None = Field(None, gt=0, description="most requests a minute; null sets no limit")
    give_up_after: int = Field(
        10, ge=1, description="requests that may fail in a row before the server counts as down and the run ends"
    )
    price_in: float = Field(0.0, ge=0, description="price of a million prompt tokens, in your currency")
    price_out: float = Field(0.0, ge=0, description="price of a million answer tokens, in your currency")

    def decisive(self) -> dict[str, str]:
        """The part of the settings that belongs in an answer's content key."""
        return {name: getattr(self, name) for name in DECISIVE}


class Completion(Record):
    """A model's answer, complete or cut off by the token limit."""

    text: str
    finish_reason: str
    """`stop`, `length`, or another reason of the server (`content_filter`)."""
    tokens_in: int
    tokens_out: int

    @property
    def wordless(self) -> bool:
        """Whether the token limit came before the first word."""
        return self.finish_reason == "length" and not self.text.strip()


class ChatClient:
    """Sends requests to one model on one server; safe to use from several threads.

    Attributes:
        meter: counts requests and tokens.
        ignored: names of parameters that the server rejected, see `faults`; they are no longer sent.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        """Prepare the client; nothing is sent yet."""
        try:
            import openai
        except ImportError:
            raise UserError("endpoints need the openai package: pip install 'unsay[endpoint]'") from None
        self.settings = settings
        self.meter = Meter(settings)
        self._pace = Pace(settings.requests_per_minute)
        self._health = Health(settings.give_up_after, settings.key_variable)
        self.ignored: frozenset[str] = frozenset()
        self._learning = threading.Lock()
        self._openai = openai
        try:
            self._client = openai.OpenAI(
                base_url=settings.url,
                # A local server needs no key, but the client insists on one.
                api_key=os.environ.get(settings.key_variable) or "none",
                timeout=settings.timeout,
                max_retries=settings.retries,
            )
        except Exception as error:  # of the HTTP library beneath
            raise UserError(f"url: '{settings.url}' is no address of a server ({error})") from None

    def begin(self) -> None:
        """Begin a round of requests: a server that was given up is tried again, and `stop` is undone."""
        self._health.begin()
        self._pace.resume()

    def stop(self) -> None:
        """Send nothing more until `begin`; waiting requests are dropped, those under way go on."""
        self._pace.stop()

    def trouble(self) -> EndpointError | None:
        """What the user must fix before this round can go on, and how; None if at most single requests failed."""
        return self._health.trouble()

    def complete(self, messages: Sequence[dict[str, Any]], *, tentative: bool = False, **parameters: Any) -> Completion:
        """The model's answer to a chat.

        Args:
            messages: in OpenAI's chat format.
            tentative: the caller has another form of the request if the server rejects this one (not all know
                `response_format`), so a rejection does not count against the server.
            parameters: further fields of the request: `max_tokens`, `temperature`, `seed`, `response_format`. If the
                server rejects `max_tokens` or `temperature`, the request is sent without, and `ignored` names them.

        Raises:
            EndpointError: no answer after all attempts, or one without text; or nothing was sent, because the server
                failed too often in a row or the round was stopped.
        """
        self._take_turn()
        try:
            answer = self._create(messages, parameters)
            # Only reasoning models have another limit than `max_tokens`.
            completion = _completion(answer, reasons="max_tokens" in self.ignored)
        except Exception as raised:
            error = self._endpoint_error(raised)
        else:
            self._health.answered()
            self.meter.count(completion.tokens_in, completion.tokens_out)
            return completion
        if not (tentative and error.fault is Fault.FORM):
            self._health.failed(error)
            self.meter.count()
        raise error from None

    def stream(self, messages: Sequence[dict[str, Any]], **parameters: Any) -> Iterator[tuple[str, str | None]]:
        """The answer to a chat as it arrives: (new text, None), and last ("", why it ended).

        For a person who waits: nothing is counted or paced.

        Raises:
            EndpointError: no answer, or the connection was lost in the middle of one.
        """
        try:
            parts = self._create(messages, {**parameters, "stream": True})
            ended = "stop"
            for part in parts:
                if part.choices:
                    ended = part.choices[0].finish_reason or ended
                    if text := part.choices[0].delta.content:
                        yield text, None
        except Exception as raised:
            raise self._endpoint_error(raised) from None
        yield "", ended

    def models(self) -> list[str]:
        """The names of the models that the server has; an `EndpointError` if it does not answer."""
        try:
            return [model.id for model in self._client.models.list()]
        except Exception as raised:
            raise self._endpoint_error(raised) from None

    def parent(self) -> str | None:
        """The model that this one is an adapter on, where the server says so, as vLLM and SGLang do.

        SGLang takes an adapter's own name and `MODEL:ADAPTER`. A server without a list of models has no answer here.
        """
        try:
            cards = [card.model_dump() for card in self._client.with_options(max_retries=0).models.list()]
        except Exception:  # no list of models: an error, or a page for people
            return None
        for card in cards:
            if (parent := card.get("parent")) and self.settings.model in (card["id"], f"{parent}:{card['id']}"):
                return str(parent)
        return None

    def _create(self, messages: Sequence[dict[str, Any]], parameters: Mapping[str, Any]) -> Any:
        """The server's answer; a parameter that it rejects is substituted, in later requests at once.

        A parameter counts as ignored only if the request succeeds without it.
        """
        ignored = self.ignored
        while True:
            try:
                answer = self._client.chat.completions.create(
                    model=self.settings.model,
                    messages=list(messages),  # type: ignore[arg-type]
                    **without_ignored(parameters, ignored),
                )
            except self._openai.BadRequestError as error:
                name = refused_parameter(error.body, parameters.keys() - ignored)
                if name is None:
                    raise
                ignored |= {name}
            else:
                with self._learning:
                    self.ignored |= ignored
                return answer
            self._take_turn()

    def _take_turn(self) -> None:
        """Wait until a request may be sent."""
        self._refuse_if_down()
        if not self._pace.wait():
            raise EndpointError("not sent: interrupted")
        self._refuse_if_down()

    def _refuse_if_down(self) -> None:
        if (down := self._health.down) is not None:
            raise EndpointError(f"not sent: {down}", down.fault)

    def _endpoint_error(self, error: Exception) -> EndpointError:
        """What a failure means; quotes neither prompt nor answer."""
        url = self.settings.url
        if isinstance(error, EndpointError):
            return error
        if isinstance(error, self._openai.APIStatusError):
            return refusal(error.status_code, error.body, url, known=self._health.known)
        cause = type(error.__cause__ or error).__name__
        if isinstance(error, self._openai.APITimeoutError) and cause != "ConnectTimeout":
            return EndpointError(f"no answer from {url} within {self.settings.timeout:g} s")
        if isinstance(error, self._openai.APIConnectionError):
            # Others, such as ReadError, mean that a connection was lost: the server is there, and broke down.
            fault = Fault.AWAY if cause in NO_CONNECTION else Fault.SERVER
            return EndpointError(f"no connection to {url} ({cause})", fault)
        # Any error at all: the client does not check a body that is no JSON, or JSON of another shape.
        return EndpointError(f"{url} sent an invalid answer ({type(error).__name__})")


class Meter:
    """Counts requests, tokens and their cost; safe to use from several threads."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self.requests = 0
        self.tokens_in = 0
        self.tokens_out = 0

    def count(self, tokens_in: int = 0, tokens_out: int = 0) -> None:
        """Count a request; one without an answer has no tokens."""
        with self._lock:
            self.requests += 1
            self.tokens_in += tokens_in
            self.tokens_out += tokens_out

    @property
    def tokens(self) -> int:
        """All tokens so far, prompts and answers."""
        return self.tokens_in + self.tokens_out

    @property
    def cost(self) -> float:
        """Price of all tokens so far, in the currency of the settings."""
        return (self.tokens_in * self._settings.price_in + self.tokens_out * self._settings.price_out) / 1e6


def _completion(answer: Any, *, reasons: bool) -> Completion:
    """The completion in a server's answer, from which any field may be missing.

    A cut-off answer without a word is an error if the model was still reasoning, else an answer of tokens without text.
    """
    choices = getattr(answer, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise EndpointError("an answer without choices")
    message = getattr(choices[0], "message", None)
    finish_reason = str(getattr(choices[0], "finish_reason", None) or "stop")
    text = getattr(message, "content", None)
    usage = getattr(answer, "usage", None)
    reasoned = reasons or _reasoned(message, usage)
    if not isinstance(text, str):
        raise _wordless(message, finish_reason, reasoned)
    completion = Completion(
        text=text,
        finish_reason=finish_reason,
        tokens_in=_count(getattr(usage, "prompt_tokens", 0)),
        tokens_out=_count(getattr(usage, "completion_tokens", 0)),
    )
    if completion.wordless and reasoned:
        raise _wordless(message, finish_reason, reasoned)
    return completion


def _reasoned(message: Any, usage: Any) -> bool:
    """Whether the model reasoned first; servers have two names for its text, and OpenAI gives only its token count."""
    tokens = getattr(getattr(usage, "completion_tokens_details", None), "reasoning_tokens", 0)
    return _count(tokens) > 0 or any(getattr(message, name, None) for name in ("reasoning_content", "reasoning"))


def _wordless(message: Any, finish_reason: str, reasoned: bool) -> EndpointError:
    """Why an answer has no text."""
    if finish_reason == "length":
        return cut_off_error("reasoning used up the token limit" if reasoned else "the token limit came")
    if finish_reason == "content_filter":
        return EndpointError("an answer without text: the server's content filter stopped it", Fault.CONTENT)
    if getattr(message, "refusal", None):
        return EndpointError("an answer without text: the server declined", Fault.CONTENT)
    return EndpointError("an answer without text")


def cut_off_error(how: str = "the token limit came") -> EndpointError:
    """The error for an answer that is cut off before its first word."""
    return EndpointError(f"an answer without text: {how} before its first word", Fault.LENGTH)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
