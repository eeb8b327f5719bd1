"""A vision-language model with its processor, and where in it the language model is."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor, nn

from unsay.errors import UserError
from unsay.records import Turn


def control_token_escaper(tokenizer: Any, *more: str) -> Callable[[str], str]:
    """A function that escapes control tokens written out in a prompt.

    A tokenizer cannot tell the chat template's control tokens, such as `<|im_end|>`, from those typed in a prompt.
    Typed ones would end the turn, open another speaker's, or stand for a picture that is not there. They are broken up
    with a blank after the first character (`< |im_end|>`), so that the model reads them as letters. Prompts without
    control tokens are unchanged. Templates that mark turns with ordinary words ("USER:") have nothing to escape.
    """
    known = {str(token) for token in tokenizer.all_special_tokens} | set(more)
    known |= {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special}
    # Longest first, so that a token is not broken up as another one's beginning.
    tokens = sorted((token for token in known if len(token) > 1), key=lambda token: (-len(token), token))
    if not tokens:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, tokens)))

    def escape(text: str) -> str:
        while pattern.search(text):  # a blank can, in principle, complete another token
            text = pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        return text

    return escape


SENTINEL = "SENTINELANSWER"
"""Stands for an answer, to see what the chat template writes after one; plain letters, so no template escapes it."""


@dataclass
class VLM:
    """Any transformers image-text-to-text model and its processor.

    Attributes:
        name: the user's name for it.
        model: the transformers model, LoRA-wrapped in place once an adapter is attached.
        processor: its `AutoProcessor`; holds the tokenizer and the chat template.
        key: content key of the weights, the processor and the template.
        adapter_key: content key of the attached adapter, or None for the original model.
        shared_layers: how many of the lowest decoder layers give the same output with the adapter on and off, so that
            a pass with it off can start from the outputs of a pass with it on; 0 if unknown.
        uniform: whether every batch must pass the decoder in one piece: its layers are split over processes, which must
            all make the same calls, or its activations are computed again.
        packs: whether its language model takes packed rows; None until it is tried.
        adapts_vision: whether its adapter also changes parts that only pictures pass, so that their features change.
    """

    name: str
    model: Any
    processor: Any
    key: str
    adapter_key: str | None = None
    shared_layers: int = 0
    uniform: bool = False
    packs: bool | None = None
    adapts_vision: bool = False

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the language model's weights are."""
        return next(self.decoder.parameters()).device

    @property
    def vision_key(self) -> tuple[str, ...]:
        """Content keys of the weights that decide a picture's features."""
        return (self.key, str(self.adapter_key)) if self.adapts_vision else (self.key,)

    @property
    def decoder(self) -> nn.Module:
        """The language model without its head: `input_ids` → hidden states [batch, length, hidden]."""
        decoder: nn.Module = self.base.get_decoder()
        return decoder

    @property
    def context(self) -> int | None:
        """The most tokens that the language model reads; None if its configuration does not say."""
        length: int | None = getattr(self.base.config.get_text_config(), "max_position_embeddings", None)
        return length

    @property
    def spread(self) -> bool:
        """Whether the parts of the model, and their outputs, are on several devices (a device map)."""
        places = getattr(self.base, "hf_device_map", None) or {}
        return len(set(map(str, places.values()))) > 1

    @property
    def layers(self) -> list[nn.Module]:
        """The language model's transformer blocks, lowest first."""
        lists = [list(module) for module in self.decoder.children() if isinstance(module, nn.ModuleList)]
        if not lists:
            raise UserError(f"{self.name}: its language model ({type(self.decoder).__name__}) has no list of layers")
        return max(lists, key=len)

    @property
    def text_layers(self) -> list[nn.Module]:
        """The blocks that a text passes: all but those that only read pictures (Mllama's cross-attention)."""
        config = self.base.config.get_text_config()
        cross = set(getattr(config, "cross_attention_layers", None) or ())
        return [layer for index, layer in enumerate(self.layers) if index not in cross]

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

    @property
    def image_token_id(self) -> int | None:
        """The token that stands for a part of a picture in a tokenised prompt, if there is one."""
        configured = getattr(self.base.config, "image_token_id", None)
        return getattr(self.processor, "image_token_id", None) if configured is None else configured

    @cached_property
    def answer_end(self) -> tuple[int, ...]:
        """Token ids that end an answer in this chat template: up to its first end-of-sequence token."""
        ids = self.tokenizer(self._around_answer[1], add_special_tokens=False)["input_ids"]
        for position, token in enumerate(ids):
            if token in self.end_tokens:
                return tuple(ids[: position + 1])
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"{self.name}: its tokenizer has no end-of-sequence token, so no answer could ever end")
        return (self.tokenizer.eos_token_id,)

    @cached_property
    def answer_lead(self) -> str:
        """What the chat template writes between the end of a prompt and the answer; LLaVA-1.5's writes a blank."""
        before, asked = self._around_answer[0], self._written([{"role": "user", "content": self.content("Hi", False)}])
        return before.rpartition(asked)[2] if asked in before else ""

    @cached_property
    def _around_answer(self) -> tuple[str, str]:
        """What the chat template writes before and after an assistant's turn; empty if unknown."""
        # Strings are the wider convention for an assistant's turn; some templates take parts only, and either fail or
        # silently leave the string out. The user speaks again because some templates (GLM-4V's) end a turn only by the
        # mark of the next.
        user = {"role": "user", "content": self.content("Hi", False)}
        for answer in (SENTINEL, [{"type": "text", "text": SENTINEL}]):
            chat = [user, {"role": "assistant", "content": answer}, user]
            try:
                text: str = self.processor.apply_chat_template(chat, tokenize=False)
            except (TypeError, TemplateError):
                continue
            if SENTINEL in text:
                before, _, after = text.rpartition(SENTINEL)
                return before, after
        return "", ""

    @property
    def end_tokens(self) -> frozenset[int]:
        """Every token id at which generation stops."""
        configured = getattr(self.base.generation_config, "eos_token_id", None)
        ids = configured if isinstance(configured, list) else [configured]
        return frozenset(token for token in [*ids, self.tokenizer.eos_token_id] if token is not None)

    @cached_property
    def _opening(self) -> str:
        """The beginning-of-sequence token, if the tokenizer puts one before every text; else empty."""
        bos = self.tokenizer.bos_token
        return bos if bos and self.tokenizer("")["input_ids"][:1] == [self.tokenizer.bos_token_id] else ""

    @cached_property
    def escape(self) -> Callable[[str], str]:
        """Escapes control tokens in a prompt; training and generation read prompts through it."""
        return control_token_escaper(self.tokenizer, *filter(None, [getattr(self.processor, "image_token", None)]))

    def content(self, prompt: str, image: bool) -> list[dict[str, str]] | str:
        """A turn as chat-template parts, the image first; a string where the template takes strings alone."""
        if not self._takes_parts:
            return f"{getattr(self.processor, 'image_token', '<image>')}\n{prompt}" if image else prompt
        parts = [{"type": "text", "text": prompt}]
        return [{"type": "image"}, *parts] if image else parts

    @cached_property
    def _takes_parts(self) -> bool:
        """Whether the template reads parts; a language model's own fails at them, or writes them out as Python does."""
        user = {"role": "user", "content": [{"type": "text", "text": SENTINEL}]}
        try:
            text: str = self.processor.apply_chat_template([user], tokenize=False)
        except (TypeError, TemplateError):
            return False
        return SENTINEL in text and not re.search("""['"]type['"]""", text)

    def render(self, prompt: str, *, image: bool = False, system: str | None = None, turns: Sequence[Turn] = ()) -> str:
        """The model's own chat format up to where its answer begins.

        The text is complete, a beginning-of-sequence token included: tokenise it with `add_special_tokens=False`.

        Args:
            prompt: the user's last turn.
            image: whether an image stands before it.
            system: a system prompt; None leaves the template's own default.
            turns: earlier turns, oldest first.

        Raises:
            UserError: the chat template refuses the system prompt or an earlier turn, or drops it.
        """
        chat: list[dict[str, Any]] = [{"role": turn.role, "content": self.content(turn.text, False)} for turn in turns]
        chat.append({"role": "user", "content": self.content(prompt, image)})
        if system is not None:
            chat.insert(0, {"role": "system", "content": self.content(system, False)})
        text = self._written(chat)
        if system is not None and system.strip() not in text:
            raise UserError(f"{self.name}: its chat template drops system prompts; leave them out")
        if any(turn.text.strip() not in text for turn in turns):
            text = self._with_plain_answers(chat, turns)
        # Most templates write the token themselves; LLaVA-1.5's leaves it to the tokenizer.
        return text if text.startswith(self._opening) else self._opening + text

    def _with_plain_answers(self, chat: list[dict[str, Any]], turns: Sequence[Turn]) -> str:
        """The same chat with the assistant's turns as strings, for templates that leave their parts out."""
        plain = [
            {**turn, "content": turn["content"][-1]["text"]}
            if turn["role"] == "assistant" and not isinstance(turn["content"], str)
            else turn
            for turn in chat
        ]
        text = self._written(plain)
        if any(turn.text.strip() not in text for turn in turns):
            raise UserError(f"{self.name}: its chat template drops earlier turns; leave multi-turn suites out")
        return text

    def _written(self, chat: list[dict[str, Any]]) -> str:
        try:
            text: str = self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        except (TypeError, TemplateError) as error:
            what = "a system prompt" if chat[0]["role"] == "system" else "this conversation"
            raise UserError(f"{self.name}: its chat template does not take {what} ({type(error).__name__})") from None
        return text

    def encode_prompt(self, prompt: str) -> list[int]:
        """Token ids of a text-only prompt in the chat format, up to where the answer begins."""
        ids: list[int] = self.tokenizer(self.render(self.escape(prompt)), add_special_tokens=False)["input_ids"]
        return ids

    def encode_picture(self, prompt: str, image: Image.Image) -> dict[str, Tensor]:
        """The processor's inputs for a prompt with a picture before it, in a batch of one: ids, mask, pixels."""
        text = self.render(self.escape(prompt), image=True)
        try:
            inputs = self.processor(images=[[image]], text=[text], return_tensors="pt", add_special_tokens=False)
        except (ValueError, TypeError, IndexError, KeyError, RuntimeError) as error:
            kind = type(error).__name__  # without its message, which may quote the prompt
            raise UserError(f"{self.name}: its processor does not take this prompt with a picture ({kind})") from error
        # Some processors make labels of a prompt, which has no scored tokens.
        return {name: value for name, value in inputs.items() if isinstance(value, Tensor) and name != "labels"}

    def encode_answer(self, answer: str) -> list[int]:
        """Token ids of an answer and its end, tokenised apart from the prompt, so that no token spans both."""
        return self.encode_continuation("", answer)[1]

    def encode_continuation(self, begun: str, rest: str) -> tuple[list[int], list[int]]:
        """Token ids of an answer's beginning, and of the rest and its end.

        Both are tokenised as the one text that they are when a model writes them. A token that spans the border belongs
        to the rest.
        """
        whole: list[int] = self.tokenizer(begun + rest, add_special_tokens=False)["input_ids"]
        alone: list[int] = self.tokenizer(begun, add_special_tokens=False)["input_ids"] if begun else []
        pairs = zip(alone, whole, strict=False)
        border = next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(alone), len(whole)))
        return whole[:border], [*whole[border:], *self.answer_end]

    def token_ends(self, text: str) -> list[int]:
        """Where each token of a text ends, in characters; empty for a tokenizer that does not say."""
        if not self.tokenizer.is_fast:
            return []
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return sorted({end for _, end in offsets if end})
