"""One phase of a run: answer every suite with one model, then judge, grade or measure the answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import field_validator

from unsay.errors import UserError
from unsay.files import content_key, file_key, read_json, read_rows, read_text, write_json, write_rows, write_text
from unsay.generation import check_images, respond
from unsay.generation.openings import OPENINGS
from unsay.generation.served_adapter import prove_adapter
from unsay.generation.server import EndpointResponder
from unsay.judges import Judge, judge_all
from unsay.judges.base import Pair, VerdictJournal, shown
from unsay.models import VLM
from unsay.records import Kind, Phase, Prompt, Record, Response, Verdict
from unsay.run.directory import Adapter, Run, absolute_image, image_keys, relative_image
from unsay.run.suites import Suites
from unsay.stages import Spent
from unsay.suites import Suite, find_suite, get_suite
from unsay.suites.base import GRADER, Grade
from unsay.training.flops import forward_flops
from unsay.training.likelihood import answer_losses, choice_scores

GRADE_TOKENS = 256
"""Token limit of a judge model's grade."""
JUDGED_AT_ONCE = 64
"""Answers per call of a judge: the most verdicts that a kill can lose."""
TITLES = {Phase.BEFORE: "Evaluate the original model", Phase.AFTER: "Evaluate the unlearned model"}


class Value(Record):
    """The value of one item of a utility suite, in the suite's unit."""

    id: str
    value: float | None  # None where a judge model gave no usable grade: counted as failed, and in no score
    weight: float = 1.0

    @field_validator("value")
    @classmethod
    def _finite(cls, value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class PhaseResult:
    """The answers of one phase and how they were judged, by suite."""

    phase: Phase
    responses: dict[str, list[Response]] = field(default_factory=dict)  # of every suite that is answered in words
    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)  # of attack and benign suites
    values: dict[str, list[Value]] = field(default_factory=dict)  # of utility suites
    # What else decided the answers, by name (see `answer_conditions`).
    conditions: dict[str, str] = field(default_factory=dict)


def read_phase(folder: Path, suites: Mapping[str, Sequence[Prompt]], phase: Phase, judge: str) -> PhaseResult:
    """The result of a phase from the files of a run directory; a `UserError` if one is missing or malformed."""
    result = PhaseResult(phase, conditions=read_conditions(folder, phase))
    for name, prompts in suites.items():
        file, utility = f"{name}.{phase.value}.jsonl", _is_utility(prompts)
        if not utility or (folder / "responses" / file).exists():  # likelihoods come without answers
            result.responses[name] = read_rows(folder / "responses" / file, Response)
        if utility:
            result.values[name] = read_rows(folder / "values" / file, Value)
        else:
            result.verdicts[name] = read_rows(folder / "verdicts" / judge / file, Verdict)
    return result


