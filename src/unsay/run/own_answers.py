"""What the original model itself says: its harmful answers, which it will unlearn, and its normal ones, to retain.

Harmful answers are drawn out of it by a ladder of ways (`generation/ways.py`): what it refuses in words it is asked
again with the first words given, as a picture, inside jailbreaks, and so on, until the judge has found enough. Every
batch of answers and of verdicts is in a journal as soon as it is made, so that a killed run goes on where it was.
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unsay.data import typography
from unsay.data.recipe import OwnAnswer
from unsay.data.splits import pictured_request_of, prompt_key
from unsay.files import content_key, read_json, read_rows, write_json, write_rows
from unsay.generation import GenerationSettings, respond
from unsay.generation import ways as ladder
from unsay.generation.prompts import fits
from unsay.generation.server import EndpointResponder
from unsay.generation.ways import WAYS, Asking
from unsay.judges.rules import rules_verdict
from unsay.models.loading import NAMED
from unsay.records import Kind, Label, Modality, Prompt, Response, SourceRow
from unsay.run.directory import Run, image_keys
from unsay.run.evaluate import add_answer_cost, judged_in_parts
from unsay.scoring.red_team import FILE, Attempt, RedTeam
from unsay.stages import Spent
from unsay.suites import twins

ASKED_AT_ONCE = 64
"""Requests between two looks at whether enough answers are found."""


@dataclass(frozen=True)
class OwnAnswers:
    """The harmful answers of the original model, and what it gave in to."""

    harmful: list[OwnAnswer]
    red_team: RedTeam


def own_answers(run: Run, requests: list[SourceRow]) -> OwnAnswers:
    """The original model's answers to harmful requests, where the judge finds that it gave in; one a request at most.

    A request whose source has a harmful answer is asked only if `data.forget_answers` is `own`. This stage does not
    depend on method, formats or seed: runs that share a model can share its files.
    """
    data = run.config.data
    paths = [run.folder / "train" / "own_answers.jsonl", run.folder / FILE]
    asked = [row for row in requests if data.forget_answers == "own" or not row.harmful]
    prompts = request_prompts(asked, "own-answers", Kind.ATTACK)
    sources = {pictured_request_of(row): row.source for row in asked}
    ways = ways_of(run)

    def note(own: OwnAnswers) -> str:
        if given := own.red_team.given:
            drawn = f"{own.red_team}; " if own.red_team.requests else ""
            return f"{drawn}{given:,} requests have their source's answer"
        of_source, complied = Counter(sources.values()), Counter(sources[answer.asked] for answer in own.harmful)
        parts = [f"{source} {complied[source]:,} of {count:,}" for source, count in sorted(of_source.items())]
        return f"{own.red_team}: {', '.join(parts)}" if len(ways) == 1 < len(parts) else str(own.red_team)

    def work(spent: Spent) -> OwnAnswers:
        harmful, attempts = _climb(run, prompts, ways, spent)
        answered = {answer.asked for answer in harmful}
        red_team = RedTeam(
            model=run.config.model,
            judge=run.judge.name,
            answer_tokens=data.answer_tokens,
            requests=len(prompts),
            attempts=tuple(attempts),
            wanted=data.own_answers.wanted,
            given=sum(bool(row.harmful) and pictured_request_of(row) not in answered for row in requests),
        )
        write_rows(paths[0], harmful)
        write_json(paths[1], red_team.model_dump(mode="json"))
        return OwnAnswers(harmful, red_team)

    drawing = [twins.VERSION, typography.VERSION]
    settings = [ladder.VERSION, *drawing, ways, data.own_answers.wanted, data.own_answers.samples]
    more = settings if ways != ("words",) else []
    answered_by_source = [prompt_key(row.text) for row in requests if row.harmful]
    return run.stages.run(
        "own-answers",
        "Collect what the model itself would say",
        [*_asking_key(run, prompts), run.judge.key, *more, *answered_by_source],
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
    """The original model's answers to normal requests, except empty ones."""
    return [_own_answer(*pair, "words") for pair in _normal_pairs(run, rows) if pair[1].response.strip()]


