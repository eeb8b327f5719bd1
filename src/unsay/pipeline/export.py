"""A run's result for others: a plain PEFT adapter, or a merged checkpoint, with a model card."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from unsay.config import RunConfig, read_config
from unsay.errors import UserError
from unsay.files import atomic_folder, read_json, write_text
from unsay.models.loading import load, stored_precision
from unsay.models.memory import out_of_memory
from unsay.models.merging import TOLERANCE, Parity, Precision, write_merged
from unsay.models.settings import ModelSettings
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
        device: where to merge, the whole model; the run's device, or its device map, by default.

    Raises:
        UserError: no run or no adapter there, `out` exists, a full disk, too little memory, or a merged checkpoint that
            does not say what the adapted model says.
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
            settings = _to_merge(config.model_settings, precision, device)
            where = device or config.device
            with _memory_explained(config.model, where):
                vlm = load(config.model, adapter=adapter, device=where, settings=settings)
                if vlm.sees_anew:
                    raise UserError(
                        f"{adapter}: changes the vision side, too, which no run here does; the card would be untrue: "
                        "merge it with peft's own merge_and_unload"
                    )
                parity = write_merged(vlm, folder, precision, settings)
            done = Exported(Path(out), True, precision, parity)
        write_text(folder / "README.md", _card(run_dir, config, scores, done))
    return done


def _precision(config: RunConfig, dtype: str | None) -> Precision:
    wanted = dtype or stored_precision(config.model)
    if wanted not in TOLERANCE:
        raise UserError(f"--dtype: '{wanted}' is no precision to export in; known are {', '.join(TOLERANCE)}")
    return cast(Precision, wanted)


def _to_merge(settings: ModelSettings, precision: Precision, device: str | None) -> ModelSettings:
    """How the model is loaded to be merged."""
    # Weights in 4 bits cannot take an adapter up without loss: the merge starts from the published ones.
    changes: dict[str, str | None] = {"quantisation": None}
    if precision == "float32":
        changes["dtype"] = precision  # added into weights in half precision, the adapter would be rounded for nothing
    if device is not None:
        changes["device_map"] = None  # with a map, the device would be taken no notice of
        if device == "cpu" and settings.attention == "flash_attention_2":
            changes["attention"] = None  # there is none for a CPU, and the weights do not depend on it
    return settings.model_copy(update=changes)


@contextmanager
def _memory_explained(model: str, device: str) -> Iterator[None]:
    """Say what to do where the model does not fit, when it is loaded or when it is opened again."""
    try:
        yield
    except (RuntimeError, MemoryError, UserError) as error:
        reason = error.__cause__ if isinstance(error, UserError) else error
        if reason is None or not out_of_memory(reason):
            raise
        way = "a machine with more memory" if device == "cpu" else "--device cpu, the machine's own memory"
        raise UserError(f"{model}: out of memory while it was merged; nothing was written: take {way}") from error


def _card(run_dir: Path, config: RunConfig, scores: Scores | None, done: Exported) -> str:
    environment = run_dir / "environment.json"
    versions = read_json(environment) if environment.exists() else {}
    result = run_dir / "train" / "result.json"
    ended = read_json(result) if result.exists() else {}
    metrics = run_dir / "train" / "metrics.jsonl"
    pictured = metrics.exists() and any(row.get("image_tokens") for row in read_metrics(metrics))
    return model_card(config, scores, versions, ended, done.merged, done.dtype, pictured)
