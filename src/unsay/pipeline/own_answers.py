"""What the model itself says before training: harmful answers that it will unlearn, or normal ones to hold it to."""

from pathlib import Path

from unsay.data.recipe import OwnAnswer, choose_requests
from unsay.data.splits import drop_overlap, prompt_key
from unsay.files import read_rows, write_rows
from unsay.judging import judge_all
from unsay.pipeline.evaluate import note_cost
from unsay.pipeline.learning import complied
from unsay.pipeline.run import Run
from unsay.records import Kind, Label, Modality, Prompt, Response, SourceRow, Verdict
from unsay.responding import GenerationSettings, respond
from unsay.stages import Spent
from unsay.suites import advbench


def requests_of(run: Run, suites: dict[str, list[Prompt]]) -> list[SourceRow]:
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
    run.stages.run("own-answers", title, inputs, paths, work, total=len(prompts), note=lambda: str(complied(run)))
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
    note_cost(vlm, responses, spent)
    return responses


def _own(prompt: Prompt, response: Response) -> OwnAnswer:
    return OwnAnswer(
        request=prompt.request,
        answer=response.response,
        complete=response.finish_reason == "stop",
        category=prompt.category,
    )