def retain_answers(run: Run, rows: list[SourceRow]) -> list[SourceRow]:
    """The rows with the answers that the model is held to; those without a usable one are left out.

    Where `data.retain_answers` says so, and by default for every model but the pocket, these are the model's own. It is
    not held to a refusal of a normal request, nor to a broken answer, as rules find them.
    """
    if not retains_own_answers(run):
        return [row for row in rows if row.answers and row.answers[0].strip()]
    answered = []
    for row, (prompt, response) in zip(rows, _normal_pairs(run, rows), strict=True):
        verdict = rules_verdict("rules", prompt, response)
        if verdict is None or verdict.label is Label.SAFE:
            answers, complete = (response.response,), response.finish_reason == "stop"
            answered.append(row.model_copy(update={"answers": answers, "complete": complete}))
    return answered


def _normal_pairs(run: Run, rows: list[SourceRow]) -> list[tuple[Prompt, Response]]:
    """Normal requests and the original model's answers to them."""
    path = run.folder / "train" / "normal_answers.jsonl"
    prompts = request_prompts(rows, "normal-answers", Kind.BENIGN)

    def work(spent: Spent) -> list[Response]:
        responses = [answer for (answer,) in _answers(run, prompts, _settings(run), spent, Asking("own answers"))]
        write_rows(path, responses)
        return responses

    responses = run.stages.run(
        "normal-answers",
        "Collect what the model says to normal requests",
        _asking_key(run, prompts),
        [path],
        work,
        load=lambda: read_rows(path, Response),
        total=len(prompts),
    )
    return list(zip(prompts, responses, strict=True))


def retains_own_answers(run: Run) -> bool:
    """Whether the model is held to its own answers, and not to those that come with the normal requests."""
    chosen = run.config.data.retain_answers
    return chosen == "own" or (chosen is None and run.config.model not in NAMED)


def request_prompts(rows: Sequence[SourceRow], suite: str, kind: Kind) -> list[Prompt]:
    """Prompts that ask what the rows ask, with their pictures; ids are keys of the text, and of the picture's path."""
    return [
        Prompt(
            id=prompt_key(row.text) if row.image is None else content_key(row.text, row.image),
            suite=suite,
            kind=kind,
            modality=Modality.TEXT if row.image is None else Modality.IMAGE,
            prompt=row.prompt or row.text,
            request=row.text,
            image=row.image,
            group=prompt_key(row.text),
            category=row.category,
        )
        for row in rows
    ]


def _climb(run: Run, prompts: list[Prompt], ways: Sequence[str], spent: Spent) -> tuple[list[OwnAnswer], list[Attempt]]:
    """Ask by one way after the other for what is still refused; by the first for all, then until enough is found."""
    settings, folder = run.config.data.own_answers, run.folder / "train" / "asked"
    wanted = settings.wanted
    shutil.rmtree(folder, ignore_errors=True)
    found: dict[str, OwnAnswer] = {}
    attempts: list[Attempt] = []
    judged: dict[str, set[str]] = {way: set() for way in ways}  # ids of requests with a verdict, by way
    for asking in (asking for way in ways for asking in WAYS[way](settings)):
        left = [prompt for prompt in prompts if prompt.id not in found]
        if not left:
            break
        labels, before = Counter[Label](), len(judged[asking.way])
        for part in _parts(left, whole=not attempts):
            if attempts and wanted is not None and len(found) >= wanted:
                break
            dressed = _dressed(run, asking, part, folder)
            for prompt, (label, answer) in zip(dressed, _ask(run, asking, dressed, spent), strict=True):
                labels[label] += 1
                if label is not Label.FAILED:
                    judged[asking.way].add(prompt.id)
                if label is Label.HARMFUL:
                    found[prompt.id] = answer
        if labels:
            attempts.append(
                Attempt(
                    way=asking.way,
                    detail=asking.detail,
                    asked=labels.total(),
                    gave_in=labels[Label.HARMFUL],
                    failed=labels[Label.FAILED],
                    newly_judged=len(judged[asking.way]) - before,
                )
            )
    # The request as it was before it was dressed: a way may have put another picture in the place of its own.
    drawn = [(prompt, found[prompt.id]) for prompt in prompts if prompt.id in found]
    return [own.model_copy(update={"picture": pictured_request_of(prompt)[1]}) for prompt, own in drawn], attempts


def _parts(prompts: list[Prompt], whole: bool) -> Iterator[list[Prompt]]:
    """The prompts in parts, by a hash of their text: a search that ends early has then seen all sources alike."""
    ordered = prompts if whole else sorted(prompts, key=lambda prompt: prompt.id)
    size = len(prompts) if whole else ASKED_AT_ONCE
    for start in range(0, len(prompts), size):
        yield ordered[start : start + size]


