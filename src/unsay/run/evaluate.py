"""One phase of a run: respond, judge, measure.

One phase of a run: respond, judge, measure.

Values of utility suites; and open answers that a judge model grades.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unsay.errors import UserError
from unsay.files import content_key, file_key, read_rows, read_text, write_json, write_rows, write_text
from unsay.generation import check_images, respond
from unsay.generation.server import EndpointResponder
from unsay.judges import judge_all
from unsay.judges.base import Pair, VerdictJournal
from unsay.models import VLM
from unsay.models.flops import forward_flops
from unsay.records import Kind, Phase, Prompt, Record, Response, Verdict
from unsay.run.cautions import ignored_parameters
from unsay.run.directory import Run
from unsay.run.suites import outside_pictures, relative_image
from unsay.stages import Progress, Spent
from unsay.suites import Suite, find_suite, get_suite
from unsay.suites.base import GRADER, Grade
from unsay.training.likelihood import answer_losses, choice_scores

ROOM = 256
"""Tokens of a judge model's reply."""


class Value(Record):
    """What one item of a utility suite came to, in the suite's unit."""

    id: str
    value: float | None
    """None where a judge model gave no usable grade: in no score, and counted."""
    weight: float = 1.0


def grade_answers(judge: Any, grade: Grade, pairs: Sequence[tuple[Prompt, Response]]) -> list[Value]:
    """A judge model's grades, in order; what goes wrong with one row costs that row alone.

    Args:
        judge: the run's judge; it must have a `client` that completes chats.
        grade: what is asked, and how a reply is read.
        pairs: prompts and answers.

    Raises:
        UserError: the judge is no judge model, or its server takes no requests at all.
    """
    client = getattr(judge, "client", None)
    if client is None:
        raise UserError(f"evaluation.judge: '{judge.name}' cannot grade open answers; '{GRADER}' can")
    client.begin()
    values = [_one(client, grade, prompt, response) for prompt, response in pairs]
    if (trouble := client.trouble()) is not None:
        raise UserError(f"judge '{judge.name}': {trouble}. Then run the same command again")
    return values


def _one(client: Any, grade: Grade, prompt: Prompt, response: Response) -> Value:
    messages = [{"role": "user", "content": grade.ask(prompt, response)}]
    try:
        reply = client.complete(messages, max_tokens=ROOM, temperature=0.0)
        value, weight = grade.read(str(reply.text))
    except Exception:  # an outage, a refusal, nonsense: never a grade
        return Value(id=prompt.id, value=None)
    return Value(id=prompt.id, value=value, weight=weight)


JUDGED_AT_ONCE = 64
"""Answers that a judge is given together; so many verdicts at most are lost by a kill."""


