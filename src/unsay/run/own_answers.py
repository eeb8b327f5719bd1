"""What the original model itself says: its harmful answers, which it will unlearn, and its normal ones, to retain.

Harmful answers are drawn out of it by a ladder of ways (`generation/ways.py`): what it refuses in words it is asked again
with the first words given, as a picture, inside jailbreaks, and so on, until the judge has found enough. Every batch of
answers and of verdicts is in a journal as soon as it is made, so that a killed run goes on where it was.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unsay.data.recipe import OwnAnswer
from unsay.data.splits import prompt_key
from unsay.files import read_json, read_rows, write_json, write_rows
from unsay.generation import GenerationSettings, respond
from unsay.generation import ways as ladder
from unsay.generation.prompts import fits
from unsay.generation.server import EndpointResponder
from unsay.generation.ways import WAYS, Asking
from unsay.judges.rules import sound_verdict
from unsay.models.loading import NAMED
from unsay.records import Kind, Label, Modality, Prompt, Response, SourceRow
from unsay.run.directory import Run
from unsay.run.evaluate import add_answer_cost, judged_in_parts
from unsay.scoring.red_team import Attempt, RedTeam
from unsay.stages import Spent

ASKED_AT_ONCE = 64
"""Requests between two looks at whether enough answers are found."""
NO_BLANK = tuple(",.:;!?'’)")
"""How an answer may go on from its first words without a blank."""


@dataclass(frozen=True)
class OwnAnswers:
    """The harmful answers of the original model, and what it gave in to."""

    harmful: list[OwnAnswer]
    red_team: RedTeam


def own_answers(run: Run, requests: list[SourceRow]) -> OwnAnswers:
    """The harmful answers to harmful requests: those that the judge finds among the original model's, and given ones.

    A request has one answer at most. Those of a source are used as `data.forget_answers` says. Without sources' answers
    this stage does not depend on method, formats or seed: runs that share a model can share its files.
    """
    data = run.config.data
    paths = [run.folder / "train" / name for name in ("own_answers.jsonl", "red_team.json")]
    given = {row.text: row.harmful[0] for row in requests if row.harmful}
    asked = [row for row in requests if data.forget_answers == "own" or row.text not in given]
    prompts = request_prompts(asked, "own-answers", Kind.ATTACK)
    sources = {row.text: row.source for row in asked}
    ways = ways_of(run)

    def note(own: OwnAnswers) -> str:
        if len(ways) > 1 or own.red_team.given:
            return _said(own.red_team)
        of_source, complied = Counter(sources.values()), Counter(sources[answer.request] for answer in own.harmful)
        parts = [f"{source} {complied[source]:,} of {count:,}" for source, count in sorted(of_source.items())]
        return f"{own.red_team}: {', '.join(parts)}" if len(parts) > 1 else str(own.red_team)

    def work(spent: Spent) -> OwnAnswers:
        drawn, attempts, wanted = _climb(run, prompts, ways, spent)
        by_request = {answer.request: answer for answer in drawn}
        harmful = []
        for row in requests:
            if (answer := by_request.get(row.text)) is not None:
                harmful.append(answer)
            elif row.text in given:
                answer = OwnAnswer(request=row.text, answer=given[row.text], complete=True, way="given")
                harmful.append(answer.model_copy(update={"category": row.category}))
        red_team = RedTeam(
            model=run.config.model,
            judge=run.judge.name,
            answer_tokens=data.answer_tokens,
            requests=len(prompts),
            attempts=tuple(attempts),
            wanted=wanted,
            given=len(harmful) - len(drawn),
        )
        write_rows(paths[0], harmful)
        write_json(paths[1], red_team.model_dump(mode="json"))
        return OwnAnswers(harmful, red_team)

    more = [ladder.VERSION, ways, data.own_answers.wanted, data.own_answers.samples] if ways != ("words",) else []
    return run.stages.run(
        "own-answers",
        "Collect what the model itself would say",
        [_answering_key(run), prompts, data.answer_tokens, run.judge.key, *more, *([given] if given else [])],
        paths,
        work,
        load=lambda: OwnAnswers(read_rows(paths[0], OwnAnswer), RedTeam.model_validate(read_json(paths[1]))),
        total=len(prompts),
        note=note,
    )


def ways_of(run: Run) -> tuple[str, ...]:
    """The ways in which this run asks for harmful answers: in words alone where the recipe was made for the model."""
    chosen = run.config.data.own_answers.ways
    return chosen or (("words",) if run.config.model in NAMED else tuple(WAYS))


def normal_answers(run: Run, rows: list[SourceRow]) -> list[OwnAnswer]:
    """The original model's answers to normal requests, except empty ones: its own retain answers."""
    path = run.folder / "train" / "normal_answers.jsonl"
    prompts = request_prompts(rows, "normal-answers", Kind.BENIGN)

    def work(spent: Spent) -> list[Response]:
        answers = _answers(run, prompts, _settings(run), spent, "own answers")
        write_rows(path, answers)
        return answers

    responses = run.stages.run(
        "normal-answers",
        "Collect what the model says to normal requests",
        [_answering_key(run), prompts, run.config.data.answer_tokens],
        [path],
        work,
        load=lambda: read_rows(path, Response),
        total=len(prompts),
    )
    pairs = zip(prompts, responses, strict=True)
    return [_own_answer(prompt, response) for prompt, response in pairs if response.response.strip()]


