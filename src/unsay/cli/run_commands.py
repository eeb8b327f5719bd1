"""Commands that make a run directory and its results: `demo`, `unlearn`, `report`, `export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unsay.cli.display import display, say, show_scores
from unsay.cli.options import SUITE_FILE_ROW, DataDir, Out, limit_of
from unsay.errors import UserError

if TYPE_CHECKING:
    from unsay.config import RunConfig
    from unsay.run.export import Exported


def demo(
    out: Out = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of data, training and statistics.")] = 0,
    data_dir: DataDir = None,
) -> None:
    """Unlearn the pocket VLM on text alone, and see what that does to attacks by image."""
    from unsay import api

    with display() as progress:
        scores = api.demo(out, seed=seed, progress=progress)
    show_scores(scores, out)


def unlearn(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings in YAML; `unsay init` writes a commented file.")
    ] = None,
    out: Out = Path("runs/unlearn"),
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Settings of a preset as they are, such as paper-llava-1.5-7b."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="In place of the settings' model; `pocket` is trained on the CPU in its own precision.",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Torch device, in place of the settings'.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps, in place of the settings'.")] = None,
    limit: Annotated[
        str, typer.Option(metavar="N|all", help="Prompts per suite at most, in place of the settings'.")
    ] = "",
    suite_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Your own prompts, evaluated beside the suites and kept out of the training. {SUITE_FILE_ROW}",
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Evaluate, unlearn and evaluate again with your own settings, or with those of a preset."""
    settings = _settings(config, preset, model=model, device=device, steps=steps, limit=limit)
    from unsay import api

    with display() as progress:
        scores = api.unlearn(settings, out, suite_file=suite_file, progress=progress)
    show_scores(scores, out)


def _settings(
    config: Path | None,
    preset: str | None,
    *,
    model: str | None,
    device: str | None,
    steps: int | None,
    limit: str,
) -> "RunConfig":
    """The settings of a file or a preset, with the command line's in place of theirs."""
    from unsay import presets
    from unsay.config import RunConfig, read_config
    from unsay.models import pocket

    if config is None and preset is None:
        raise UserError("give --config FILE (`unsay init` writes one) or --preset NAME")
    if config is not None and preset is not None:
        raise UserError("--config and --preset exclude each other: give one of them")
    chosen = read_config(config) if config is not None else presets.preset(str(preset))
    values = chosen.model_dump(exclude={"train": {"seed"}})
    if model is not None:
        values["model"] = model
        if model in pocket.NAMES:  # precision and device are those of the model that it replaces
            values |= {"model_settings": {}, "device": "cpu"}
    if device is not None:
        values["device"] = device
    if steps is not None:
        values["train"]["steps"] = steps
    if limit:
        values["evaluation"]["limit"] = limit_of(limit)
    return RunConfig.model_validate(values)


def report(
    run_dir: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory with scores.json.")],
    results: Annotated[
        list[Path] | None,
        typer.Option("--import", metavar="FILE", help="Results of lm-eval or lmms-eval, shown beside this run's own."),
    ] = None,
) -> None:
    """Write report.html of a run directory anew."""
    from unsay.reports import write_report
    from unsay.reports.imports import import_results

    for path in results or []:
        say(f"Imported {import_results(run_dir, path)} numbers from {path}")
    say(f"Report: {write_report(run_dir)}")


def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory of a finished `unsay unlearn`.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to create.")] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Write a whole checkpoint for transformers, vLLM and others.")
    ] = False,
    dtype: Annotated[
        str | None, typer.Option(metavar="NAME", help="Precision of the merged weights. Default: the base model's.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where to merge. Default: the run's device or device map.")
    ] = None,
    strength: Annotated[
        float, typer.Option(metavar="S", help="What the adapter's update is multiplied by; scores hold for 1.")
    ] = 1.0,
    gguf: Annotated[
        str | None,
        typer.Option(
            "--gguf",
            metavar="TYPE",
            help="Write GGUF files for llama.cpp (f16, bf16, q8_0 or q4_k_m), and compare its answers.",
        ),
    ] = None,
    hub: Annotated[
        str | None,
        typer.Option(
            "--push-to-hub",
            metavar="OWNER/NAME",
            help="In place of --out: upload it with its card, scores and report (without sample answers) to a private "
            "repository.",
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="The repository may be public.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be uploaded, and send nothing.")] = False,
) -> None:
    """Write what a run learned as an adapter, a merged checkpoint or files for llama.cpp, with a model card."""
    ignored = [f"--{name}" for name, value in (("dtype", dtype), ("device", device)) if value]
    if ignored and not merge and gguf is None:
        raise UserError(f"{' and '.join(ignored)}: without --merge the adapter is copied as it is: add --merge")
    if (out is None) == (hub is None):
        raise UserError("name one place: --out DIR, or --push-to-hub OWNER/NAME")
    if hub is None and (public or dry_run):
        raise UserError(f"{'--public' if public else '--dry-run'}: belongs to --push-to-hub")
    if hub is None:
        from unsay.run import export as exports

        assert out is not None  # one of the two was given
        done = exports.export(run_dir, out, merge=merge, dtype=dtype, device=device, strength=strength, gguf=gguf)
        _show_checks(done)
        say(f"Export: {out}")
        return
    from unsay.run.hub import push_to_hub

    upload = push_to_hub(
        run_dir,
        hub,
        merge=merge,
        dtype=dtype,
        device=device,
        strength=strength,
        gguf=gguf,
        private=not public,
        dry_run=dry_run,
    )
    _show_checks(upload.export)
    for path, size in upload.files.items():
        say(f"{size:>14,} bytes  {path}")
    kind = "private" if upload.private else "public"
    say(
        f"Nothing was sent; it would go to {hub} ({kind})."
        if upload.url is None
        else f"Uploaded ({kind}): {upload.url}"
    )


def _show_checks(done: "Exported") -> None:
    if (parity := done.parity) is not None:
        say(
            f"Merged in {done.dtype} and read back; logits differ from the adapter's by at most: text "
            f"{parity.text:.2%}, picture {parity.image:.2%}, adapter's effect {parity.effect:.2%}"
        )
    if done.gguf is not None:
        for note in done.gguf.notes:
            say(note)
