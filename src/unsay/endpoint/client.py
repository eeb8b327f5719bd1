"""One chat request to an OpenAI-compatible server, and whether the server is worth asking again.

One chat request to an OpenAI-compatible server: a whole answer, or an `EndpointError` that says why not.

Retries are the `openai` client's own: exponential backoff with jitter, and `Retry-After` where the server sends it.

What the answers so far say of a server: whether there is any point in sending it more.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from unsay.endpoint.faults import HELP, PASSING, EndpointError, Fault, put_otherwise, refusal, refused_parameter
from unsay.endpoint.parallel import Pace
from unsay.endpoint.settings import EndpointSettings, Meter
from unsay.errors import UserError
from unsay.records import Record


class Health:
    """Counts failures of many threads in a row, and gives up on a server that answers nobody.

    Attributes:
        known: whether the server has ever answered.
        down: why nothing more is sent; None while something is.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self.known = False
        self.down: EndpointError | None = None
        self._in_a_row = 0
        self._met = False
        self._away: EndpointError | None = None

    def begin(self) -> None:
        """Try the server anew: that it was down before says nothing of now."""
        with self._lock:
            self.down, self._in_a_row = None, 0
            self._met, self._away = False, None

    def answered(self) -> None:
        """Note a request that was answered."""
        with self._lock:
            self.known = self._met = True
            self._in_a_row = 0

    def failed(self, error: EndpointError) -> None:
        """Note a request that was not.

        What is one prompt's own fault does not count. Nor does a refusal by a server that has answered others; one that
        refuses everything from the start is not asked for ever.
        """
        with self._lock:
            if error.fault is Fault.AWAY:
                self._away = error
            else:
                self._met = True
            if error.fault is Fault.ACCESS:
                self._give_up(str(error), error.fault)
            elif error.fault is not Fault.CONTENT and (error.fault in PASSING or not self.known):
                self._in_a_row += 1
                if self._in_a_row >= self._settings.give_up_after:
                    self._give_up(f"{self._in_a_row} requests failed in a row, the last with: {error}", error.fault)

    def trouble(self) -> EndpointError | None:
        """Why the user must do something before more can be asked; None where all went well, or only some rows failed.

        Few requests are no run of failures yet; but where not one of them found a server, it was none of their fault.
        """
        with self._lock:
            if self.down is None and self._away is not None and not self._met:
                return EndpointError(f"{self._away}: {HELP[Fault.AWAY]}", Fault.AWAY)
            return self.down

    def _give_up(self, reason: str, fault: Fault) -> None:
        if self.down is None:
            self.down = EndpointError(f"{reason}: {HELP[fault].format(key=self._settings.key_variable)}", fault)


NOT_THERE = frozenset({"ConnectError", "ConnectTimeout"})
"""What the transport raises where no connection was made."""


class Completion(Record):
    """An answer, whole or cut off by the token limit."""

    text: str
    finish_reason: str
    """`stop`, `length`, or what else the server says (`content_filter`)."""
    tokens_in: int
    tokens_out: int

    @property
    def wordless(self) -> bool:
        """Whether the token limit came before the first word."""
        return self.finish_reason == "length" and not self.text.strip()


