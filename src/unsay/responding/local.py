"""Batched generation with the model at hand."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from unsay.data.images import read_image
from unsay.errors import UserError
from unsay.files import content_key
from unsay.models.vlm import VLM
from unsay.records import Prompt, Response
from unsay.responding.settings import GenerationSettings


def model_key(vlm: VLM, settings: GenerationSettings) -> str:
    """Content key of what decides an answer besides its prompt: model, adapter, settings and library version."""
    import transformers

    # Batching does not change what is asked for.
    decisive = settings.model_dump(exclude={"batch_tokens"})
    return content_key(vlm.key, vlm.adapter_key, decisive, transformers.__version__)


def generate(vlm: VLM, prompts: Sequence[Prompt], settings: GenerationSettings) -> Iterator[list[Response]]:
    """Answer prompts batch by batch, in an order that wastes little padding; yields each batch as it is done.

    Greedy answers do not depend on who else is in the batch, up to rounding; sampled ones do.

    Raises:
        UserError: an image is missing or unreadable, or a prompt is too long for the model.
    """
    if vlm.tokenizer.pad_token is None:
        vlm.tokenizer.pad_token = vlm.tokenizer.eos_token  # masked wherever it stands, so any token will do
    texts = {p.id: _rendered(vlm, p, settings) for p in prompts}
    lengths = {p.id: len(_tokenised(vlm, texts[p.id])) + _image_room(vlm, p) for p in prompts}
    _check_lengths(vlm, prompts, lengths, settings)
    key = model_key(vlm, settings)
    for batch in _batches(prompts, lengths, settings):
        inputs = _inputs(vlm, batch, [texts[prompt.id] for prompt in batch])
        yield _answer(vlm, batch, inputs, settings, key)


def _rendered(vlm: VLM, prompt: Prompt, settings: GenerationSettings) -> str:
    turns = [turn.model_copy(update={"text": vlm.typed(turn.text)}) for turn in prompt.turns]
    system = settings.system if prompt.system is None else vlm.typed(prompt.system)
    return vlm.render(vlm.typed(prompt.prompt), image=prompt.image is not None, system=system, turns=turns)


def _tokenised(vlm: VLM, text: str) -> list[int]:
    ids: list[int] = vlm.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _check_lengths(
    vlm: VLM, prompts: Sequence[Prompt], lengths: Mapping[str, int], settings: GenerationSettings
) -> None:
    most = getattr(vlm.base.config.get_text_config(), "max_position_embeddings", None)
    for prompt in prompts:
        if most is not None and lengths[prompt.id] + settings.max_new_tokens > most:
            raise UserError(
                f"suite '{prompt.suite}', prompt {prompt.id}: {lengths[prompt.id]} tokens and room for "
                f"{settings.max_new_tokens} more do not fit the model's {most}: shorten the prompt"
            )


def _batches(
    prompts: Sequence[Prompt], lengths: Mapping[str, int], settings: GenerationSettings
) -> Iterator[list[Prompt]]:
    """Prompts of like length together, images apart from text, each batch filled to the token budget."""
    batch: list[Prompt] = []
    for prompt in sorted(prompts, key=lambda p: (p.image is not None, lengths[p.id], p.id), reverse=True):
        # Sorted longest first: a batch costs its first row's length, times its rows.
        width = lengths[batch[0].id] + settings.max_new_tokens if batch else 0
        full = (len(batch) + 1) * width > settings.batch_tokens
        if batch and (full or (batch[0].image is None) != (prompt.image is None)):
            yield batch
            batch = []
        batch.append(prompt)
    if batch:
        yield batch


def _image_room(vlm: VLM, prompt: Prompt) -> int:
    return 0 if prompt.image is None else int(getattr(vlm.base.config, "image_seq_length", 0) or 0)


def _inputs(vlm: VLM, batch: Sequence[Prompt], texts: list[str]) -> Any:
    vlm.tokenizer.padding_side = "left"
    if batch[0].image is None:
        return vlm.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    # One list per row: some processors take a flat list for the pictures of a single row.
    images = [[read_image(prompt.image)] for prompt in batch if prompt.image is not None]
    return vlm.processor(images=images, text=texts, return_tensors="pt", padding=True, add_special_tokens=False)


@torch.inference_mode()
def _answer(vlm: VLM, batch: Sequence[Prompt], inputs: Any, settings: GenerationSettings, key: str) -> list[Response]:
    inputs = inputs.to(vlm.device)
    ends = vlm.end_tokens
    sampling: dict[str, Any] = {"do_sample": settings.temperature > 0}
    if settings.temperature > 0:
        sampling["temperature"] = settings.temperature
    with torch.random.fork_rng(enabled=settings.temperature > 0):
        if settings.temperature > 0:
            torch.manual_seed(settings.seed)
        output = vlm.base.generate(
            **inputs,
            **sampling,
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=sorted(ends),
            pad_token_id=vlm.tokenizer.pad_token_id,
        )
    width = inputs["input_ids"].shape[1]
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    image_token = vlm.image_token_id
    responses = []
    for row, prompt in enumerate(batch):
        answer = output[row, width:].tolist()
        stop = next((position for position, token in enumerate(answer) if token in ends), None)
        answer = answer if stop is None else answer[: stop + 1]
        pictured = int((inputs["input_ids"][row] == image_token).sum()) if prompt.image is not None else 0
        responses.append(
            Response(
                id=prompt.id,
                suite=prompt.suite,
                modality=prompt.modality,
                prompt=prompt.prompt,
                image=prompt.image,
                response=vlm.tokenizer.decode(answer, skip_special_tokens=True).strip(),
                finish_reason="length" if stop is None else "stop",
                tokens=len(answer),
                prompt_tokens=int(lengths[row]) - pictured,
                image_tokens=pictured,
                model_key=key,
            )
        )
    return responses
