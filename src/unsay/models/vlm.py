"""A vision-language model with its processor, and where in it the language model is."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from unsay.errors import UserError

SENTINEL = "SENTINELANSWER"
"""Stands for an answer when the chat template is asked what follows one; plain letters, so no template escapes it."""


@dataclass
class VLM:
    """Any transformers image-text-to-text model and its processor.

    Attributes:
        name: what the user called it.
        model: the transformers model, LoRA-wrapped in place once an adapter is attached.
        processor: its `AutoProcessor`; holds the tokenizer and the chat template.
        key: content key of the weights, the processor and the template.
        adapter_key: content key of the attached adapter, or None for the original model.
    """

    name: str
    model: Any
    processor: Any
    key: str
    adapter_key: str | None = None

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the language model's weights are."""
        return next(self.decoder.parameters()).device

    @property
    def decoder(self) -> nn.Module:
        """The language model without its head: `input_ids` → hidden states [batch, length, hidden]."""
        decoder: nn.Module = self.base.get_decoder()
        return decoder

    @property
    def lm_head(self) -> nn.Module:
        """Hidden states → logits over the vocabulary."""
        head: nn.Module | None = self.base.get_output_embeddings()
        if head is None:
            raise UserError(f"{self.name}: the model has no output head, so it cannot be trained on answers")
        return head

    @property
    def base(self) -> Any:
        """The transformers model itself, also when PEFT has wrapped it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @cached_property
    def answer_end(self) -> tuple[int, ...]:
        """Token ids that end an answer in this chat template: up to its first end-of-sequence token."""
        chat = [{"role": "user", "content": self.content("Hi", False)}, {"role": "assistant", "content": SENTINEL}]
        # Some processors want content as parts in every turn; strings are the wider convention for assistants.
        try:
            text = self.processor.apply_chat_template(chat, tokenize=False)
        except TypeError:
            chat[1]["content"] = [{"type": "text", "text": SENTINEL}]
            text = self.processor.apply_chat_template(chat, tokenize=False)
        suffix = text.rsplit(SENTINEL, 1)[1] if SENTINEL in text else ""
        ends = self.end_tokens
        ids = self.tokenizer(suffix, add_special_tokens=False)["input_ids"]
        for position, token in enumerate(ids):
            if token in ends:
                return tuple(ids[: position + 1])
        return (self.tokenizer.eos_token_id,)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Every token id at which generation stops."""
        configured = self.base.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return frozenset(token for token in [*ids, self.tokenizer.eos_token_id] if token is not None)

    def content(self, prompt: str, image: bool) -> list[dict[str, str]]:
        """A user's turn as chat-template parts, the image first."""
        parts = [{"type": "text", "text": prompt}]
        return [{"type": "image"}, *parts] if image else parts

    def render(self, prompt: str, *, image: bool = False, system: str | None = None) -> str:
        """The model's own chat format up to where its answer begins."""
        chat: list[dict[str, Any]] = [{"role": "user", "content": self.content(prompt, image)}]
        if system is not None:
            chat.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
        text: str = self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return text

    def encode_prompt(self, prompt: str) -> list[int]:
        """Token ids of a text-only prompt in the chat format, up to where the answer begins."""
        text = self.render(prompt)
        ids: list[int] = self.tokenizer(text, add_special_tokens=not self._template_writes_bos(text))["input_ids"]
        return ids

    def encode_answer(self, answer: str) -> list[int]:
        """Token ids of an answer and its end; tokenised apart from the prompt, so no token spans both."""
        return [*self.tokenizer(answer, add_special_tokens=False)["input_ids"], *self.answer_end]

    def _template_writes_bos(self, text: str) -> bool:
        bos = self.tokenizer.bos_token
        return bos is None or text.startswith(bos) or self.processor.chat_template is not None