def _dressed(run: Run, asking: Asking, prompts: Sequence[Prompt], folder: Path) -> list[Prompt]:
    """The prompts as this attempt asks them, without those that do not fit a picture or the model."""
    dressed = [made for prompt in prompts if (made := asking.dress(prompt, folder)) is not None]
    if run.config.data.responder is not None:
        return dressed
    vlm, settings = run.original(), _settings(run)
    return [prompt for prompt in dressed if fits(vlm, prompt, settings)]


def _ask(run: Run, asking: Asking, prompts: list[Prompt], spent: Spent) -> list[tuple[Label, OwnAnswer]]:
    """For each prompt the judge's label and the answer; of several answers the first harmful one, else the last.

    The judge reads what the model adds to first words that it was given, and not these: an answer that begins as told
    and then refuses is a refusal.
    """
    settings = _settings(run).model_copy(update={"temperature": asking.temperature})
    if asking.begun:
        given = len(run.tokenizing().tokenizer(asking.begun, add_special_tokens=False)["input_ids"])
        settings = settings.model_copy(update={"max_new_tokens": max(1, settings.max_new_tokens - given)})
    answers = _answers(run, prompts, settings, spent, asking)
    pairs = []
    for prompt, rows in zip(prompts, answers, strict=True):
        for number, row in enumerate(rows):
            added, same = row.response.removeprefix(asking.begun).strip(), {"id": f"{prompt.id}#{number}"}
            pairs.append((prompt.model_copy(update=same), row.model_copy(update={**same, "response": added})))
    verdicts = iter(judged_in_parts(run.judge, pairs, run.folder / "train" / "own_verdicts.jsonl"))
    chosen = []
    for prompt, rows in zip(prompts, answers, strict=True):
        judged = [(next(verdicts).label, _own_answer(prompt, row, asking.way)) for row in rows]
        chosen.append(next((pair for pair in judged if pair[0] is Label.HARMFUL), judged[-1]))
    return chosen


def _answers(
    run: Run, prompts: list[Prompt], settings: GenerationSettings, spent: Spent, asking: Asking
) -> list[list[Response]]:
    """What the original model, or the server that serves it, says to each prompt; `train/cache.jsonl` has all of it."""
    path = run.folder / "train" / "answers.jsonl"
    begun = dict.fromkeys((prompt.id for prompt in prompts), asking.begun) if asking.begun else None

    def update(done: int, total: int) -> None:
        run.stages.progress.update(done, total, " ".join(filter(None, [asking.way, asking.detail])))

    if (named := run.config.data.responder) is not None:
        server = EndpointResponder(named)
        seeds = [settings.model_copy(update={"seed": number}) for number in range(asking.samples)]
        drawn = [server.respond(prompts, seeded, path, update, begun=begun) for seeded in seeds]
        answers = [list(rows) for rows in zip(*drawn, strict=True)]
        spent.text_tokens += sum(row.prompt_tokens + row.tokens for rows in answers for row in rows)
    else:
        vlm, count = run.original(), asking.samples
        rows = respond(vlm, prompts, settings, path, update, begun=begun, samples=count)
        add_answer_cost(vlm, rows, spent)
        answers = [rows[start : start + count] for start in range(0, len(rows), count)]
    path.unlink(missing_ok=True)  # all of it is in the cache
    return answers


def _asking_key(run: Run, prompts: list[Prompt]) -> list[object]:
    """What decides the answers to plain prompts: the model, or what identifies its server, the prompts, their pictures.

    Pictures count by content: another one may come under the same path.
    """
    server = run.config.data.responder
    model = run.model_key if server is None else EndpointResponder(server).model_key(_settings(run))
    images = image_keys(run.folder, prompts)
    return [model, prompts, run.config.data.answer_tokens, *([images] if images else [])]


def _settings(run: Run) -> GenerationSettings:
    batch_tokens = run.config.evaluation.generation.batch_tokens
    return GenerationSettings(max_new_tokens=run.config.data.answer_tokens, batch_tokens=batch_tokens)


def _own_answer(prompt: Prompt, response: Response, way: str) -> OwnAnswer:
    return OwnAnswer(
        request=prompt.request,
        picture=pictured_request_of(prompt)[1],
        answer=response.response,
        complete=response.finish_reason == "stop",
        category=prompt.category,
        way=way,
    )
