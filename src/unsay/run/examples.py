"""The training examples of a run: the user's own, or those of sources, with the model's own harmful answers."""

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unsay.config import RunConfig
from unsay.data.pictures import LONGEST_REQUEST, Rendering, shares, visual_questions
from unsay.data.recipe import (
    OWN,
    OwnAnswer,
    choose_retain,
    forget_examples,
    recipe_key,
    refuse_examples,
    retain_examples,
    retain_pools,
)
from unsay.data.recovery import with_beginnings, word_ends
from unsay.data.sources import halves
from unsay.data.splits import drop_overlap
from unsay.data.typography import missing_letter
from unsay.errors import UserError
from unsay.files import content_key, file_key, read_json, read_rows, write_json, write_rows
from unsay.generation.ways import WAYS
from unsay.methods import build_method
from unsay.models.loading import NAMED
from unsay.records import Example, Prompt, Role, SourceRow
from unsay.run.directory import Run, absolute_image, image_keys, relative_image
from unsay.run.overlap import check_disjoint, words_in_pictures
from unsay.run.own_answers import own_answers, retain_answers, retains_own_answers, ways_of
from unsay.run.suites import Suites, read_user_rows
from unsay.run.training_rows import TrainingRows, sources_key, training_rows
from unsay.scoring.red_team import FILE as RED_TEAM
from unsay.scoring.red_team import RedTeam
from unsay.stages import Spent
from unsay.suites import find_suite
from unsay.training import plan_training
from unsay.training.encode import answer_tokens
from unsay.training.plan import check_roles, methods_without


@dataclass(frozen=True)
class TrainingExamples:
    """The examples of a run; image paths open from here."""

    train: list[Example]  # what is trained on
    probe: list[Example]  # held-out retain examples, to watch for collapse
    # lengths of the training answers by role; empty for the recipe with the model it was made for
    answer_tokens: Mapping[str, Sequence[int]]
    # what the original model gave in to, whose own answers are the forget examples; None for the user's examples
    red_team: RedTeam | None = None


def prepare_examples(run: Run, suites: Suites, *, training: bool = True) -> TrainingExamples:
    """Make the training examples and the probe, from the user's file or by the recipe; writes both to `train/`."""
    config = run.config
    method = build_method(config.method, config.method_settings)
    given = config.data.examples
    # What is wrong with settings or own examples is found before a model answers, and before earlier results go.
    plan_training(method, config.train, processes=run.processes.world)
    own_rows = None if given is None else read_examples(given, config.data.recipe.probe, config.seed)
    if own_rows is not None and training:
        check_roles(method.needs, own_rows[0])
    chosen = None if given is not None else training_rows(run, suites)
    forgets = Role.FORGET in method.needs.roles
    # Arms of a study share the answers to the built-in requests; those of named sources are not asked in vain.
    own = own_answers(run, chosen.forget) if chosen is not None and (forgets or config.data.built_in) else None
    if own is not None and forgets and not own.harmful and not own.red_team.given:
        more = "" if len(ways_of(run)) == len(WAYS) else "Ask in more ways (data.own_answers.ways). "
        raise UserError(
            f"training data: no forget examples: {config.method} unlearns what the model itself says, and by the judge "
            f"'{run.judge.name}' it {own.red_team}. {more}Name a source that has harmful answers (data.forget; "
            "`unsay sources` lists them), give your own (data.examples; `unsay examples` makes the file), or take a "
            f"method that needs none: {', '.join(methods_without(Role.FORGET))}"
        )
    red_team = None if own is None else own.red_team
    if red_team is None:
        (run.folder / RED_TEAM).unlink(missing_ok=True)  # of earlier settings
    rendering = _rendering(run)
    held_out = [prompt for prompts in suites.values() for prompt in prompts]
    # A stage of its own, so that it is finished before this one begins.
    asked = chosen is not None and retains_own_answers(run)
    held = retain_answers(run, retain_rows(run, suites, chosen)) if chosen is not None and asked else []
    folder = run.folder / "train"
    paths = [run.examples_path, folder / "probe.jsonl"]
    lengths_path = folder / "answer_tokens.json"

    def work(_spent: Spent) -> TrainingExamples:
        shutil.rmtree(rendering.folder, ignore_errors=True)  # an edited picture must not pass for a fresh one
        if own_rows is not None:
            made = own_rows
        else:
            assert chosen is not None
            normal = held if asked else retain_answers(run, retain_rows(run, suites, chosen))
            answers = [] if own is None else own.harmful
            made = _source_examples(run, held_out, rendering, chosen, answers, normal)
        # Requests that are pictures by now are told apart by them, so answers begin before modalities are drawn.
        made = rendering.render(_begun(run, made[0])), rendering.render(made[1])
        check_disjoint([*made[0], *made[1]], suites, folder / "overlaps.jsonl")
        lengths: dict[str, list[int]] = {}
        if not lengths_wanted(config):
            lengths_path.unlink(missing_ok=True)
        else:
            # Lengths and not counts of cut answers: the limit may change without the examples being made anew.
            lengths = answer_tokens(run.original(), made[0])
            write_json(lengths_path, lengths)
        for path, rows in zip(paths, made, strict=True):
            write_rows(path, [relative_image(run.folder, row) for row in rows])
        train, probe = ([absolute_image(run.folder, relative_image(run.folder, row)) for row in rows] for rows in made)
        return TrainingExamples(train, probe, lengths, red_team)

    def load() -> TrainingExamples:
        train, probe = ([absolute_image(run.folder, row) for row in read_rows(path, Example)] for path in paths)
        lengths = read_json(lengths_path) if lengths_path.exists() and lengths_wanted(config) else {}
        return TrainingExamples(train, probe, lengths, red_team)

    def outputs(made: TrainingExamples) -> list[Path]:
        images = {Path(row.image) for row in (*made.train, *made.probe) if row.image is not None}
        return [*paths, *sorted(path for path in images if path.is_relative_to(run.folder))]

    # A picture of the user's own suites can be replaced by one that is trained on while their words stay the same.
    user_prompts = [prompt for name, prompts in suites.items() if find_suite(name) is None for prompt in prompts]
    images = image_keys(run.folder, user_prompts)
    inputs = [
        run.model_key,
        config.data,
        config.seed,
        content_key([[prompt.request, prompt.reference] for prompt in held_out]),
        recipe_key(),
        *sources_key(config.data),
        examples_key(given),
        run.judge.key,
        [] if own is None else own.harmful,
        *([held] if asked else []),
        *([images] if images else []),
    ]
    return run.stages.run("examples", "Put the training examples together", inputs, outputs, work, load=load)