def evaluate_phase(
    run: Run, suites: dict[str, list[Prompt]], phase: Phase, vlm: Callable[[], VLM], adapter_key: str | None
) -> str:
    """Answer and judge every suite with one model.

    Writes `responses/`, `verdicts/<judge>/` and `values/` files of the phase, and how it was asked.

    Args:
        run: the run.
        suites: prompts by suite.
        phase: before or after.
        vlm: gives the model; called only if there is something to do, and not where a server answers.
        adapter_key: content key of its adapter, None for the original.

    Returns:
        The stage's key.

    Raises:
        UserError: an unreadable image, found before anything is generated.
    """
    config = run.config.evaluation
    server = None if config.responder is None else EndpointResponder(config.responder)
    paths = [path for name in suites for path in phase_files(run, name, suites[name], phase)]
    template = template_path(run.folder, phase)
    paths.append(template)

    def work(spent: Spent) -> None:
        check_images([prompt for prompts in suites.values() for prompt in prompts])
        model = cache(vlm)
        before = judge_usage(run.judge)
        how = template_of(None if server is not None else model())
        write_json(template, how)
        total = sum(map(len, suites.values()))
        done = 0
        for name, prompts in suites.items():
            suite = find_suite(name)
            title = suite.title if suite is not None else name
            told = _from(done, total, title, run.stages.progress)
            if suite is not None and suite.likely:
                _likelihood(suite, run, model(), name, prompts, phase, spent)
            else:
                path = run.folder / "responses" / f"{name}.{phase.value}.jsonl"
                if server is not None:
                    responses = server.respond(prompts, config.generation, path, told)
                    spent.text_tokens += sum(row.prompt_tokens + row.tokens for row in responses)
                else:
                    responses = respond(model(), prompts, config.generation, path, told)
                    add_answer_cost(model(), responses, spent)
                _judged(run, name, prompts, responses, phase)
            done += len(prompts)
            run.stages.progress.update(done, total, title)
        if instead := ignored_parameters(server, run.judge):
            write_json(template, how | instead)
        requests, tokens, price = (now - then for now, then in zip(judge_usage(run.judge), before, strict=True))
        spent.judge_requests, spent.judge_tokens, spent.judge_price = round(requests), round(tokens), price

    pictures = outside_pictures(run, [prompt for prompts in suites.values() for prompt in prompts])
    inputs = [
        run.model_key if server is None else server.model_key(config.generation),
        adapter_key,
        {name: [relative_image(run, prompt) for prompt in prompts] for name, prompts in suites.items()},
        config.generation,
        run.judge.key,
        *([pictures] if pictures else []),
    ]
    words = {Phase.BEFORE: "Evaluate the original model", Phase.AFTER: "Evaluate the unlearned model"}
    return run.stages.run(
        f"evaluate-{phase.value}", words[phase], inputs, paths, work, total=sum(map(len, suites.values()))
    )


def template_path(folder: Path, phase: Phase) -> Path:
    """What else decides a phase's answers: the chat template's hash, the version of transformers, what servers refused.

    One file for each phase: a stage whose file another stage writes again is never taken as done.
    """
    return folder / f"template.{phase.value}.json"


def template_of(vlm: VLM | None) -> dict[str, str]:
    """The hash of what the chat template makes of one short chat, and the library that made it.

    The rendered chat and not the template's text is hashed: what a model is asked is what matters. A server (None)
    does not tell its template.
    """
    return {
        "chat_template": "the server's own" if vlm is None else content_key(vlm.render("Hi"), vlm.answer_end),
        "transformers": version("transformers"),
    }


MUTE = "needs the model itself, a server cannot do it"


def answerable_suites(run: Run, suites: dict[str, list[Prompt]]) -> dict[str, list[Prompt]]:
    """The suites that the run's responder can do: a server shows no likelihoods, so those suites are left out.

    Raises:
        UserError: one of them was asked for by name.
    """
    if run.config.evaluation.responder is None:
        return suites
    mute = [name for name in suites if (suite := find_suite(name)) is not None and suite.likely]
    if named := [name for name in mute if name in run.config.evaluation.suites]:
        raise UserError(f"suite '{named[0]}': {MUTE}; leave it out")
    run.left_out.update(dict.fromkeys(mute, MUTE))
    return {name: prompts for name, prompts in suites.items() if name not in mute}


def _from(done: int, total: int, title: str, progress: Progress) -> Callable[[int, int], None]:
    """Tells of one suite's answers as a part of the whole phase."""

    def told(now: int, _of_suite: int) -> None:
        progress.update(done + now, total, title)

    return told


def phase_files(run: Run, name: str, prompts: list[Prompt], phase: Phase) -> list[Path]:
    """The files that a phase writes for one suite."""
    responses = run.folder / "responses" / f"{name}.{phase.value}.jsonl"
    values = run.folder / "values" / f"{name}.{phase.value}.jsonl"
    suite = find_suite(name)
    if suite is not None and suite.likely:
        return [values]
    if prompts and prompts[0].kind is Kind.UTILITY:
        return [responses, values]
    return [responses, verdicts_path(run, name, phase)]


def verdicts_path(run: Run, name: str, phase: Phase) -> Path:
    """Where the run's judge files its verdicts on one suite."""
    return run.folder / "verdicts" / run.judge.name / f"{name}.{phase.value}.jsonl"