def evaluate_phase(run: Run, suites: Suites, phase: Phase, adapter: Adapter | None = None) -> PhaseResult:
    """Answer every suite with the original model, or with an adapter on it, and judge the answers.

    Where the settings name a server, it answers instead. Writes the phase's files in `responses/`, `verdicts/<judge>/`
    and `values/`, and its `conditions_path`. An unreadable image is a `UserError` before anything is generated.
    """
    config = run.config.evaluation
    server = None if config.responder is None else EndpointResponder(config.responder)
    total = sum(map(len, suites.values()))

    @cache
    def vlm() -> VLM:
        return run.original() if adapter is None else run.adapted(adapter)

    def answer(name: str, prompts: list[Prompt], done: int, spent: Spent) -> list[Response]:
        path = run.folder / "responses" / f"{name}.{phase.value}.jsonl"
        title = _title(name)

        def progress(now: int, _total: int) -> None:
            run.stages.progress.update(done + now, total, title)

        if server is None:
            responses = respond(vlm(), prompts, config.generation, path, progress)
            add_answer_cost(vlm(), responses, spent)
        else:
            responses = server.respond(prompts, config.generation, path, progress)
            spent.text_tokens += sum(row.prompt_tokens + row.tokens for row in responses)
        return responses

    def work(spent: Spent) -> PhaseResult:
        check_images([prompt for prompts in suites.values() for prompt in prompts])
        usage = judge_usage(run.judge)
        conditions = _chat_conditions(vlm() if server is None else None)
        if server is not None:
            served = prove_adapter(server.settings, suites, config.generation, run.folder / "responses" / "adapter")
            conditions |= {} if served is None else {"served_adapter": str(served)}
        result = PhaseResult(phase, conditions=conditions)
        write_json(conditions_path(run.folder, phase), conditions)
        done = 0
        for name, prompts in suites.items():
            suite = find_suite(name)
            if suite is not None and suite.likely:
                result.values[name] = _likelihoods(suite, vlm(), prompts, spent)
            else:
                responses = result.responses[name] = answer(name, prompts, done, spent)
                if _is_utility(prompts):
                    result.values[name] = _measured(run.judge, get_suite(name), prompts, responses)
                else:
                    result.verdicts[name] = _judged(run, name, prompts, responses, phase)
            if name in result.values:
                write_rows(run.folder / "values" / f"{name}.{phase.value}.jsonl", result.values[name])
            done += len(prompts)
            run.stages.progress.update(done, total, _title(name))
        if ignored := ignored_parameters(server, run.judge):
            conditions |= ignored
            write_json(conditions_path(run.folder, phase), conditions)
        requests, tokens, price = (now - then for now, then in zip(judge_usage(run.judge), usage, strict=True))
        spent.judge_requests, spent.judge_tokens, spent.judge_price = round(requests), round(tokens), price
        return result

    images = image_keys(run.folder, (prompt for prompts in suites.values() for prompt in prompts))
    inputs = [
        run.model_key if server is None else server.model_key(config.generation),
        None if adapter is None else adapter.key,
        {name: [relative_image(run.folder, prompt) for prompt in prompts] for name, prompts in suites.items()},
        config.generation,
        *([OPENINGS, *config.generation.sampling] if server is None else []),
        *([server.settings.base_model] if server is not None and server.settings.base_model else []),  # it is a proof
        run.judge.key,
        {name: suite.version for name in suites if (suite := find_suite(name)) is not None},  # of measures, too
        *([images] if images else []),
    ]
    files = [path for name, prompts in suites.items() for path in _phase_files(run, name, prompts, phase)]
    return run.stages.run(
        f"evaluate-{phase.value}",
        TITLES[phase],
        inputs,
        [*files, conditions_path(run.folder, phase)],
        work,
        load=lambda: read_phase(run.folder, suites, phase, run.judge.name),
        total=total,
    )


def conditions_path(folder: Path, phase: Phase) -> Path:
    """The file of what else decided a phase's answers (see `answer_conditions`).

    One for each phase: a stage whose file another stage writes again would never be reused.
    """
    return folder / f"template.{phase.value}.json"


def read_conditions(folder: Path, phase: Phase) -> dict[str, str]:
    """The conditions of a phase from a run directory; empty where it has none, as in old ones."""
    path = conditions_path(folder, phase)
    found = read_json(path) if path.exists() else None
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def answer_conditions(results: Sequence[PhaseResult]) -> dict[str, str]:
    """What decided answers beside the settings: the chat template's hash, transformers' version, ignored parameters.

    Where the phases differ, both values.
    """
    values: dict[str, dict[str, None]] = {}
    for result in results:
        for name, value in result.conditions.items():
            values.setdefault(name, {})[value] = None
    return {name: ", then ".join(each) for name, each in values.items()}


def ignored_parameters(server: EndpointResponder | None, judge: Any) -> dict[str, str]:
    """The parameters that the answering server and the judge's servers did not take → what was done instead.

    `answers.temperature` → "left to the server", for example; those of a judge begin with `verdicts.`.
    """
    ignored = {} if server is None else {f"answers.{name}": done for name, done in server.ignored_parameters.items()}
    for member in (judge, *getattr(judge, "members", ())):
        ignored |= {f"verdicts.{name}": done for name, done in getattr(member, "ignored_parameters", {}).items()}
    return ignored


