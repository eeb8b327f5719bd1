"""Training examples that are the model's own answers, and those of the user's own file.

What the model itself says before training: harmful answers that it will unlearn, or normal ones to hold it to.

Your own training examples, with or without pictures.
"""

import os
import random
from pathlib import Path

from unsay.data.pictures import read_image
from unsay.data.recipe import OwnAnswer, choose_requests
from unsay.data.splits import drop_overlap, prompt_key
from unsay.errors import UserError
from unsay.files import file_key, read_numbered_rows, read_rows, write_rows
from unsay.generation import GenerationSettings, respond
from unsay.judges import judge_all
from unsay.records import Example, Kind, Label, Modality, Prompt, Response, Role, SourceRow, Verdict
from unsay.run.cautions import compliance
from unsay.run.directory import Run
from unsay.run.evaluate import add_answer_cost
from unsay.stages import Spent
from unsay.suites import advbench


def harmful_requests(run: Run, suites: dict[str, list[Prompt]]) -> list[SourceRow]:
    """The harmful requests that a run learns from: AdvBench's train half, clear of every suite, as far as wanted.

    Raises:
        UserError: a category that no request has.
    """
    held_out = [prompt for prompts in suites.values() for prompt in prompts]
    return choose_requests(drop_overlap(advbench.halves()[0], held_out), run.config.data.recipe, run.config.seed)


def own_answers(run: Run, requests: list[SourceRow]) -> list[OwnAnswer]:
    """What the model says to harmful requests before training, where the judge finds that it complied.

    A stage of its own, which knows nothing of method, formats or seed: runs that share a model can share its files.
    """
    paths = [run.folder / "train" / name for name in ("own_answers.jsonl", "own_verdicts.jsonl")]
    prompts = _prompts(requests, "own-answers", Kind.ATTACK)

    def work(spent: Spent) -> None:
        responses = _ask(run, prompts, paths[0], spent)
        write_rows(paths[1], judge_all(run.judge, list(zip(prompts, responses, strict=True))))

    inputs = [run.model_key, prompts, run.config.data.answer_tokens, run.judge.key]
    title = "Collect what the model itself would say"
    run.stages.run("own-answers", title, inputs, paths, work, total=len(prompts), note=lambda: str(compliance(run)))
    rows = zip(prompts, read_rows(paths[0], Response), read_rows(paths[1], Verdict), strict=True)
    return [_own(prompt, response) for prompt, response, verdict in rows if verdict.label is Label.HARMFUL]


def normal_answers(run: Run, rows: list[SourceRow]) -> list[OwnAnswer]:
    """What the model says to normal requests before training, all but empty answers: its own retain answers."""
    path = run.folder / "train" / "normal_answers.jsonl"
    prompts = _prompts(rows, "normal-answers", Kind.BENIGN)
    inputs = [run.model_key, prompts, run.config.data.answer_tokens]
    title = "Collect what the model says to normal requests"

    def work(spent: Spent) -> None:
        _ask(run, prompts, path, spent)

    run.stages.run("normal-answers", title, inputs, [path], work, total=len(prompts))
    return [_own(*pair) for pair in zip(prompts, read_rows(path, Response), strict=True) if pair[1].response.strip()]


def _prompts(rows: list[SourceRow], suite: str, kind: Kind) -> list[Prompt]:
    return [
        Prompt(
            id=prompt_key(row.text),
            suite=suite,
            kind=kind,
            modality=Modality.TEXT,
            prompt=row.text,
            request=row.text,
            group=prompt_key(row.text),
            category=row.category,
        )
        for row in rows
    ]


def _ask(run: Run, prompts: list[Prompt], path: Path, spent: Spent) -> list[Response]:
    """The original model's answers, of as many tokens as are learned from, in a file."""
    vlm = run.original()
    responses = respond(
        vlm,
        prompts,
        GenerationSettings(
            max_new_tokens=run.config.data.answer_tokens,
            batch_tokens=run.config.evaluation.generation.batch_tokens,
        ),
        path,
        lambda done, total: run.stages.progress.update(done, total, "own answers"),
    )
    add_answer_cost(vlm, responses, spent)
    return responses


def _own(prompt: Prompt, response: Response) -> OwnAnswer:
    return OwnAnswer(
        request=prompt.request,
        answer=response.response,
        complete=response.finish_reason == "stop",
        category=prompt.category,
    )


def read_examples(path: Path, probe: int, seed: int) -> tuple[list[Example], list[Example]]:
    """The user's examples; a part of the retain ones, never more than a tenth, is set aside as the probe.

    Paths of images are relative to the file.

    Raises:
        UserError: names the file and the line: a malformed row, a repeated id, a missing or unreadable image.
    """
    numbered = read_numbered_rows(path, Example)
    if not numbered:
        raise UserError(f"{path}: holds no examples")
    seen: set[str] = set()
    for line, example in numbered:
        if example.id in seen:
            raise UserError(f"{path}:{line}: id: an earlier row has the same one")
        seen.add(example.id)
    examples = [_opened(path, line, example) for line, example in numbered]
    retain = [example for example in examples if example.role is Role.RETAIN]
    aside = set(random.Random(seed).sample([e.id for e in retain], min(probe, len(retain) // 10)))
    return [e for e in examples if e.id not in aside], [e for e in retain if e.id in aside]


def _opened(path: Path, line: int, example: Example) -> Example:
    """The example with an absolute path to its picture.

    Raises:
        UserError: the picture is missing or unreadable; names the file and the line.
    """
    if example.image is None:
        return example
    image = os.path.abspath(path.parent / example.image)
    try:
        read_image(image)
    except UserError as error:
        raise UserError(f"{path}:{line}: image: {error}") from None
    return example.model_copy(update={"image": image})


def examples_key(path: Path | None) -> list[object] | None:
    """The user's examples by content, pictures included; None where there is no such file."""
    return None if path is None or not path.is_file() else [file_key(path), pictures_key(path)]


def pictures_key(path: Path) -> list[str]:
    """The user's pictures by content: a picture that was edited is other training data."""
    images = [example.image for example in readable(path) if example.image is not None]
    return [file_key(file) for image in images if (file := path.parent / image).is_file()]


def readable(path: Path) -> list[Example]:
    """The rows of a file, or none where it is missing or malformed: that is said where it is read in earnest."""
    try:
        return read_rows(path, Example)
    except UserError:
        return []