def retain_answers(run: Run, rows: list[SourceRow]) -> list[SourceRow]:
    """The rows with the answers that the model is held to; those without a usable one are left out.

    Where `data.retain_answers` says so, and by default for every model but the pocket, these are the model's own. It is
    not held to a refusal of a normal request, nor to a broken answer.
    """
    if not retains_own_answers(run):
        return [row for row in rows if row.answers and row.answers[0].strip()]
    own = {answer.request: answer for answer in normal_answers(run, rows) if _is_sound(answer)}
    return [
        row.model_copy(update={"answers": (answer.answer,), "complete": answer.complete})
        for row in rows
        if (answer := own.get(row.text)) is not None
    ]


def retains_own_answers(run: Run) -> bool:
    """Whether the model is held to its own answers, and not to those that come with the normal requests."""
    chosen = run.config.data.retain_answers
    return chosen == "own" or (chosen is None and run.config.model not in NAMED)


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


def _climb(
    run: Run, prompts: list[Prompt], ways: Sequence[str], spent: Spent
) -> tuple[list[OwnAnswer], list[Attempt], int | None]:
    """Ask by one way after the other for what is still refused; returns (answers, attempts, `wanted` if it ended it)."""
    settings, folder = run.config.data.own_answers, run.folder / "train" / "asked"
    shutil.rmtree(folder, ignore_errors=True)
    found: dict[str, OwnAnswer] = {}
    attempts = []
    for number, asking in enumerate(asking for way in ways for asking in WAYS[way](settings)):
        left = [prompt for prompt in prompts if prompt.id not in found]
        if not left:
            break
        asked = gave_in = failed = 0
        # By a hash of their text, so that a search that ends early has seen all sources alike.
        parts = [left] if number == 0 else list(_parts(sorted(left, key=lambda prompt: prompt.id)))
        for part in parts:
            if number and settings.wanted is not None and len(found) >= settings.wanted:
                if asked:
                    attempts.append(_attempt(asking, asked, gave_in, failed))
                return _in_order(prompts, found), attempts, settings.wanted
            dressed = _dressed(run, asking, part, folder)
            labels = _ask(run, asking, dressed, spent)
            for prompt, (label, answer) in zip(dressed, labels, strict=True):
                if label is Label.HARMFUL:
                    found[prompt.id] = answer
            asked, gave_in = asked + len(dressed), gave_in + sum(label is Label.HARMFUL for label, _ in labels)
            failed += sum(label is Label.FAILED for label, _ in labels)
        attempts.append(_attempt(asking, asked, gave_in, failed))
    return _in_order(prompts, found), attempts, None


def _parts(prompts: list[Prompt]) -> Iterator[list[Prompt]]:
    for start in range(0, len(prompts), ASKED_AT_ONCE):
        yield prompts[start : start + ASKED_AT_ONCE]


