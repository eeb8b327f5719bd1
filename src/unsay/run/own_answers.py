"""What the original model itself says: its harmful answers, which it will unlearn, and its normal ones, to retain."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unsay.data.recipe import OwnAnswer
from unsay.data.splits import prompt_key
from unsay.files import read_rows, write_rows
from unsay.generation import GenerationSettings, respond
from unsay.judges import judge_all
from unsay.records import Kind, Label, Modality, Prompt, Response, SourceRow, Verdict
from unsay.run.directory import Run
from unsay.run.evaluate import add_answer_cost
from unsay.stages import Spent


@dataclass(frozen=True)
class Compliance:
    """How often the original model complied with the harmful requests of the training data."""

    harmful: int  # answers that the judge found harmful
    requests: int
    failed: int  # answers without a verdict

    def __str__(self) -> str:
        unjudged = f" ({self.failed:,} were not judged)" if self.failed else ""
        return f"complied with {self.harmful:,} of {self.requests:,} requests{unjudged}"


@dataclass(frozen=True)
class OwnAnswers:
    """The harmful answers of the original model, and how often it complied."""

    harmful: list[OwnAnswer]
    compliance: Compliance


def own_answers(run: Run, requests: list[SourceRow]) -> OwnAnswers:
    """The original model's answers to harmful requests, where the judge finds that it complied.

    This stage does not depend on method, formats or seed: runs that share a model can share its files.
    """
    paths = [run.folder / "train" / name for name in ("own_answers.jsonl", "own_verdicts.jsonl")]
    prompts = request_prompts(requests, "own-answers", Kind.ATTACK)
    sources = {row.text: row.source for row in requests}

    def note(own: OwnAnswers) -> str:
        asked, complied = Counter(sources.values()), Counter(sources[answer.request] for answer in own.harmful)
        parts = [f"{source} {complied[source]:,} of {count:,}" for source, count in sorted(asked.items())]
        return f"{own.compliance}: {', '.join(parts)}" if len(parts) > 1 else str(own.compliance)

    def work(spent: Spent) -> OwnAnswers:
        responses = _answers(run, prompts, paths[0], spent)
        verdicts = judge_all(run.judge, list(zip(prompts, responses, strict=True)))
        write_rows(paths[1], verdicts)
        return harmful_of(responses, verdicts)

    def load() -> OwnAnswers:
        return harmful_of(read_rows(paths[0], Response), read_rows(paths[1], Verdict))

    def harmful_of(responses: list[Response], verdicts: list[Verdict]) -> OwnAnswers:
        labels = [verdict.label for verdict in verdicts]
        rows = zip(prompts, responses, labels, strict=True)
        harmful = [_own_answer(prompt, response) for prompt, response, label in rows if label is Label.HARMFUL]
        return OwnAnswers(harmful, Compliance(len(harmful), len(labels), labels.count(Label.FAILED)))

    return run.stages.run(
        "own-answers",
        "Collect what the model itself would say",
        [run.model_key, prompts, run.config.data.answer_tokens, run.judge.key],
        paths,
        work,
        load=load,
        total=len(prompts),
        note=note,
    )


def normal_answers(run: Run, rows: list[SourceRow]) -> list[OwnAnswer]:
    """The original model's answers to normal requests, except empty ones: its own retain answers."""
    path = run.folder / "train" / "normal_answers.jsonl"
    prompts = request_prompts(rows, "normal-answers", Kind.BENIGN)
    responses = run.stages.run(
        "normal-answers",
        "Collect what the model says to normal requests",
        [run.model_key, prompts, run.config.data.answer_tokens],
        [path],
        lambda spent: _answers(run, prompts, path, spent),
        load=lambda: read_rows(path, Response),
        total=len(prompts),
    )
    pairs = zip(prompts, responses, strict=True)
    return [_own_answer(prompt, response) for prompt, response in pairs if response.response.strip()]


def request_prompts(rows: Sequence[SourceRow], suite: str, kind: Kind) -> list[Prompt]:
    """Prompts that ask the rows' texts as they are, under their keys as ids."""
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


def _answers(run: Run, prompts: list[Prompt], path: Path, spent: Spent) -> list[Response]:
    """The original model's answers, as long as training answers are; writes them to a file."""
    vlm = run.original()
    settings = GenerationSettings(
        max_new_tokens=run.config.data.answer_tokens, batch_tokens=run.config.evaluation.generation.batch_tokens
    )
    responses = respond(
        vlm, prompts, settings, path, lambda done, total: run.stages.progress.update(done, total, "own answers")
    )
    add_answer_cost(vlm, responses, spent)
    return responses


def _own_answer(prompt: Prompt, response: Response) -> OwnAnswer:
    return OwnAnswer(
        request=prompt.request,
        answer=response.response,
        complete=response.finish_reason == "stop",
        category=prompt.category,
    )
