"""How a chat server is reached, how hard it is tried, and what it costs."""

from pydantic import BaseModel, ConfigDict, Field

DECISIVE = ("url", "model")
"""The settings that decide what is said; the others decide only how it is asked for."""


class EndpointSettings(BaseModel):
    """An OpenAI-compatible chat server. The key itself is never a setting: files of settings are shared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        pattern=r"^https?://", description="base URL of the server, with its version: http://localhost:8000/v1"
    )
    model: str = Field(min_length=1, description="the model's name on that server")
    key_variable: str = Field(
        "OPENAI_API_KEY", description="environment variable that holds the key; servers of your own often need none"
    )
    timeout: float = Field(120.0, gt=0, description="seconds until one attempt is given up")
    retries: int = Field(
        4, ge=0, description="further attempts after a timeout, a lost connection, 408, 409, 429 or 5xx; waits double"
    )
    concurrency: int = Field(8, ge=1, description="requests at the same time")
    requests_per_minute: float | None = Field(None, gt=0, description="at most so many; null does not limit")
    give_up_after: int = Field(
        10, ge=1, description="requests that fail in a row until no more are sent and the run ends: the server is down"
    )
    price_in: float = Field(0.0, ge=0, description="price of a million prompt tokens, in your currency")
    price_out: float = Field(0.0, ge=0, description="price of a million answer tokens, in your currency")

    def decisive(self) -> dict[str, str]:
        """What a content key of an answer must hold."""
        return {name: getattr(self, name) for name in DECISIVE}
