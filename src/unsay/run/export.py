"""Export a run for others: a PEFT adapter, a merged checkpoint or files for llama.cpp, with a model card."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from unsay.config import RunConfig, read_run_config
from unsay.errors import UserError
from unsay.files import atomic_folder, write_text
from unsay.models.adapter_scale import write_scaled
from unsay.models.failures import out_of_memory
from unsay.models.llama_cpp import GgufKind, check_tools
from unsay.models.loading import load, stored_precision
from unsay.models.merge import TOLERANCE, Parity, Precision, write_merged
from unsay.models.precision import ModelSettings
from unsay.models.vlm import VLM
from unsay.run.directory import Adapter
from unsay.run.gguf import Gguf, write_gguf
from unsay.run.model_card import Form, card_of
from unsay.scoring import read_scores


@dataclass(frozen=True)
class Exported:
    """The result of an export."""

    folder: Path
    merged: bool  # a whole checkpoint, not an adapter
    dtype: str | None = None  # precision of a merged checkpoint
    parity: Parity | None = None  # how close a merged checkpoint is to the model with its adapter on
    gguf: Gguf | None = None  # the files for llama.cpp, and how they answer


def export(
    run_dir: Path,
    out: Path,
    *,
    merge: bool = False,
    dtype: str | None = None,
    device: str | None = None,
    strength: float = 1.0,
    gguf: str | None = None,
) -> Exported:
    """Export the adapter of a run; the folder is written whole, or not at all.

    Args:
        run_dir: a run that has unlearned.
        out: folder to create.
        merge: write a whole checkpoint that needs neither `unsay` nor `peft`, instead of the adapter.
        dtype: precision of the merged weights; the base checkpoint's by default.
        device: where to merge; the run's device or its device map by default.
        strength: what the adapter's update is multiplied by; above 0.
        gguf: write the merged model as GGUF files for llama.cpp, in this type (`f16`, `bf16`, `q8_0`, `q4_k_m`), and
            ask it harmless prompts there and here; the merged checkpoint itself is kept only with `merge`.

    Raises:
        UserError: no adapter, one of earlier settings, one that cannot be scaled, no tools for GGUF, or a merged
            checkpoint whose logits differ from the adapted model's.
    """
    run_dir = Path(run_dir)
    config = read_run_config(run_dir)
    adapter = Adapter.of_run(run_dir).folder
    kind = None if gguf is None else check_tools(gguf)
    scores = read_scores(run_dir / "scores.json") if (run_dir / "scores.json").exists() else None
    with atomic_folder(Path(out)) as folder, _at_strength(adapter, strength) as scaled:
        if not merge and kind is None:
            for path in sorted(path for path in scaled.iterdir() if path.is_file() and path.name != "README.md"):
                shutil.copyfile(path, folder / path.name)
            done = Exported(Path(out), merged=False)
        else:
            checkpoint = folder if merge else folder / "checkpoint"
            precision = _precision(config, dtype)
            parity = _write_checkpoint(config, scaled, checkpoint, precision, device)
            files = None if kind is None else _write_gguf(config, checkpoint, folder, kind, device)
            if checkpoint != folder:
                shutil.rmtree(checkpoint)
            done = Exported(Path(out), merge, precision, parity, files)
        write_text(folder / "README.md", card_of(run_dir, config, scores, Form(done.dtype, strength, done.gguf)))
    return done


@contextmanager
def _at_strength(adapter: Path, strength: float) -> Iterator[Path]:
    """The adapter's folder, or a temporary one with the adapter at another strength."""
    if strength == 1:
        yield adapter
        return
    with tempfile.TemporaryDirectory(prefix="unsay-strength-") as folder:
        write_scaled(adapter, strength, Path(folder))
        yield Path(folder)


def _write_checkpoint(
    config: RunConfig, adapter: Path, folder: Path, precision: Precision, device: str | None
) -> Parity:
    settings = _to_merge(config.model_settings, precision, device)
    where = device or config.device
    with _memory_explained(config.model, where):
        vlm = load(config.model, adapter=adapter, device=where, settings=settings)
        if vlm.adapts_vision:
            raise UserError(
                f"{adapter}: changes the vision side, too, which no run here does; the card would be untrue: "
                "merge it with peft's own merge_and_unload"
            )
        return write_merged(vlm, folder, precision, settings)


def _write_gguf(config: RunConfig, checkpoint: Path, folder: Path, kind: GgufKind, device: str | None) -> Gguf:
    def reload() -> VLM:
        settings = config.model_settings.model_copy(update={"quantisation": None})
        return load(str(checkpoint), device=device or config.device, settings=settings)

    with _memory_explained(config.model, device or config.device):
        return write_gguf(checkpoint, folder, kind, reload)


def _precision(config: RunConfig, dtype: str | None) -> Precision:
    wanted = dtype or stored_precision(config.model)
    if wanted not in TOLERANCE:
        raise UserError(f"--dtype: '{wanted}': unsupported precision; known are {', '.join(TOLERANCE)}")
    return cast(Precision, wanted)


def _to_merge(settings: ModelSettings, precision: Precision, device: str | None) -> ModelSettings:
    """The settings for loading the model to merge."""
    # An adapter cannot be added to weights in 4 bits without loss: the merge starts from the published ones.
    changes: dict[str, str | None] = {"quantisation": None}
    if precision == "float32":
        changes["dtype"] = precision  # in half precision, the adapter would be rounded needlessly
    if device is not None:
        changes["device_map"] = None  # a map would override the device
        if device == "cpu" and settings.attention == "flash_attention_2":
            changes["attention"] = None  # it does not exist for CPUs, and the weights do not depend on it
    return settings.model_copy(update=changes)


@contextmanager
def _memory_explained(model: str, device: str) -> Iterator[None]:
    """Explain what to do if the model does not fit into memory, when it is loaded or when the result is checked."""
    try:
        yield
    except (RuntimeError, MemoryError, UserError) as error:
        reason = error.__cause__ if isinstance(error, UserError) else error
        if reason is None or not out_of_memory(reason):
            raise
        way = "a machine with more memory" if device == "cpu" else "--device cpu, the machine's own memory"
        raise UserError(f"{model}: out of memory while merging; nothing was written: use {way}") from error