def add_answer_cost(vlm: VLM, responses: list[Response], spent: Spent) -> None:
    """Add what answering took; answers from the cache count as if made now, for that is what they cost."""
    text = sum(row.prompt_tokens + row.tokens for row in responses)
    pictured = sum(row.image_tokens for row in responses)
    pictures = sum(row.image is not None for row in responses)
    spent.text_tokens += text
    spent.image_tokens += pictured
    answered = sum(row.tokens for row in responses)
    spent.flops += forward_flops(vlm, text + pictured, head_tokens=answered, images=pictures)


def judge_usage(judge: Any) -> tuple[float, float, float]:
    """Requests, tokens and price so far, of a judge behind a server or of a panel's members; zeros for any other."""
    members = [judge, *getattr(judge, "members", ())]
    meters = [member.client.meter for member in members if hasattr(member, "client")]
    return sum(m.requests for m in meters), sum(m.tokens for m in meters), sum(m.cost for m in meters)


def _judged(run: Run, name: str, prompts: list[Prompt], responses: list[Response], phase: Phase) -> None:
    if prompts and prompts[0].kind is Kind.UTILITY:
        suite = get_suite(name)
        pairs = list(zip(prompts, responses, strict=True))
        if suite.grade is not None:
            rows = grade_answers(run.judge, suite.grade, pairs)
        else:
            assert suite.measure is not None, f"suite {name} is a utility suite without a measure"
            measure = suite.measure
            rows = [Value(id=prompt.id, value=measure.value(prompt, response)) for prompt, response in pairs]
        write_rows(run.folder / "values" / f"{name}.{phase.value}.jsonl", rows)
        return
    path = verdicts_path(run, name, phase)
    key_path = path.with_suffix(".key")
    asked = [[row.id, row.kind, row.in_full] for row in prompts]
    key = content_key(run.judge.key, asked, [[row.id, row.response] for row in responses])
    # Judging may cost more than answering: a killed run, or one with one suite more, keeps the verdicts it has. The
    # key holds the verdicts themselves too, so that edited ones are not kept.
    if path.exists() and key_path.exists() and read_text(key_path) == f"{key} {file_key(path)}":
        return
    write_rows(path, _in_parts(run, list(zip(prompts, responses, strict=True)), path.with_suffix(".partial")))
    write_text(key_path, f"{key} {file_key(path)}")
    path.with_suffix(".partial").unlink(missing_ok=True)


def _in_parts(run: Run, pairs: list[Pair], path: Path) -> list[Verdict]:
    """Every pair's verdict; a part that is judged is kept, so that a killed run judges only the rest."""
    done = VerdictJournal(path, run.judge.key, by_row=True)
    found = {pair[0].id: verdict for pair in pairs if (verdict := done.get(pair)) is not None}
    waiting = [pair for pair in pairs if pair[0].id not in found]
    for start in range(0, len(waiting), JUDGED_AT_ONCE):
        part = waiting[start : start + JUDGED_AT_ONCE]
        for pair, verdict in zip(part, judge_all(run.judge, part), strict=True):
            found[pair[0].id] = verdict
            done.add(pair, verdict)
    return [found[prompt.id] for prompt, _ in pairs]


def _likelihood(suite: Suite, run: Run, vlm: VLM, name: str, prompts: list[Prompt], phase: Phase, spent: Spent) -> None:
    if suite.choose is not None:
        scores, tokens = choice_scores(vlm, prompts)
        values = [suite.choose(prompt, found) for prompt, found in zip(prompts, scores, strict=True)]
    else:
        values, tokens = answer_losses(vlm, prompts)
    rows = [Value(id=prompt.id, value=value) for prompt, value in zip(prompts, values, strict=True)]
    write_rows(run.folder / "values" / f"{name}.{phase.value}.jsonl", rows)
    spent.text_tokens += tokens
    spent.flops += forward_flops(vlm, tokens, head_tokens=tokens)


def read_values(folder: Path, name: str, phase: Phase) -> list[Value]:
    """The values of one utility suite in one phase."""
    return read_rows(folder / "values" / f"{name}.{phase.value}.jsonl", Value)