def _attempt(asking: Asking, asked: int, gave_in: int, failed: int) -> Attempt:
    return Attempt(way=asking.way, detail=asking.detail, asked=asked, gave_in=gave_in, failed=failed)


def _in_order(prompts: list[Prompt], found: dict[str, OwnAnswer]) -> list[OwnAnswer]:
    return [found[prompt.id] for prompt in prompts if prompt.id in found]


def _dressed(run: Run, asking: Asking, prompts: Sequence[Prompt], folder: Path) -> list[Prompt]:
    """The prompts as this attempt asks them, without those that do not fit a picture or the model."""
    dressed = [made for prompt in prompts if (made := asking.dress(prompt, folder)) is not None]
    if asking.way == "words" or run.config.data.responder is not None:
        return dressed
    vlm, settings = run.original(), _settings(run)
    return [prompt for prompt in dressed if fits(vlm, prompt, settings)]


def _ask(run: Run, asking: Asking, prompts: list[Prompt], spent: Spent) -> list[tuple[Label, OwnAnswer]]:
    """The judge's label of each answer, and the answer with the first words that were given.

    The judge reads what the model added to these words, and not the words: an answer that begins as told and then
    refuses is a refusal.
    """
    settings = asking.settings.model_copy(update=_settings(run).model_dump(include={"max_new_tokens", "batch_tokens"}))
    begun = {prompt.begun for prompt in prompts if prompt.begun is not None}
    if begun:
        longest = max(len(run.tokenizing().tokenizer(text, add_special_tokens=False)["input_ids"]) for text in begun)
        settings = settings.model_copy(update={"max_new_tokens": max(1, settings.max_new_tokens - longest)})
    responses = _answers(run, prompts, settings, spent, asking.way)
    verdicts = judged_in_parts(
        run.judge, list(zip(prompts, responses, strict=True)), run.folder / "train" / "own_verdicts.jsonl"
    )
    return [
        (verdict.label, _own_answer(prompt, response).model_copy(update={"way": asking.way}))
        for prompt, response, verdict in zip(prompts, responses, verdicts, strict=True)
    ]


def _answers(run: Run, prompts: list[Prompt], settings: GenerationSettings, spent: Spent, note: str) -> list[Response]:
    """The original model's answers, by the server that serves it if there is one; kept in `train/cache.jsonl`."""
    path = run.folder / "train" / "answers.jsonl"
    update: Callable[[int, int], None] = lambda done, total: run.stages.progress.update(done, total, note)  # noqa: E731
    if (server := run.config.data.responder) is not None:
        responses = EndpointResponder(server).respond(prompts, settings, path, update)
        spent.text_tokens += sum(row.prompt_tokens + row.tokens for row in responses)
    else:
        vlm = run.original()
        responses = respond(vlm, prompts, settings, path, update)
        add_answer_cost(vlm, responses, spent)
    path.unlink(missing_ok=True)  # all of it is in the cache
    return responses


def _answering_key(run: Run) -> str:
    """Content key of the model that answers; of a server, what identifies it."""
    server = run.config.data.responder
    return run.model_key if server is None else EndpointResponder(server).model_key(_settings(run))


def _settings(run: Run) -> GenerationSettings:
    batch_tokens = run.config.evaluation.generation.batch_tokens
    return GenerationSettings(max_new_tokens=run.config.data.answer_tokens, batch_tokens=batch_tokens)


def _own_answer(prompt: Prompt, response: Response) -> OwnAnswer:
    words = response.response
    if prompt.begun is not None:
        words = prompt.begun + ("" if words.startswith(NO_BLANK) else " ") + words
    return OwnAnswer(
        request=prompt.request,
        answer=words,
        complete=response.finish_reason == "stop",
        category=prompt.category,
    )


def _is_sound(answer: OwnAnswer) -> bool:
    """Whether an answer to a normal request is neither a refusal nor broken, by rules."""
    ...


def _said(red_team: RedTeam) -> str:
    more = f"; {red_team.given:,} of the sources' own answers" if red_team.given else ""
    return f"{red_team}{more}"
