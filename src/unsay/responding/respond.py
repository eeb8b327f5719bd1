"""Answers to a suite, in a file."""

from collections.abc import Callable, Sequence
from pathlib import Path

from unsay.files import write_rows
from unsay.models.vlm import VLM
from unsay.records import Prompt, Response
from unsay.responding.cache import ResponseCache
from unsay.responding.images import check_images
from unsay.responding.local import generate, model_key
from unsay.responding.memory import explained
from unsay.responding.settings import GenerationSettings

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