class ChatClient:
    """Asks one model on one server; safe to use from several threads.

    Attributes:
        untaken: parameters that the server has been found not to take; see `dialect`.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        """Prepare the client; nothing is sent yet.

        Raises:
            UserError: the `openai` package is not installed.
        """
        try:
            import openai
        except ImportError:
            raise UserError("endpoints need the openai package: pip install 'unsay[endpoint]'") from None
        self.settings = settings
        self.meter = Meter(settings)
        self._pace = Pace(settings.requests_per_minute)
        self._health = Health(settings)
        self.untaken: frozenset[str] = frozenset()
        self._learning = threading.Lock()
        self._openai = openai
        self._client = openai.OpenAI(
            base_url=settings.url,
            # A server of one's own asks for no key, but the client wants some word.
            api_key=os.environ.get(settings.key_variable) or "none",
            timeout=settings.timeout,
            max_retries=settings.retries,
        )

    def begin(self) -> None:
        """Begin another round of requests: a server that was given up is tried anew, and `stop` is taken back."""
        self._health.begin()
        self._pace.go_on()

    def stop(self) -> None:
        """Send nothing more until `begin`; those who wait for their turn are sent away, requests under way go on."""
        self._pace.stop()

    def trouble(self) -> EndpointError | None:
        """What the user must mend before this round can go on, and how; None where at most single requests failed."""
        return self._health.trouble()

    def complete(self, messages: Sequence[dict[str, Any]], *, tentative: bool = False, **parameters: Any) -> Completion:
        """The model's answer to a chat.

        Args:
            messages: in OpenAI's chat format.
            tentative: the caller asks in another way if the server does not take this form (not all know
                `response_format`), so that refusal is not held against it.
            parameters: further fields of the request: `max_tokens`, `temperature`, `seed`, `response_format`. Where the
                server takes no `max_tokens` or `temperature`, it is asked without, and `untaken` says so.

        Raises:
            EndpointError: no answer after all attempts, an answer without content, or no answer expected any more:
                the server has failed too often in a row, or the round was stopped.
        """
        self._take_turn()
        try:
            answer = self._create(messages, parameters)
            # Only models that think are given another limit than `max_tokens`.
            completion = _completion(answer, thinks="max_tokens" in self.untaken)
        except Exception as raised:
            error = self._explained(raised)
        else:
            self._health.answered()
            self.meter.answered(completion.tokens_in, completion.tokens_out)
            return completion
        if not (tentative and error.fault is Fault.FORM):
            self._health.failed(error)
            self.meter.gave_up()
        raise error from None

    def _create(self, messages: Sequence[dict[str, Any]], parameters: Mapping[str, Any]) -> Any:
        """The server's answer; what it does not take of the parameters is put otherwise, from then on at once.

        Only where a request is taken without a parameter was it this one that was not.
        """
        untaken = self.untaken
        while True:
            try:
                answer = self._client.chat.completions.create(
                    model=self.settings.model,
                    messages=list(messages),  # type: ignore[arg-type]
                    **put_otherwise(parameters, untaken),
                )
            except self._openai.BadRequestError as error:
                name = refused_parameter(error.body, parameters.keys() - untaken)
                if name is None:
                    raise
                untaken |= {name}
            else:
                with self._learning:
                    self.untaken |= untaken
                return answer
            self._take_turn()

    def _take_turn(self) -> None:
        """Wait until a request may be sent.

        Raises:
            EndpointError: it is not to be sent at all.
        """
        self._refuse_if_down()
        if not self._pace.wait():
            raise EndpointError("not asked: interrupted")
        self._refuse_if_down()

    def _refuse_if_down(self) -> None:
        if (down := self._health.down) is not None:
            raise EndpointError(f"not asked: {down}", down.fault)

    def _explained(self, error: Exception) -> EndpointError:
        """What a failure means, in words that quote neither prompt nor answer."""
        url = self.settings.url
        if isinstance(error, EndpointError):
            return error
        if isinstance(error, self._openai.APIStatusError):
            return refusal(error.status_code, error.body, url, known=self._health.known)
        cause = type(error.__cause__ or error).__name__
        if isinstance(error, self._openai.APITimeoutError) and cause != "ConnectTimeout":
            return EndpointError(f"no answer from {url} within {self.settings.timeout:g} s")
        if isinstance(error, self._openai.APIConnectionError):
            # A connection that was lost had been made (ReadError and others): that server is there, and broke down.
            fault = Fault.AWAY if cause in NOT_THERE else Fault.SERVER
            return EndpointError(f"no connection to {url} ({cause})", fault)
        # A body that is no JSON, or JSON of another shape, makes the client raise anything.
        return EndpointError(f"{url} answered with nonsense ({type(error).__name__})")


def _completion(answer: Any, *, thinks: bool) -> Completion:
    """What an answer holds; a server may leave out anything.

    Without a word but cut off, it is no answer where the model was still thinking; else the model's own, of tokens that
    have no text.

    Args:
        answer: as the `openai` client gives it.
        thinks: whether the model is known to think, though nothing in the answer may say so.

    Raises:
        EndpointError: no choice, or one without text.
    """
    choices = getattr(answer, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise EndpointError("an answer without choices")
    message = getattr(choices[0], "message", None)
    finish_reason = str(getattr(choices[0], "finish_reason", None) or "stop")
    text = getattr(message, "content", None)
    usage = getattr(answer, "usage", None)
    thought = thinks or _thought(message, usage)
    if not isinstance(text, str):
        raise _wordless(message, finish_reason, thought)
    completion = Completion(
        text=text,
        finish_reason=finish_reason,
        tokens_in=_count(getattr(usage, "prompt_tokens", 0)),
        tokens_out=_count(getattr(usage, "completion_tokens", 0)),
    )
    if completion.wordless and thought:
        raise _wordless(message, finish_reason, thought)
    return completion


def _thought(message: Any, usage: Any) -> bool:
    """Whether the model thought before it spoke; servers have two names for that, and OpenAI only counts its tokens."""
    spent = getattr(getattr(usage, "completion_tokens_details", None), "reasoning_tokens", 0)
    return _count(spent) > 0 or any(getattr(message, name, None) for name in ("reasoning_content", "reasoning"))


def _wordless(message: Any, finish_reason: str, thought: bool) -> EndpointError:
    """Why an answer has no text."""
    if finish_reason == "length":
        return cut_off("thinking used up the token limit" if thought else "the token limit came")
    if finish_reason == "content_filter":
        return EndpointError("an answer without text: the server's content filter stopped it", Fault.CONTENT)
    if getattr(message, "refusal", None):
        return EndpointError("an answer without text: the server declined", Fault.CONTENT)
    return EndpointError("an answer without text")


def cut_off(how: str = "the token limit came") -> EndpointError:
    """An answer that ended before it began."""
    return EndpointError(f"an answer without text: {how} before its first word", Fault.LENGTH)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