def grade_answers(judge: Any, grade: Grade, pairs: Sequence[tuple[Prompt, Response]]) -> list[Value]:
    """A judge model's grades, in order; an error with one row costs only that row."""
    client = getattr(judge, "client", None)
    if client is None:
        raise UserError(f"evaluation.judge: '{judge.name}' cannot grade open answers; '{GRADER}' can")
    client.begin()
    values = [_grade(client, grade, prompt, response) for prompt, response in pairs]
    if (trouble := client.trouble()) is not None:
        raise UserError(f"judge '{judge.name}': {trouble}. Then run the same command again")
    return values


def add_answer_cost(vlm: VLM, responses: list[Response], spent: Spent) -> None:
    """Add the cost of answering; cached answers count as if they were made now."""
    text = sum(row.prompt_tokens + row.tokens for row in responses)
    image_tokens = sum(row.image_tokens for row in responses)
    images = sum(row.image is not None for row in responses)
    spent.text_tokens += text
    spent.image_tokens += image_tokens
    answered = sum(row.tokens for row in responses)
    spent.flops += forward_flops(vlm, text + image_tokens, head_tokens=answered, images=images)


def judge_usage(judge: Any) -> tuple[float, float, float]:
    """Requests, tokens and price so far, of a judge behind a server or of a panel's members; zeros for any other."""
    members = [judge, *getattr(judge, "members", ())]
    meters = [member.client.meter for member in members if hasattr(member, "client")]
    return sum(m.requests for m in meters), sum(m.tokens for m in meters), sum(m.cost for m in meters)


def _title(name: str) -> str:
    suite = find_suite(name)
    return name if suite is None else suite.title


def _is_utility(prompts: Sequence[Prompt]) -> bool:
    return bool(prompts) and prompts[0].kind is Kind.UTILITY


def _chat_conditions(vlm: VLM | None) -> dict[str, str]:
    """The hash of one short chat as the template renders it (what the model reads), and the library's version.

    A server (None) does not tell its template.
    """
    return {
        "chat_template": "the server's own" if vlm is None else content_key(vlm.render("Hi"), vlm.answer_end),
        "transformers": version("transformers"),
    }


def _phase_files(run: Run, name: str, prompts: list[Prompt], phase: Phase) -> list[Path]:
    """The files that a phase writes for one suite."""
    responses = run.folder / "responses" / f"{name}.{phase.value}.jsonl"
    values = run.folder / "values" / f"{name}.{phase.value}.jsonl"
    suite = find_suite(name)
    if suite is not None and suite.likely:
        return [values]
    return [responses, values if _is_utility(prompts) else _verdicts_path(run, name, phase)]


def _verdicts_path(run: Run, name: str, phase: Phase) -> Path:
    return run.folder / "verdicts" / run.judge.name / f"{name}.{phase.value}.jsonl"


def _grade(client: Any, grade: Grade, prompt: Prompt, response: Response) -> Value:
    messages = [{"role": "user", "content": grade.ask(prompt, response)}]
    try:
        reply = client.complete(messages, max_tokens=GRADE_TOKENS, temperature=0.0)
        if reply.finish_reason in ("length", "content_filter"):
            return Value(id=prompt.id, value=None)
        value, weight = grade.read(str(reply.text))
    except Exception:  # an outage, a refusal, nonsense: never a grade
        return Value(id=prompt.id, value=None)
    return Value(id=prompt.id, value=value, weight=weight)


def _measured(judge: Any, suite: Suite, prompts: list[Prompt], responses: list[Response]) -> list[Value]:
    """The values of answers to a utility suite: a judge model's grades, or the suite's own measure."""
    pairs = list(zip(prompts, responses, strict=True))
    if suite.grade is not None:
        return grade_answers(judge, suite.grade, pairs)
    assert suite.measure is not None, f"suite {suite.name} is a utility suite without a measure"
    measure = suite.measure
    return [Value(id=prompt.id, value=measure.value(prompt, response)) for prompt, response in pairs]


