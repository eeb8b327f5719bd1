"""Batched generation with the model at hand."""

from collections.abc import Iterator, Sequence

import torch

from unsay.files import content_key
from unsay.models.vlm import VLM
from unsay.records import Prompt, Response
from unsay.responding.asked import Asked, ask, batches, model_inputs
from unsay.responding.continuous import continuous, flows, pays
from unsay.responding.greedy import fits, greedy
from unsay.responding.settings import GenerationSettings


def model_key(vlm: VLM, settings: GenerationSettings) -> str:
    """Content key of what decides an answer besides its prompt: model, adapter, settings and library version."""
    import transformers

    # Batching does not change what is asked for.
    decisive = settings.model_dump(exclude={"batch_tokens"})
    return content_key(vlm.key, vlm.adapter_key, decisive, transformers.__version__)


def generate(vlm: VLM, prompts: Sequence[Prompt], settings: GenerationSettings) -> Iterator[list[Response]]:
    """Answer prompts batch by batch, in an order that wastes little padding; yields each batch as it is done.

    Greedy answers are made by the own loop where it is exact (`greedy`), else by transformers' continuous batching if
    that pays and agrees (`continuous`, text alone), else by transformers' `generate`, which samples too.

    Greedy answers do not depend on who else is in the batch, up to rounding; sampled ones do.

    Raises:
        UserError: an image is missing or unreadable, or a prompt is too long for the model.
    """
    if vlm.tokenizer.pad_token is None:
        vlm.tokenizer.pad_token = vlm.tokenizer.eos_token  # masked wherever it stands, so any token will do
    key = model_key(vlm, settings)
    rest = ask(vlm, prompts, settings)
    text = [row for row in rest if row.image is None]
    greedily = settings.temperature == 0 and text
    if greedily and pays(vlm) and not fits(vlm, text) and flows(vlm, text, settings):
        done: set[str] = set()
        for answered in continuous(vlm, text, settings):
            yield [_response(vlm, row, answer, key) for row, answer in answered]
            done.update(row.prompt.id for row, _ in answered)
        rest = [row for row in rest if row.prompt.id not in done]
    for batch in batches(rest, settings):
        if settings.temperature == 0 and fits(vlm, batch):
            answers = greedy(vlm, batch, settings.max_new_tokens)
        else:
            answers = _sampled(vlm, batch, settings)
        yield [_response(vlm, row, answer, key) for row, answer in zip(batch, answers, strict=True)]


@torch.inference_mode()
def _sampled(vlm: VLM, batch: Sequence[Asked], settings: GenerationSettings) -> list[list[int]]:
    """Token ids of each answer by transformers' own `generate`: sampled, or of a family that needs it."""
    inputs = model_inputs(vlm, batch).to(vlm.device)
    hot = settings.temperature > 0
    with torch.random.fork_rng(enabled=hot):
        if hot:
            torch.manual_seed(settings.seed)
        output = vlm.base.generate(
            **inputs,
            do_sample=hot,
            **({"temperature": settings.temperature} if hot else {}),
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=sorted(vlm.end_tokens),
            pad_token_id=vlm.tokenizer.pad_token_id,
        )
    answers = []
    for row in output[:, inputs["input_ids"].shape[1] :].tolist():
        stop = next((position for position, token in enumerate(row) if token in vlm.end_tokens), None)
        answers.append(row if stop is None else row[: stop + 1])
    return answers


def _response(vlm: VLM, row: Asked, answer: Sequence[int], key: str) -> Response:
    placeholder = vlm.image_token_id
    pictured = row.ids.count(placeholder) if row.image is not None and placeholder is not None else 0
    return Response(
        id=row.prompt.id,
        suite=row.prompt.suite,
        modality=row.prompt.modality,
        prompt=row.prompt.prompt,
        image=row.prompt.image,
        response=vlm.tokenizer.decode(answer, skip_special_tokens=True).strip(),
        finish_reason="stop" if answer and answer[-1] in vlm.end_tokens else "length",
        tokens=len(answer),
        prompt_tokens=len(row.ids) - pictured,
        image_tokens=pictured,
        model_key=key,
    )
