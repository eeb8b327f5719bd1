"""The training half of a run: the model's own harmful answers, the examples, the adapter."""

import random
from pathlib import Path

from unsay.data.recipe import OwnAnswer, choose_requests, harmful_examples, retain_examples, retain_pools
from unsay.data.splits import drop_overlap, prompt_key
from unsay.errors import UserError
from unsay.files import content_key, file_key, read_numbered_rows, read_rows, write_json, write_rows
from unsay.judging import judge_all
from unsay.methods import build_method
from unsay.models.lora import adapter_key
from unsay.pipeline.evaluate import note_cost
from unsay.pipeline.run import Run
from unsay.pipeline.suites import check_disjoint, suite_code_key
from unsay.records import Example, Kind, Label, Modality, Prompt, Response, Role, SourceRow, Verdict
from unsay.responding import GenerationSettings, respond
from unsay.stages import Spent
from unsay.suites import advbench, benign, contrast
from unsay.training import train
from unsay.training.schedule import batches


def prepare_examples(run: Run, suites: dict[str, list[Prompt]]) -> tuple[list[Example], list[Example]]:
    """Training examples and the probe's, from the user's file or from the built-in recipe; both go to `train/`.

    Raises:
        UserError: malformed examples, one that is also asked in a suite, or a role that the method needs and lacks.
    """
    paths = [run.folder / "train" / name for name in ("examples.jsonl", "probe.jsonl")]
    given = run.config.data.examples
    held_out = [prompt for prompts in suites.values() for prompt in prompts]
    requests = [] if given is not None else requests_of(run, suites)
    answers = [] if given is not None else own_answers(run, requests)

    def work(spent: Spent) -> None:
        if given is not None:
            examples, probe = _given(given, run.config.data.recipe.probe, run.config.seed)
        else:
            examples, probe = _recipe(run, held_out, requests, answers)
        check_disjoint([*examples, *probe], suites)
        write_rows(paths[0], examples)
        write_rows(paths[1], probe)

    inputs = [
        run.model_key,
        run.config.data,
        run.config.seed,
        content_key([prompt.request for prompt in held_out]),
        suite_code_key(),
        file_key(given) if given is not None and given.is_file() else None,
        run.judge.key,
        answers,
    ]
    run.stages.run("examples", "Put the training examples together", inputs, paths, work)
    examples, probe = read_rows(paths[0], Example), read_rows(paths[1], Example)
    # Planned again when training starts; here a lack is found before the original model is evaluated.
    batches(examples, build_method(run.config.method, run.config.method_settings).needs, run.config.train)
    return examples, probe


def unlearn_stage(run: Run, examples: list[Example], probe: list[Example]) -> str:
    """Train the adapter; returns its content key.

    Raises:
        UserError: an unknown method or setting, data that does not fit the method, NaN or collapse.
    """
    config = run.config
    settings = config.train
    method = build_method(config.method, config.method_settings)
    outputs = [run.adapter_folder / "adapter_model.safetensors", run.folder / "train" / "metrics.jsonl"]
    inputs = [
        run.model_key,
        config.method,
        config.method_settings,
        settings,
        content_key([example.model_dump(mode="json") for example in [*examples, *probe]]),
    ]

    def work(spent: Spent) -> None:
        result = train(
            run.original(),
            examples,
            method,
            settings,
            run.folder,
            probe_examples=probe,
            progress=lambda step, steps, row: run.stages.progress.update(step, steps, f"loss {row['loss']:+.2f}"),
            key=content_key(config.method, config.method_settings),
        )
        run.keep(result.vlm)
        spent.text_tokens, spent.flops, spent.seconds = result.tokens, result.flops, result.seconds
        write_json(run.folder / "train" / "result.json", {"steps": result.steps, "stopped": result.stopped})

    run.stages.run("unlearn", "Unlearn, on text alone", inputs, outputs, work, total=settings.steps)
    return adapter_key(run.adapter_folder)


def _given(path: Path, probe: int, seed: int) -> tuple[list[Example], list[Example]]:
    """The user's examples; a part of the retain ones, never more than a tenth, is set aside as the probe."""
    numbered = read_numbered_rows(path, Example)
    if not numbered:
        raise UserError(f"{path}: holds no examples")
    seen: set[str] = set()
    for line, example in numbered:
        if example.id in seen:
            raise UserError(f"{path}:{line}: id: an earlier row has the same one")
        seen.add(example.id)
    examples = [example for _, example in numbered]
    retain = [example for example in examples if example.role is Role.RETAIN]
    aside = set(random.Random(seed).sample([e.id for e in retain], min(probe, len(retain) // 10)))
    return [e for e in examples if e.id not in aside], [e for e in retain if e.id in aside]


def _recipe(
    run: Run, held_out: list[Prompt], requests: list[SourceRow], answers: list[OwnAnswer]
) -> tuple[list[Example], list[Example]]:
    settings, seed = run.config.data.recipe, run.config.seed
    pools = retain_pools(contrast.halves()[0], benign.plain_halves()[0], benign.magpie_halves()[0])
    retain, probe = retain_examples(pools, held_out, settings, seed)
    return harmful_examples(requests, answers, settings, seed) + retain, probe


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
    prompts = [
        Prompt(
            id=prompt_key(row.text),
            suite="own-answers",
            kind=Kind.ATTACK,
            modality=Modality.TEXT,
            prompt=row.text,
            request=row.text,
            group=prompt_key(row.text),
            category=row.category,
        )
        for row in requests
    ]

    def work(spent: Spent) -> None:
        vlm = run.original()
        responses = respond(
            vlm,
            prompts,
            GenerationSettings(max_new_tokens=run.config.data.answer_tokens),
            paths[0],
            lambda done, total: run.stages.progress.update(done, total, "own answers"),
        )
        note_cost(vlm, responses, spent)
        write_rows(paths[1], judge_all(run.judge, list(zip(prompts, responses, strict=True))))

    inputs = [run.model_key, prompts, run.config.data.answer_tokens, run.judge.key]
    run.stages.run("own-answers", "Collect what the model itself would say", inputs, paths, work, total=len(prompts))
    rows = zip(prompts, read_rows(paths[0], Response), read_rows(paths[1], Verdict), strict=True)
    return [
        OwnAnswer(
            request=prompt.request,
            answer=response.response,
            complete=response.finish_reason == "stop",
            category=prompt.category,
        )
        for prompt, response, verdict in rows
        if verdict.label is Label.HARMFUL
    ]
