"""One chat request to an OpenAI-compatible server: a whole answer, or an `EndpointError` that says why not.

Retries are the `openai` client's own: exponential backoff with jitter, and `Retry-After` where the server sends it.
"""

import os
import threading
from collections.abc import Sequence
from typing import Any

from unsay.endpoint.meter import Meter
from unsay.endpoint.parallel import Pace
from unsay.endpoint.settings import EndpointSettings
from unsay.errors import UserError
from unsay.records import Record

HOPELESS = frozenset({401, 403, 404})
"""What asking again cannot help: a wrong key, a wrong address, no such model."""

REFUSED_SETTINGS = frozenset({400, 422})
"""A server answers so to a request that it cannot take, `response_format` for one."""


class EndpointError(Exception):
    """A request that got no answer.

    Attributes:
        status: the HTTP status, None where there was none.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class Completion(Record):
    """An answer, whole or cut off by the token limit."""

    text: str
    finish_reason: str
    """`stop`, `length`, or what else the server says (`content_filter`)."""
    tokens_in: int
    tokens_out: int


class ChatClient:
    """Asks one model on one server; safe to use from several threads."""

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
        self._lock = threading.Lock()
        self._failures = 0
        self._down: str | None = None
        self._openai = openai
        self._client = openai.OpenAI(
            base_url=settings.url,
            # A server of one's own asks for no key, but the client wants some word.
            api_key=os.environ.get(settings.key_variable) or "none",
            timeout=settings.timeout,
            max_retries=settings.retries,
        )

    def complete(self, messages: Sequence[dict[str, Any]], **parameters: Any) -> Completion:
        """The model's answer to a chat.

        Args:
            messages: in OpenAI's chat format.
            parameters: further fields of the request: `max_tokens`, `temperature`, `seed`, `response_format`.

        Raises:
            EndpointError: no answer after all attempts, an answer without content, or no answer expected any more:
                the server has failed too often in a row.
        """
        if self._down is not None:
            raise EndpointError(self._down)
        self._pace.wait()
        try:
            answer = self._client.chat.completions.create(
                model=self.settings.model,
                messages=list(messages),  # type: ignore[arg-type]
                **parameters,
            )
            completion = _completion(answer)
        except EndpointError as error:
            self._failed(error)
            raise
        except self._openai.APIStatusError as error:
            wrapped = EndpointError(f"HTTP {error.status_code} from {self.settings.url}", error.status_code)
        except self._openai.APITimeoutError:
            wrapped = EndpointError(f"no answer from {self.settings.url} within {self.settings.timeout:g} s")
        except self._openai.APIConnectionError as error:
            wrapped = EndpointError(f"no connection to {self.settings.url} ({_cause(error)})")
        except Exception as error:  # a body that is no JSON, or JSON of another shape, makes the client raise anything
            wrapped = EndpointError(f"{self.settings.url} answered with nonsense ({type(error).__name__})")
        else:
            with self._lock:
                self._failures = 0
            self.meter.answered(completion.tokens_in, completion.tokens_out)
            return completion
        self._failed(wrapped)
        raise wrapped from None

    def _failed(self, error: EndpointError) -> None:
        if error.status in REFUSED_SETTINGS:
            return  # the server is there and understood: it does not take this one request
        self.meter.gave_up()
        with self._lock:
            self._failures += 1
            if error.status in HOPELESS:
                self._down = f"not asked: {error}; check url, model and {self.settings.key_variable}"
            elif self._failures >= self.settings.give_up_after:
                self._down = f"not asked: {self._failures} requests failed in a row, the last with: {error}"


def _completion(answer: Any) -> Completion:
    """What an answer holds; a server may leave out anything.

    Raises:
        EndpointError: no choice, or one without text.
    """
    choices = getattr(answer, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise EndpointError("an answer without choices")
    text = getattr(getattr(choices[0], "message", None), "content", None)
    if not isinstance(text, str):
        raise EndpointError("an answer without text")
    usage = getattr(answer, "usage", None)
    return Completion(
        text=text,
        finish_reason=str(getattr(choices[0], "finish_reason", None) or "stop"),
        tokens_in=_count(getattr(usage, "prompt_tokens", 0)),
        tokens_out=_count(getattr(usage, "completion_tokens", 0)),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _cause(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__
