"""Commands before a run: `plan` estimates what training takes, `init` writes a configuration to start from."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from unsay.cli.display import console, say
from unsay.cli.options import refuse_existing
from unsay.errors import UserError

if TYPE_CHECKING:
    from unsay.config import RunConfig
    from unsay.planning import Fit, Plan


def plan(
    config: Annotated[Path, typer.Option(metavar="FILE", help="Settings in YAML, or the name of a preset.")],
    gpus: Annotated[
        str | None, typer.Option(metavar="NxCARD", help="Cards, such as 1xH100 or 8xA100-80. Default: a CPU.")
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a prompt in the chat format.")] = 64,
    answer_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of an answer. Default: train.max_answer_tokens.")
    ] = None,
    image_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens of the picture beside each prompt, where training has pictures.")
    ] = 0,
    launch: Annotated[
        str, typer.Option(metavar="NAME", help="How several cards are used: ddp, fsdp2 or zero3 (see `unsay init`).")
    ] = "ddp",
) -> None:
    """Say what training will take, without loading any weights: parameters, memory, operations, time.

    Evaluation is not counted, and lengths are those of these options, not of your data.
    """
    from unsay.config import read_config
    from unsay.planning import first_that_fits, outline, parse_gpus
    from unsay.planning import plan as estimate
    from unsay.presets import launch_config, preset, preset_names

    settings = preset(str(config)) if str(config) in preset_names() and not config.exists() else read_config(config)
    cards = None if gpus is None else parse_gpus(gpus)
    launch_config(launch)  # refuses an unknown name
    vlm = outline(settings)

    def planned(settings: "RunConfig", answer: int) -> "Plan":
        lengths = {"prompt": prompt_tokens, "answer": answer, "image_tokens": image_tokens}
        return estimate(settings, cards, **lengths, sharded=launch != "ddp", vlm=vlm)

    answer = settings.train.max_answer_tokens if answer_tokens is None else answer_tokens
    made = planned(settings, answer)
    fit = first_that_fits(settings, answer, planned) if made.fits is False else None
    console.print(_table(made, (prompt_tokens, answer, image_tokens), fit))


def _table(plan: "Plan", lengths: tuple[int, int, int], fit: "Fit | None") -> Table:
    """Rows of name and value; memory by part, largest first.

    The lengths are the tokens of a prompt, an answer and a picture; `fit` is what would fit, where the plan does not.
    """
    from unsay.planning.choose import memory_of_card
    from unsay.planning.estimate import UTILISATION
    from unsay.reports.numbers import count, flops, memory, seconds

    rows = Table(box=None, show_header=False, padding=(0, 1))
    rows.add_row("parameters", f"{count(plan.parameters)}, of which trained beside them: {count(plan.trained)}")
    rows.add_row("a step", f"{plan.tokens:,} tokens, {flops(plan.flops)}")
    for name, size in sorted(asdict(plan.memory).items(), key=lambda part: part[::-1], reverse=True):
        if size:
            rows.add_row(f"memory, {name}", memory(size))
    on_card = "" if plan.capacity is None else " on each card"
    rows.add_row("memory, in all", memory(plan.memory.total) + on_card, style="bold")
    if plan.seconds is not None:
        each = f"{plan.seconds:.2g} s a step, {seconds(plan.seconds * plan.steps)} for {plan.steps} steps"
        rows.add_row("time", f"{each} (at {UTILISATION:.0%} of the {plan.precision} peak)")
    if plan.fits is not None:
        fits, style = ("yes", "green") if plan.fits else ("NO", "red")
        rows.add_row("fits", f"{fits}: {memory_of_card(plan)}", style=style)
    if plan.fits is False:
        would = "nothing on this card, not even 4 bits, turns and short answers together: take a larger one"
        if fit is not None:
            would = f"{memory(fit.plan.memory.total)} with {'; '.join(fit.changes)}"
        rows.add_row("would fit", would)
    prompt, answer, picture = lengths
    rows.add_row("assumed", f"{prompt} tokens a prompt, {answer} an answer, {picture} a picture: see --help")
    rows.add_row("not counted", "evaluation: its time, and the memory of its batches and of the judge")
    return rows


def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the settings.")] = Path("unsay.yaml"),
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Start from a preset, such as llava-1.5-7b, llava-1.5-7b-24gb or qwen3-vl-8b-8gpu."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Start from settings for your model's family and size: a checkpoint folder, or a model id.",
        ),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="NxCARD",
            help="With --model: 1 or 8 cards that training must fit, such as 1xRTX4090. Default: one of 80 GB.",
        ),
    ] = None,
    launch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Also write a configuration of accelerate launch: ddp, fsdp2 or zero3. Default for eight cards: ddp.",
        ),
    ] = None,
) -> None:
    """Write a commented starting configuration."""
    if preset is not None and model is not None:
        raise UserError("--preset and --model exclude each other: give one of them")
    if gpus is not None and model is None:
        raise UserError("--gpus needs --model; for a preset, choose the one named -24gb or -8gpu instead")
    from unsay import presets
    from unsay.cli.starting_config import run_command, starting_config
    from unsay.files import write_text
    from unsay.planning import Choice, choose, for_launch, parse_gpus

    if launch is not None:
        presets.launch_config(launch)  # refuses an unknown name before the model's configuration is read
    cards = None if gpus is None else parse_gpus(gpus)
    if model is not None:
        start = choose(model, cards, sharded=launch not in (None, "ddp"))
    elif preset is not None:
        note = presets.note_of(preset)
        start = Choice(presets.preset(preset), () if note is None else (note,), presets.launch_of(preset))
    else:
        start = Choice()
    if launch is not None:
        start = for_launch(start, launch, cards)
    else:
        launch = start.launch
    launch_path = None if launch is None else path.with_suffix(".accelerate.yaml")
    texts = {path: starting_config(start.config, launch_path, start.reasons)}
    if launch is not None and launch_path is not None:
        texts[launch_path] = presets.launch_config(launch)
    for target in texts:
        refuse_existing(target)
    for target, text in texts.items():
        write_text(target, text)
    for reason in start.reasons:
        say(reason)
    say(f"Wrote {' and '.join(map(str, texts))}. Edit, then run: {run_command(path, launch_path)}")
