"""The training half of a run: the examples and the adapter."""

import shutil
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from unsay.data.pictures import LONGEST, VISUAL, Rendering, shares, visual_questions
from unsay.data.recipe import OwnAnswer, harmful_examples, recipe_key, retain_examples, retain_pools
from unsay.data.splits import drop_overlap
from unsay.files import content_key, read_rows, write_json, write_rows
from unsay.methods import build_method
from unsay.models.lora import adapter_key
from unsay.records import Example, Prompt, Role, SourceRow
from unsay.run.cautions import measure_answers, nothing_to_forget, training_note
from unsay.run.directory import Run
from unsay.run.examples import examples_key, harmful_requests, own_answers, read_examples, readable
from unsay.run.suites import absolute_image, check_disjoint, outside_pictures, relative_image, words_in_pictures
from unsay.stages import Spent
from unsay.suites import find_suite, written
from unsay.training import TrainingPlan, TrainResult, TrainSettings, plan_training, train


def prepare_training(run: Run, suites: dict[str, list[Prompt]]) -> TrainingPlan:
    """The plan of the training, on examples from the user's file or the built-in recipe; they go to `train/`.

    Raises:
        UserError: malformed examples, one that is also asked in a suite, or a role that the method needs and lacks;
            rows that its processes cannot share, or a model that cannot be split over them.
    """
    paths = [run.folder / "train" / name for name in ("examples.jsonl", "probe.jsonl")]
    given = run.config.data.examples
    held_out = [prompt for prompts in suites.values() for prompt in prompts]
    rendering = _rendering(run)
    method = build_method(run.config.method, run.config.method_settings)
    # What the settings alone get wrong shows here, before answers are generated.
    needs = plan_training(method, run.config.train, processes=run.processes.world).needs
    requests = [] if given is not None else harmful_requests(run, suites)
    answers = [] if given is not None else own_answers(run, requests)
    if given is None and Role.FORGET in needs.roles and not answers:
        raise nothing_to_forget(run)

    def work(spent: Spent) -> None:
        shutil.rmtree(rendering.folder, ignore_errors=True)  # an edited picture must not be taken for a fresh one
        if given is not None:
            examples, probe = read_examples(given, run.config.data.recipe.probe, run.config.seed)
            examples, probe = rendering.render(examples), rendering.render(probe)
        else:
            examples, probe = _recipe(run, held_out, rendering, requests, answers)
        check_disjoint([*examples, *probe], suites, run.folder / "train" / "overlaps.jsonl")
        measure_answers(run, examples)
        write_rows(paths[0], [relative_image(run, example) for example in examples])
        write_rows(paths[1], [relative_image(run, example) for example in probe])

    def outputs() -> list[Path]:
        drawn = {run.folder / row.image for path in paths for row in readable(path) if row.image is not None}
        return [*paths, *sorted(path for path in drawn if path.is_relative_to(run.folder))]

    @cache
    def plan() -> TrainingPlan:
        """Made here and not in the work: the limits are no input of the stage, and may have changed since."""
        examples, probe = ([absolute_image(run, row) for row in read_rows(path, Example)] for path in paths)
        reader = run.reading() if given is not None else None
        return plan_training(
            method,
            _settings(run, examples),
            examples,
            probe,
            vlm=run.original() if needs.hidden or run.processes.sharded else reader,
            processes=run.processes.world,
            sharded=run.processes.sharded,
            key=content_key(run.config.method, run.config.method_settings),
        )

    # A picture of the user's own questions may be replaced by one that is trained on, and their words stay the same.
    own = [prompt for name, prompts in suites.items() if find_suite(name) is None for prompt in prompts]
    pictures = outside_pictures(run, own)
    inputs = [
        run.model_key,
        run.config.data,
        run.config.seed,
        content_key([prompt.request for prompt in held_out]),
        recipe_key(),
        examples_key(given),
        run.judge.key,
        answers,
        *([pictures] if pictures else []),
    ]
    title = "Put the training examples together"
    run.stages.run("examples", title, inputs, outputs, work, note=lambda: training_note(run, plan()))
    return plan()


