"""The command `unsay init`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unsay.errors import UserError

console = Console()


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
            help="Start from what fits your model, by its family and size: a checkpoint folder, or a model id.",
        ),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="NxCARD", help="With --model: 1 or 8 cards that it must fit, such as 1xRTX4090; else one of 80 GB."
        ),
    ] = None,
    launch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Also write a configuration of accelerate launch: ddp, fsdp2 or zero3. ddp for eight cards.",
        ),
    ] = None,
) -> None:
    """Write a commented starting configuration."""
    if preset is not None and model is not None:
        raise UserError("--preset and --model exclude each other: give one of them")
    if gpus is not None and model is None:
        raise UserError("--gpus goes with --model; a preset is for cards already: see those with -24gb and -8gpu")
    from unsay.files import write_text
    from unsay.planning import Choice, choose, for_launch, parse_gpus
    from unsay.presets import launch_config, launch_of, note_of
    from unsay.presets import preset as ready
    from unsay.starting_config import command, starting_config

    # An unknown name is found before a model's configuration is read.
    launched = None if launch is None else launch_config(launch)
    cards = None if gpus is None else parse_gpus(gpus)
    if model is not None:
        start = choose(model, cards, sharded=launch not in (None, "ddp"))
    elif preset is not None:
        note = note_of(preset)
        start = Choice(ready(preset), () if note is None else (note,), launch_of(preset))
    else:
        start = Choice()
    if launch is not None:
        start = for_launch(start, launch, cards)
    elif start.launch is not None:
        launched = launch_config(start.launch)
    launcher = None if launched is None else path.with_suffix(".accelerate.yaml")
    texts = {path: starting_config(start.config, launcher, start.reasons)}
    if launched is not None and launcher is not None:
        texts[launcher] = launched
    for target in texts:
        if target.exists() or target.is_symlink():
            raise UserError(f"{target}: exists already; choose another name or remove it first")
    for target, text in texts.items():
        write_text(target, text)
    for line in (
        *start.reasons,
        f"Wrote {' and '.join(map(str, texts))}. Edit, then run: {command(path, launcher)}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
