"""The training half of a run: the examples and the adapter."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unsay.data.pictures import LONGEST, VISUAL, Rendering, shares, visual_questions
from unsay.data.recipe import OwnAnswer, harmful_examples, recipe_key, retain_examples, retain_pools
from unsay.data.splits import drop_overlap
from unsay.files import content_key, read_rows, write_json, write_rows
from unsay.methods import build_method, code_key
from unsay.models.lora import adapter_key
from unsay.models.sharding import check_shardable
from unsay.records import Example, Prompt, Role, SourceRow
from unsay.run.cautions import measure_answers, nothing_to_forget, training_cautions, training_note
from unsay.run.directory import Run
from unsay.run.examples import examples_key, harmful_requests, own_answers, read_examples, readable
from unsay.run.suites import (
    absolute_image,
    check_disjoint,
    outside_pictures,
    relative_image,
    words_in_pictures,
)
from unsay.scoring import Caution
from unsay.stages import Spent
from unsay.suites import find_suite, written
from unsay.training import TrainResult, TrainSettings, train
from unsay.training.batches import batches, check_shares
from unsay.training.encode import check_lengths
from unsay.training.hidden import check_blocks
from unsay.training.reference import check_cacheable
from unsay.training.trainer import example_content


def prepare_examples(run: Run, suites: dict[str, list[Prompt]]) -> tuple[list[Example], list[Example]]:
    """Training examples and the probe's, from the user's file or from the built-in recipe; both go to `train/`.

    Raises:
        UserError: malformed examples, one that is also asked in a suite, or a role that the method needs and lacks;
            rows that its processes cannot share, or a model that cannot be split over them.
    """
    paths = [run.folder / "train" / name for name in ("examples.jsonl", "probe.jsonl")]
    given = run.config.data.examples
    held_out = [prompt for prompts in suites.values() for prompt in prompts]
    rendering = _rendering(run)
    needs = build_method(run.config.method, run.config.method_settings).needs
    check_shares(needs, run.config.train, run.processes.world)
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

    def told() -> str:
        rows = read_rows(paths[0], Example)
        return training_note(run, rows, _settings(run, rows))

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
    run.stages.run("examples", "Put the training examples together", inputs, outputs, work, note=told)
    examples, probe = ([absolute_image(run, row) for row in read_rows(path, Example)] for path in paths)
    if given is not None:
        # Here and not in the work: the limits are no input of the stage, and may be others than when it was done.
        check_lengths(run.reading(), [*examples, *probe], run.config.train)
    # Planned again when training starts; here a lack is found before the original model is evaluated.
    settings = _settings(run, examples)
    plan = batches(examples, needs, settings)
    if settings.reference == "cached":
        check_cacheable(plan, needs)
    if needs.hidden:
        check_blocks(run.original(), needs)
    if run.processes.sharded:
        check_shardable(run.original(), examples)
    return examples, probe


def cautions_of_training(run: Run, examples: list[Example]) -> list[Caution]:
    """What the reader of a finished run's scores must know of the examples that it was trained on."""
    return training_cautions(run, examples, _settings(run, examples))


def train_adapter(run: Run, examples: list[Example], probe: list[Example]) -> str:
    """Train the adapter; returns its content key.

    Raises:
        UserError: an unknown method or setting, data that does not fit the method, NaN or collapse.
    """
    config = run.config
    settings = _settings(run, examples)
    outputs = [run.adapter_folder / "adapter_model.safetensors", run.folder / "train" / "metrics.jsonl"]
    inputs = [
        run.model_key,
        config.method,
        config.method_settings,
        settings.decisive(),
        content_key([example_content(example) for example in [*examples, *probe]]),
        *code_key(type(build_method(config.method, config.method_settings))),
    ]

    def work(spent: Spent) -> None:
        # What the others wait for in `join_training`; data and settings travel, so that nobody reads a file too early.
        run.processes.broadcast((settings, examples, probe))
        result = _train(run, settings, examples, probe)
        run.keep(result.vlm)
        run.processes.wait()
        spent.text_tokens, spent.image_tokens = result.tokens, result.image_tokens
        spent.flops, spent.seconds = result.flops, result.seconds
        write_json(run.folder / "train" / "result.json", {"steps": result.steps, "stopped": result.stopped})

    pictured = any(example.image is not None for example in examples)
    title = "Unlearn, on pictures too" if pictured else "Unlearn, on text alone"
    run.stages.run("unlearn", title, inputs, outputs, work, total=settings.steps)
    if run.stages.records[-1][1]:
        run.processes.broadcast(None)  # reused: nothing to take part in
    return adapter_key(run.adapter_folder)


def join_training(run: Run) -> None:
    """What the other processes do of a run: wait for the first one's training, if there is any, and take part in it.

    Raises:
        UserError: as `train`.
    """
    todo: tuple[TrainSettings, list[Example], list[Example]] | None = run.processes.broadcast(None)
    if todo is not None:
        _train(run, *todo)
        run.forget()
        run.processes.wait()


def _train(run: Run, settings: TrainSettings, examples: list[Example], probe: list[Example]) -> TrainResult:
    config = run.config
    return train(
        run.to_train(),
        examples,
        build_method(config.method, config.method_settings),
        settings,
        run.folder,
        probe_examples=probe,
        progress=lambda step, steps, row: run.stages.progress.update(step, steps, f"loss {row['loss']:+.2f}"),
        key=content_key(config.method, config.method_settings),
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
