"""Answers of a model to a suite, cached and written to a file.

Answers to a suite, in a file.

Batched generation with the model at hand.

Answers by content key, in an append-only file that survives being killed.

Pictures of prompts, read before work is spent on them.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from unsay.data.pictures import read_image
from unsay.files import content_key, file_key, write_rows
from unsay.generation.greedy import fits, greedy
from unsay.generation.prompts import Asked, ask, batches, model_inputs
from unsay.generation.settings import GenerationSettings, explained
from unsay.journal import Journal
from unsay.models.vlm import VLM
from unsay.records import Prompt, Response


def model_key(vlm: VLM, settings: GenerationSettings) -> str:
    """Content key of what decides an answer besides its prompt: model, adapter, settings and library version."""
    import transformers

    # Batching does not change what is asked for.
    decisive = settings.model_dump(exclude={"batch_tokens"})
    return content_key(vlm.key, vlm.adapter_key, decisive, transformers.__version__)


def generate(vlm: VLM, prompts: Sequence[Prompt], settings: GenerationSettings) -> Iterator[list[Response]]:
    """Answer prompts batch by batch, in an order that wastes little padding; yields each batch as it is done.

    Greedy answers come from `greedy` where that is exact, others from transformers' `generate`. Greedy answers do not
    depend on the rest of the batch, up to rounding; sampled ones do.

    Raises:
        UserError: an image is missing or unreadable, or a prompt is too long for the model.
    """
    if vlm.tokenizer.pad_token is None:
        vlm.tokenizer.pad_token = vlm.tokenizer.eos_token  # masked wherever it stands, so any token will do
    key = model_key(vlm, settings)
    for batch in batches(ask(vlm, prompts, settings), settings):
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


class ResponseCache:
    """Answers that were generated before, by what decides them and not by the suite they were generated for."""

    def __init__(self, path: Path) -> None:
        self.journal = Journal(path, Response)

    def get(self, prompt: Prompt, model_key: str) -> Response | None:
        """The answer to this prompt and image by this model, whatever suite it was generated for."""
        row = self.journal.get(_key(prompt, model_key))
        if row is None:
            return None
        return row.model_copy(
            update={"id": prompt.id, "suite": prompt.suite, "modality": prompt.modality, "image": prompt.image}
        )

    def add(self, pairs: Sequence[tuple[Prompt, Response]]) -> None:
        """Remember answers, written out before the call returns.

        Raises:
            UserError: the disk is full or the file cannot be written.
        """
        self.journal.add((_key(prompt, response.model_key), response) for prompt, response in pairs)


def _key(prompt: Prompt, model_key: str) -> str:
    # A system prompt or earlier turns join only where there are any: keys of plain prompts stay what they were.
    said = [prompt.system, prompt.turns] if prompt.system is not None or prompt.turns else []
    return content_key(model_key, prompt.prompt, file_key(Path(prompt.image)) if prompt.image else None, *said)


def check_images(prompts: Sequence[Prompt]) -> None:
    """Read every image once, so that a bad one is named before work is spent.

    Raises:
        UserError: an image is missing or unreadable.
    """
    for path in dict.fromkeys(prompt.image for prompt in prompts):
        if path is not None:
            read_image(path)


Progress = Callable[[int, int], None]
"""Called with (answers so far, answers in all)."""


def respond(
    vlm: VLM,
    prompts: Sequence[Prompt],
    settings: GenerationSettings,
    path: Path,
    progress: Progress | None = None,
) -> list[Response]:
    """Answer every prompt and write the rows to `path`, in the order of the prompts.

    Each batch is remembered in `cache.jsonl` beside `path` as soon as it is generated: a killed run loses one batch at
    most, and what was answered before is not asked again.

    Args:
        vlm: the model.
        prompts: their ids differ.
        settings: of generation.
        path: the file of responses.
        progress: told how far it is.

    Raises:
        UserError: an image is missing or unreadable, found before anything is generated; or memory ran out.
    """
    check_images(prompts)
    cache = ResponseCache(path.parent / "cache.jsonl")
    key = model_key(vlm, settings)
    done = {prompt.id: row for prompt in prompts if (row := cache.get(prompt, key)) is not None}
    missing = {prompt.id: prompt for prompt in prompts if prompt.id not in done}
    if progress is not None:
        progress(len(done), len(prompts))
    with explained(settings):
        for batch in generate(vlm, list(missing.values()), settings):
            cache.add([(missing[response.id], response) for response in batch])
            done.update((response.id, response) for response in batch)
            if progress is not None:
                progress(len(done), len(prompts))
    responses = [done[prompt.id] for prompt in prompts]
    write_rows(path, responses)
    return responses
