"""How a model is put into memory."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ModelSettings(BaseModel):
    """How a checkpoint is loaded; the defaults suit the pocket VLM on a CPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: Literal["float32", "bfloat16", "float16", "auto", "fastest"] = Field(
        "float32",
        description="of the frozen weights; auto takes the checkpoint's own, fastest takes bfloat16 where this machine "
        "multiplies in it much faster than in float32. The adapter stays in float32",
    )
    quantisation: Literal["4-bit"] | None = Field(
        None,
        description="4-bit stores frozen linears in 4 bits (QLoRA); it needs a CUDA GPU and bitsandbytes",
    )
    device_map: str | None = Field(
        None, description="auto spreads a model that is too large over the GPUs at hand; null puts it on `device`"
    )
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = Field(
        None, description="attention kernel; null leaves the choice to transformers"
    )
