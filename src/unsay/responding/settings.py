"""How answers are generated; part of every response's key."""

from pydantic import BaseModel, ConfigDict, Field


class GenerationSettings(BaseModel):
    """Generation settings; greedy unless a temperature is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int = Field(48, ge=1, description="longest answer, in tokens")
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    system: str | None = Field(None, description="system prompt; null leaves the chat template's own default")
    batch_tokens: int = Field(6_000, ge=1, description="tokens of one batch, prompts and room for answers included")
    seed: int = Field(0, description="seed of the sampling; of no account for greedy answers")
