"""Answers of a model to a suite: batched generation, the cache of answers, and the suite's file of responses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from unsay.data.pictures import read_image
from unsay.files import content_key, file_key, write_rows
from unsay.generation.greedy import greedy, greedy_is_exact, sample
from unsay.generation.openings import OPENINGS, Openings, library_log_odds
from unsay.generation.prompts import EncodedPrompt, batches, encode_prompts, placed_inputs
from unsay.generation.settings import GenerationSettings, explain_out_of_memory
from unsay.journal import Journal
from unsay.models.vlm import VLM
from unsay.records import Prompt, Response

WHOLE = {"top_k": 0, "top_p": 1.0, "min_p": None, "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0}
"""Settings of `generate` that draw from all tokens, as `sample` does, whatever library and checkpoint prefer."""

Progress = Callable[[int, int], None]
"""Called with (answers so far, answers in all)."""


def respond(
    vlm: VLM,
    prompts: Sequence[Prompt],
    settings: GenerationSettings,
    path: Path,
    progress: Progress | None = None,
    *,
    begun: Mapping[str, str] | None = None,
    samples: int = 1,
    cache: "ResponseCache | None" = None,
) -> list[Response]:
    """Answer every prompt and write the rows to `path`, in the order of the prompts.

    Each batch is added to `cache.jsonl` beside `path` as soon as it is generated: a killed run loses one batch at most,
    and no prompt is answered twice.

    Args:
        vlm: the model.
        prompts: what it is asked; their ids differ.
        settings: how answers are generated.
        path: file of the rows.
        progress: called with the answers so far.
        begun: prompt id → the words that its answer begins with, as if the model had said them; rows hold them too.
        samples: answers per prompt, drawn apart at the settings' temperature; their ids end in `#0`, `#1` and so on.
        cache: the answers beside `path`, where the caller has read them already.

    Raises:
        UserError: an image is missing or unreadable, which is checked first, or memory runs out.
    """
    check_images(prompts)
    cache = cache or ResponseCache(path.parent / "cache.jsonl")
    keys = {row.id: answer_keys(model_key(vlm, settings), (begun or {}).get(row.id, ""), samples) for row in prompts}
    done: dict[str, list[Response]] = {}
    for prompt in prompts:
        found = [row for key in keys[prompt.id] if (row := cache.get(prompt, key)) is not None]
        if len(found) == samples:
            done[prompt.id] = found
    missing = {prompt.id: prompt for prompt in prompts if prompt.id not in done}
    if progress is not None:
        progress(len(done), len(prompts))
    with explain_out_of_memory(settings):
        for batch in generate(vlm, list(missing.values()), settings, begun=begun, samples=samples):
            cache.add([(missing[response.id], response) for response in batch])
            for response in batch:
                done.setdefault(response.id, []).append(response)
            if progress is not None:
                progress(len(done), len(prompts))
    responses = [
        row if samples == 1 else row.model_copy(update={"id": f"{row.id}#{number}"})
        for prompt in prompts
        for number, row in enumerate(done[prompt.id])
    ]
    write_rows(path, responses)
    return responses


def generate(
    vlm: VLM,
    prompts: Sequence[Prompt],
    settings: GenerationSettings,
    *,
    begun: Mapping[str, str] | None = None,
    samples: int = 1,
) -> Iterator[list[Response]]:
    """Answer prompts in batches of similar length; yields each finished batch.

    Greedy answers come from `greedy` where that is exact, others from transformers' `generate`. Greedy answers do not
    depend on the rest of the batch, up to rounding; a single sampled one does. Several samples of a prompt are a batch
    of their own, in order and with the prompt's id, and depend on no other prompt.
    """
    key, openings = model_key(vlm, settings), Openings.of(vlm)
    encoded = encode_prompts(vlm, prompts, settings, begun)
    if samples > 1:
        for row in encoded:
            drawn = _samples(vlm, row, settings, samples)
            keys = answer_keys(key, row.begun, samples)
            yield [_response(vlm, row, answer, None, one) for answer, one in zip(drawn, keys, strict=True)]
        return
    for batch in batches(encoded, settings):
        if settings.temperature == 0 and greedy_is_exact(vlm, batch):
            answers, log_odds = greedy(vlm, batch, settings.max_new_tokens, openings)
        else:
            answers = library_answers(vlm, batch, settings)
            log_odds = library_log_odds(vlm, batch, openings)
        keys = [answer_keys(key, row.begun)[0] for row in batch]
        yield [_response(vlm, *parts) for parts in zip(batch, answers, log_odds, keys, strict=True)]


def _samples(vlm: VLM, row: EncodedPrompt, settings: GenerationSettings, samples: int) -> list[list[int]]:
    """Token ids of several answers to one prompt, as many at a time as a batch holds."""
    if settings.temperature == 0:
        raise ValueError("greedy answers to one prompt are all alike: give a temperature")
    size = max(1, settings.batch_tokens // (len(row.ids) + settings.max_new_tokens))
    answers: list[list[int]] = []
    while len(answers) < samples:
        count = min(size, samples - len(answers))
        seed = int(content_key(settings.seed, row.text, row.image, len(answers)), 16) % 2**63
        if greedy_is_exact(vlm, [row]):
            answers += sample(vlm, row, count, settings.max_new_tokens, settings.temperature, seed)
        else:
            answers += library_answers(vlm, [row] * count, settings.model_copy(update={"seed": seed}))
    return answers


@torch.inference_mode()
def library_answers(
    vlm: VLM, batch: Sequence[EncodedPrompt], settings: GenerationSettings, **more: Any
) -> list[list[int]]:
    """Token ids of each answer by transformers' `generate`: sampled, or of a family for which `greedy` is not exact.

    `more` goes to `generate`, such as a `streamer`.
    """
    inputs = placed_inputs(vlm, batch)
    sampled = settings.temperature > 0
    with torch.random.fork_rng(enabled=sampled):
        if sampled:
            torch.manual_seed(settings.seed)
        output = vlm.base.generate(
            **inputs,
            do_sample=sampled,
            **({"temperature": settings.temperature, **WHOLE} if sampled else {}),
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=sorted(vlm.end_tokens),
            pad_token_id=vlm.tokenizer.pad_token_id,
            **more,
        )
    answers = []
    for row in output[:, inputs["input_ids"].shape[1] :].tolist():
        stop = next((position for position, token in enumerate(row) if token in vlm.end_tokens), None)
        answers.append(row if stop is None else row[: stop + 1])
    return answers


def _response(vlm: VLM, row: EncodedPrompt, answer: Sequence[int], log_odds: float | None, key: str) -> Response:
    placeholder = vlm.image_token_id
    pictured = row.ids.count(placeholder) if row.image is not None and placeholder is not None else 0
    # Decoded together: on their own, the first tokens of what follows may lose the blank before them.
    begun = vlm.tokenizer(row.begun, add_special_tokens=False)["input_ids"] if row.begun else []
    return Response.of(
        row.prompt,
        response=vlm.tokenizer.decode([*begun, *answer], skip_special_tokens=True).strip(),
        finish_reason="stop" if answer and answer[-1] in vlm.end_tokens else "length",
        tokens=len(answer),
        prompt_tokens=len(row.ids) - pictured,
        image_tokens=pictured,
        refusal_log_odds=log_odds,
        model_key=key,
    )


def model_key(vlm: VLM, settings: GenerationSettings) -> str:
    """Content key of what decides an answer besides its prompt: model, adapter, settings, openings, library version."""
    versions = OPENINGS, transformers.__version__, *settings.sampling
    return content_key(vlm.key, vlm.adapter_key, settings.decisive(), *versions)


def answer_keys(model_key: str, begun: str = "", samples: int = 1) -> list[str]:
    """The key of each answer to one prompt: the model's, unless the answer is begun already or one of several."""
    if samples == 1:
        return [content_key(model_key, begun) if begun else model_key]
    return [content_key(model_key, begun, number) for number in range(samples)]


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
        """Remember answers, written out before the call returns."""
        self.journal.add((_key(prompt, response.model_key), response) for prompt, response in pairs)


def _key(prompt: Prompt, model_key: str) -> str:
    # Only what is given is added: keys of prompts without a system prompt and turns stay as in earlier versions.
    context = [prompt.system, prompt.turns] if prompt.system is not None or prompt.turns else []
    return content_key(model_key, prompt.prompt, file_key(Path(prompt.image)) if prompt.image else None, *context)


def check_images(prompts: Sequence[Prompt]) -> None:
    """Read every image once, so that a bad one is named before any work is done."""
    for path in dict.fromkeys(prompt.image for prompt in prompts):
        if path is not None:
            read_image(path)
