"""A run's result for others: a plain PEFT adapter, or a merged checkpoint, with a model card."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from unsay.config import RunConfig, read_config
from unsay.errors import UserError
from unsay.files import atomic_folder, read_json, write_text
from unsay.models.loading import load, stored_precision
from unsay.models.merging import TOLERANCE, Parity, Precision, write_merged
from unsay.pipeline.card import model_card
from unsay.reporting.curves import read_metrics
from unsay.scoring.schema import Scores, read_scores

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: where it is.
        merged: a whole checkpoint, not an adapter.
        dtype: precision of a merged checkpoint.
        parity: how near a merged checkpoint is to the model with its adapter on.
    """

    folder: Path
    merged: bool
    dtype: str | None = None
    parity: Parity | None = None


def export(
    run_dir: Path, out: Path, *, merge: bool = False, dtype: str | None = None, device: str | None = None
) -> Exported:
    """Write what a run learned in a standard form; the folder appears whole, or not at all.

    Args:
        run_dir: a run directory with an adapter.
        out: the folder to make.
        merge: a whole checkpoint that needs neither `unsay` nor `peft`; otherwise the adapter.
        dtype: precision of the merged weights; the base checkpoint's by default.
        device: where to merge; the run's device by default.

    Raises:
        UserError: no run or no adapter there, `out` exists, a full disk, or a merged checkpoint that does not say what
            the adapted model says.
    """
    run_dir = Path(run_dir)
    config = read_config(run_dir / "config.yaml")
    adapter = run_dir / "adapter"
    for name in ADAPTER_FILES:
        if not (adapter / name).is_file():
            raise UserError(f"{adapter / name}: missing; only a run that has unlearned can be exported")
    scores = read_scores(run_dir / "scores.json") if (run_dir / "scores.json").exists() else None
    with atomic_folder(Path(out)) as folder:
        if not merge:
            for path in sorted(path for path in adapter.iterdir() if path.is_file() and path.name != "README.md"):
                shutil.copyfile(path, folder / path.name)
            done = Exported(Path(out), merged=False)
        else:
            precision = _precision(config, dtype)
            # Weights in 4 bits cannot take an adapter up without loss: the merge starts from the published ones.
            settings = config.model_settings.model_copy(update={"quantisation": None})
            vlm = load(config.model, adapter=adapter, device=device or config.device, settings=settings)
            parity = write_merged(vlm, folder, precision)
            done = Exported(Path(out), True, precision, parity)
        write_text(folder / "README.md", _card(run_dir, config, scores, done))
    return done


def _precision(config: RunConfig, dtype: str | None) -> Precision:
    wanted = dtype or stored_precision(config.model)
    if wanted not in TOLERANCE:
        raise UserError(f"--dtype: '{wanted}' is no precision to export in; known are {', '.join(TOLERANCE)}")
    return cast(Precision, wanted)


def _card(run_dir: Path, config: RunConfig, scores: Scores | None, done: Exported) -> str:
    environment = run_dir / "environment.json"
    versions = read_json(environment) if environment.exists() else {}
    result = run_dir / "train" / "result.json"
    ended = read_json(result) if result.exists() else {}
    metrics = run_dir / "train" / "metrics.jsonl"
    pictured = metrics.exists() and any(row.get("image_tokens") for row in read_metrics(metrics))
    return model_card(config, scores, versions, ended, done.merged, done.dtype, pictured)