def train_adapter(run: Run, plan: TrainingPlan) -> str:
    """Train the adapter; returns its content key.

    Raises:
        UserError: as `train`.
    """
    outputs = [run.adapter_folder / "adapter_model.safetensors", run.folder / "train" / "metrics.jsonl"]

    def work(spent: Spent) -> None:
        run.processes.broadcast(plan)  # the others wait for it in `join_training`; nobody reads a file too early
        result = _train(run, plan)
        run.keep(result.vlm)
        run.processes.wait()
        spent.text_tokens, spent.image_tokens = result.tokens, result.image_tokens
        spent.flops, spent.seconds = result.flops, result.seconds
        write_json(run.folder / "train" / "result.json", {"steps": result.steps, "stopped": result.stopped})

    title = "Unlearn, on pictures too" if plan.pictured else "Unlearn, on text alone"
    run.stages.run("unlearn", title, [run.model_key, plan.key], outputs, work, total=plan.settings.steps)
    if run.stages.records[-1][1]:
        run.processes.broadcast(None)  # reused: nothing to take part in
    return adapter_key(run.adapter_folder)


def join_training(run: Run) -> None:
    """What the other processes do of a run: wait for the first one's training, if there is any, and take part in it.

    Raises:
        UserError: as `train`.
    """
    plan: TrainingPlan | None = run.processes.broadcast(None)
    if plan is not None:
        _train(run, plan)
        run.forget()
        run.processes.wait()


def _train(run: Run, plan: TrainingPlan) -> TrainResult:
    return train(
        run.to_train(),
        plan,
        run.folder,
        progress=lambda step, steps, row: run.stages.progress.update(step, steps, f"loss {row['loss']:+.2f}"),
        processes=run.processes,
        device=run.device,
    )


def _rendering(run: Run) -> Rendering:
    data = run.config.data
    harmful = shares(data.modality)
    retain = harmful if data.retain_modality is None else shares(data.retain_modality)
    return Rendering(harmful, retain, data.recipe, run.config.seed, run.folder / "train" / "images")


def _settings(run: Run, examples: list[Example]) -> TrainSettings:
    """The run's training settings; a mix of retain sources makes room for visual questions, unless it names them."""
    settings = run.config.train
    visual = Counter(example.source for example in examples if example.source in VISUAL)
    mix = settings.retain_mix
    if run.config.data.examples is not None or not visual or mix is None or set(mix) & set(VISUAL):
        return settings
    share = _visual_share(run)
    room = {source: share * sum(mix.values()) * count / visual.total() for source, count in sorted(visual.items())}
    shrunk = {source: (1 - share) * part for source, part in mix.items()}
    return settings.model_copy(update={"retain_mix": {**shrunk, **room}})


def _visual_share(run: Run) -> float:
    """Share of visual questions among all retain examples."""
    return run.config.data.recipe.visual_questions * _rendering(run).pictured


def _recipe(
    run: Run,
    held_out: list[Prompt],
    rendering: Rendering,
    requests: list[SourceRow],
    answers: list[OwnAnswer],
) -> tuple[list[Example], list[Example]]:
    settings, seed = run.config.data.recipe, run.config.seed
    chat, plain = written.magpie_halves()[0], written.plain_halves()[0]
    pools = retain_pools(written.contrast_halves()[0], plain, chat)
    if rendering.pictured:
        pools = [_drawable(pool, held_out) for pool in pools]
    retain, probe = retain_examples(pools, held_out, settings, seed)
    share = _visual_share(run)
    texts = drop_overlap(_drawable([*plain, *chat], held_out), held_out) if share else []
    visual = visual_questions(texts, rendering, round(len(retain) * share / (1 - share)))
    visual = drop_overlap(visual, held_out)
    examples = rendering.render(harmful_examples(requests, answers, settings, seed) + retain)
    return examples + visual, rendering.render(probe)


def _drawable(rows: Sequence[SourceRow], held_out: list[Prompt]) -> list[SourceRow]:
    """Rows that can be read as pictures, and that no suite's picture shows."""
    return drop_overlap([row for row in rows if len(row.text) <= LONGEST], words_in_pictures(held_out))
