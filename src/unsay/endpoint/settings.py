"""How a chat server is reached and how often it is retried, and the meter of requests, tokens and cost."""

import threading

from pydantic import BaseModel, ConfigDict, Field

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


class Meter:
    """Counts requests, tokens and their cost; safe to use from several threads."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self.requests = 0
        self.failed = 0
        self.tokens_in = 0
        self.tokens_out = 0

    def answered(self, tokens_in: int, tokens_out: int) -> None:
        """Count a request that got an answer."""
        with self._lock:
            self.requests += 1
            self.tokens_in += tokens_in
            self.tokens_out += tokens_out

    def failed_request(self) -> None:
        """Count a request that got none."""
        with self._lock:
            self.requests += 1
            self.failed += 1

    @property
    def cost(self) -> float:
        """Price of all tokens so far, in the currency of the settings."""
        return (self.tokens_in * self._settings.price_in + self.tokens_out * self._settings.price_out) / 1e6

    @property
    def tokens(self) -> int:
        """All tokens so far, prompts and answers."""
        return self.tokens_in + self.tokens_out

    @property
    def text(self) -> str:
        """One line that a person reads: requests, tokens and cost so far."""
        line = f"{self.requests:,} requests, {self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        if self.failed:
            line += f", {self.failed:,} failed"
        return line + (f", cost {self.cost:.2f}" if self.cost else "")