def retain_rows(run: Run, suites: Suites, rows: TrainingRows) -> list[SourceRow]:
    """The normal requests that a run is held to, clear of every suite, with the answers that come with them."""
    if rows.retain is not None:
        return rows.retain
    held_out = [prompt for prompts in suites.values() for prompt in prompts]
    pools = retain_pools(halves.contrast()[0], halves.plain()[0], halves.magpie()[0])
    if _rendering(run).pictured:
        pools = [_renderable(pool, held_out) for pool in pools]
    return choose_retain(pools, held_out, run.config.data.recipe, run.config.seed)


def read_examples(path: Path, probe: int, seed: int) -> tuple[list[Example], list[Example]]:
    """The user's examples; `probe` of the retain ones, at most a tenth, are set aside as the second list.

    A `UserError` names the line of a row that is malformed or has nothing to learn from.
    """
    examples = []
    for line, example in read_user_rows(path, Example, "examples"):
        if not example.answer.strip():
            raise UserError(f"{path}:{line}: answer: is empty")
        if not example.prompt.strip() and example.image is None:
            raise UserError(f"{path}:{line}: prompt: is empty, and there is no image")
        examples.append(example)
    retain = [example.id for example in examples if example.role is Role.RETAIN]
    aside = set(random.Random(seed).sample(retain, min(probe, len(retain) // 10)))
    return [e for e in examples if e.id not in aside], [e for e in examples if e.id in aside]


def examples_key(path: Path | None) -> list[object] | None:
    """Content key of the user's examples with their images; None where there is no such file."""
    if path is None or not path.is_file():
        return None
    try:
        rows = read_rows(path, Example)
    except UserError:
        rows = []  # malformed: reported by `read_examples`
    images = [path.parent / row.image for row in rows if row.image is not None]
    return [file_key(path), [file_key(image) for image in images if image.is_file()]]


def fits_recipe(config: RunConfig) -> bool:
    """Whether the run trains the model that the built-in recipe was tuned for, with it (docs/results/recipe.md)."""
    return config.data.built_in and config.model in NAMED


def lengths_wanted(config: RunConfig) -> bool:
    """Whether answers may be longer than `train.max_answer_tokens` without anybody having chosen that."""
    return not fits_recipe(config) or config.data.recipe.long_refusals > 0


def visual_share(run: Run) -> float:
    """Share of visual questions among all retain examples of the recipe."""
    return run.config.data.recipe.visual_questions * _rendering(run).pictured


def _rendering(run: Run) -> Rendering:
    data = run.config.data
    harmful = shares(data.modality)
    retain = harmful if data.retain_modality is None else shares(data.retain_modality)
    return Rendering(harmful, retain, data.recipe, run.config.seed, run.folder / "train" / "images")


def _begun(run: Run, examples: list[Example]) -> list[Example]:
    """The examples, with the shares of `data.recipe` in the middle of an answer; only these need the tokenizer."""
    settings = run.config.data.recipe
    if not settings.recovery and not settings.retain_recovery:
        return examples
    vlm = run.tokenizing()
    return with_beginnings(examples, settings, run.config.seed, lambda text: vlm.token_ends(text) or word_ends(text))


def _source_examples(
    run: Run,
    held_out: list[Prompt],
    rendering: Rendering,
    rows: TrainingRows,
    answers: list[OwnAnswer],
    normal: list[SourceRow],
) -> tuple[list[Example], list[Example]]:
    """Training examples and probe of the chosen rows, with the recipe's formats, disjoint from the held-out prompts.

    Only visual questions have their pictures already, and the rows that come with one.
    """
    data, settings, seed = run.config.data, run.config.data.recipe, run.config.seed
    retain, probe = retain_examples(normal, settings, seed)
    share = visual_share(run)
    everyday = [*halves.plain()[0], *halves.magpie()[0]]
    texts = drop_overlap(_renderable(everyday, held_out), held_out) if share else []
    visual = visual_questions(texts, rendering, round(len(retain) * share / (1 - share)))
    visual = drop_overlap(visual, held_out)
    source = None if data.forget else OWN
    harmful = forget_examples(rows.forget, answers, settings, seed, source=source)
    harmful += refuse_examples(rows.refuse, settings, seed)
    return harmful + retain + visual, probe


def _renderable(rows: Sequence[SourceRow], held_out: list[Prompt]) -> list[SourceRow]:
    """The rows that stay readable as pictures, and that no suite's picture shows."""
    readable = [row for row in rows if len(row.text) <= LONGEST_REQUEST and missing_letter(row.text) is None]
    return drop_overlap(readable, words_in_pictures(held_out))