def _likelihoods(suite: Suite, vlm: VLM, prompts: list[Prompt], spent: Spent) -> list[Value]:
    """The values of a utility suite that reads likelihoods and generates nothing."""
    if suite.choose is not None:
        scores, tokens = choice_scores(vlm, prompts)
        values = [suite.choose(prompt, of_prompt) for prompt, of_prompt in zip(prompts, scores, strict=True)]
    else:
        values, tokens = answer_losses(vlm, prompts)
    spent.text_tokens += tokens
    spent.flops += forward_flops(vlm, tokens, head_tokens=tokens)
    return [Value(id=prompt.id, value=value) for prompt, value in zip(prompts, values, strict=True)]


def known_verdicts(run: Run, name: str, phase: Phase) -> list[tuple[Pair, Verdict]]:
    """The verdicts that the run itself has on a judged suite, with what was judged; none where they are not its own."""
    paths = run.folder / "suites" / f"{name}.jsonl", run.folder / "responses" / f"{name}.{phase.value}.jsonl"
    if not all(path.exists() for path in paths):
        return []
    prompts = [absolute_image(run.folder, row) for row in read_rows(paths[0], Prompt)]
    responses = read_rows(paths[1], Response)
    verdicts = _kept_verdicts(run, name, prompts, responses, phase) or []
    return list(zip(zip(prompts, responses, strict=True), verdicts, strict=True)) if verdicts else []


def _kept_verdicts(
    run: Run, name: str, prompts: list[Prompt], responses: list[Response], phase: Phase
) -> list[Verdict] | None:
    """The verdicts of a suite's file, if they are this judge's on these answers; the key holds the verdicts, too."""
    path = _verdicts_path(run, name, phase)
    key_path = path.with_suffix(".key")
    if (
        path.exists()
        and key_path.exists()
        and read_text(key_path) == f"{_judged_key(run, prompts, responses)} {file_key(path)}"
    ):
        return read_rows(path, Verdict)
    return None


def _judged_key(run: Run, prompts: list[Prompt], responses: list[Response]) -> str:
    asked = [[row.id, row.kind, row.in_full, *shown(run.judge, row)] for row in prompts]
    return content_key(run.judge.key, asked, [[row.id, row.response] for row in responses])


def _judged(run: Run, name: str, prompts: list[Prompt], responses: list[Response], phase: Phase) -> list[Verdict]:
    """The verdicts on one suite, from their file where the same answers have been judged before."""
    path = _verdicts_path(run, name, phase)
    key_path, partial = path.with_suffix(".key"), path.with_suffix(".partial")
    # Judging may cost more than answering: a killed run, or one with one suite more, keeps the verdicts it has.
    if (kept := _kept_verdicts(run, name, prompts, responses, phase)) is not None:
        return kept
    key = _judged_key(run, prompts, responses)
    verdicts = judged_in_parts(run.judge, list(zip(prompts, responses, strict=True)), partial)
    write_rows(path, verdicts)
    write_text(key_path, f"{key} {file_key(path)}")
    partial.unlink(missing_ok=True)
    return verdicts


def judged_in_parts(judge: Judge, pairs: list[Pair], path: Path) -> list[Verdict]:
    """Every pair's verdict; each judged part is saved in a journal, so that a killed run judges only the rest."""
    journal = VerdictJournal(path, judge, by_row=True)
    verdicts = {pair[0].id: verdict for pair in pairs if (verdict := journal.get(pair)) is not None}
    waiting = [pair for pair in pairs if pair[0].id not in verdicts]
    for start in range(0, len(waiting), JUDGED_AT_ONCE):
        part = waiting[start : start + JUDGED_AT_ONCE]
        for pair, verdict in zip(part, judge_all(judge, part), strict=True):
            verdicts[pair[0].id] = verdict
            journal.add(pair, verdict)
    return [verdicts[prompt.id] for prompt, _ in pairs]
