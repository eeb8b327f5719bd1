"""`load` opens any image-text-to-text checkpoint, or the pocket VLM, by name or by folder."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoProcessor, GenerationConfig
from transformers.utils import logging as transformers_logging

from unsay.errors import UserError
from unsay.files import content_key, file_key
from unsay.models import pocket
from unsay.models.failures import FAILURES, memory_advice, out_of_memory, reason
from unsay.models.families import SpecialCase, as_written, make_one_way, special_case
from unsay.models.lora import load_adapter
from unsay.models.precision import ModelSettings, precision_of_weights, resolved
from unsay.models.vlm import VLM

NAMED: dict[str, Callable[[], Path]] = {
    "pocket": pocket.folder,
    **{version: partial(pocket.folder, version) for version in pocket.VERSIONS},
}
"""Models that have a name of their own → the folder of their checkpoint, made at first use."""

DEFAULTS = ModelSettings()
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "auto": "auto"}
DECISIVE = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt", ".tiktoken")
"""Endings of the files in a checkpoint's folder that decide its outputs: weights, settings, tokenizers, templates."""
GENERAL = SpecialCase("the general rule")


def load(
    name_or_path: str = "pocket",
    *,
    adapter: Path | None = None,
    device: str = "cpu",
    settings: ModelSettings = DEFAULTS,
) -> VLM:
    """Load a vision-language model and its processor, in evaluation mode and frozen.

    Args:
        name_or_path: `pocket` or a version of it, a local checkpoint folder, or a model id that transformers resolves.
        adapter: folder of a trained adapter in PEFT format to put on top.
        device: torch device for the whole model; ignored with a device map.
        settings: precision, quantisation, device map and attention kernel; float32 by default.

    Raises:
        UserError: no such model, the checkpoint is not an image-text-to-text model or lacks weights, or something that
            the settings or the processor need is missing.
    """
    settings = resolved(settings, device)
    options = _options(settings, device)
    source = source_of(name_or_path)
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        case = special_case(config) or GENERAL
        if settings.quantisation is not None:
            # By default, transformers puts every linear but the head into 4 bits, the vision tower's too.
            whole = _unquantised_linears(_skeleton(name_or_path, config, case))
            options["quantization_config"].llm_int8_skip_modules = whole
        model = open_checkpoint(getattr(transformers, case.auto_class), source, name_or_path, **options)
        processor = _processor(source, name_or_path, case)
    except UserError:
        raise
    except FAILURES as error:
        otherwise = f"{name_or_path}: cannot be loaded as an image-text-to-text model"
        raise _load_error(error, name_or_path, settings, device, otherwise) from error
    model.requires_grad_(False)
    try:
        model.eval()
        if "device_map" not in options:
            model.to(device)
    except FAILURES as error:
        otherwise = f"device: '{device}' cannot be used here"
        raise _load_error(error, name_or_path, settings, device, otherwise) from error
    vlm = VLM(name_or_path, model, processor, model_key(name_or_path, settings))
    if case.one_way:
        make_one_way(vlm.decoder)
    return load_adapter(vlm, adapter) if adapter is not None else vlm


def load_skeleton(name_or_path: str, *, processor: bool = False) -> VLM:
    """A model on the meta device, without its weights: its modules, and with a processor also token ids of prompts."""
    config, source = _configuration(name_or_path), source_of(name_or_path)
    case = special_case(config) or GENERAL
    try:
        vlm = _skeleton(name_or_path, config, case)
    except FAILURES as error:
        raise UserError(f"{name_or_path}: its configuration cannot be read: {reason(error)}") from error
    if processor:
        try:
            vlm.processor = _processor(source, name_or_path, case)
        except FAILURES as error:
            raise UserError(f"{name_or_path}: its processor cannot be made: {reason(error)}") from error
        with suppress(OSError):  # many checkpoints have none: their configuration says what ends an answer
            vlm.base.generation_config = GenerationConfig.from_pretrained(source)
    return vlm


def stored_precision(name_or_path: str) -> str:
    """The precision of a checkpoint's weights as published; `auto` where the files here do not tell."""
    config = _configuration(name_or_path)
    try:
        # In the order of transformers, which does not use the language model's configuration: that is the last resort.
        dtype = config.dtype or precision_of_weights(source_of(name_or_path)) or config.get_text_config().dtype
    except FAILURES as error:
        raise UserError(f"{name_or_path}: its weights cannot be read: {reason(error)}") from error
    return str(dtype or "auto").removeprefix("torch.")


@cache
def model_key(name_or_path: str, settings: ModelSettings = DEFAULTS) -> str:
    """Content key of a checkpoint folder, without loading it; of the name alone where the files are elsewhere.

    Settings that change what the model computes are part of it. Cached for the life of the process: checkpoints are
    large, and not edited while they run.
    """
    folder = Path(source_of(name_or_path))
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.suffix in DECISIVE)
        key = content_key({path.name: file_key(path) for path in files})
    else:
        key = content_key(name_or_path)
    computing = settings.model_copy(update={"device_map": None})
    return key if computing == DEFAULTS else content_key(key, computing)


def open_checkpoint(auto: Any, source: str, name: str, **options: Any) -> Any:
    """A checkpoint's model with every weight that its class has; errors of `from_pretrained` pass.

    transformers initialises missing weights at random and only logs it, so that a fine-tune saved under other names
    would be evaluated, unlearned and exported as noise. Code that comes with the checkpoint is never run.

    Raises:
        UserError: weights are missing, or have other shapes than the configuration gives them.
    """
    # Other shapes pass here and are refused below: transformers' own error would name none of them.
    model, info = auto.from_pretrained(
        source, **options, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True
    )
    _check_shapes(model, info, name)
    _check_complete(model, info, name)
    return model


def _check_shapes(model: Any, info: Any, name: str) -> None:
    wrong = sorted((weight, list(stored), list(expected)) for weight, stored, expected in info["mismatched_keys"])
    if wrong:
        listed = _first_few([f"{weight} {stored} instead of {expected}" for weight, stored, expected in wrong])
        raise UserError(
            f"{name}: the checkpoint has {len(wrong)} of {type(model).__name__}'s weights in another shape than its "
            f"config.json says ({listed}): take configuration and weights of one and the same checkpoint"
        )


def _check_complete(model: Any, info: Any, name: str) -> None:
    # transformers has taken out tied weights and those that a family does without. Buffers are made by the class.
    parameters = {weight for weight, _ in model.named_parameters(remove_duplicate=False)}
    missing = sorted(parameters.intersection(info["missing_keys"]))
    if missing:
        unused = sorted(info["unexpected_keys"])
        instead = f"; of what it has, {len(unused)} fit nowhere ({_first_few(unused)})" if unused else ""
        raise UserError(
            f"{name}: the checkpoint lacks {len(missing)} of {type(model).__name__}'s {len(parameters)} weights, which "
            f"would be random ({_first_few(missing)}){instead}: it may have been saved out of a wrapper, as PEFT's, or "
            "under another prefix; open it with what has saved it, and write the model itself with save_pretrained"
        )


def _first_few(names: Sequence[str], count: int = 3) -> str:
    return ", ".join([*names[:count], *(["…"] if len(names) > count else [])])


def _skeleton(name: str, config: Any, case: SpecialCase) -> VLM:
    auto: Any = getattr(transformers, case.auto_class)
    with torch.device("meta"):
        model = auto.from_config(config, dtype=torch.float32, trust_remote_code=False).requires_grad_(False)
    return VLM(name, model, None, "planned")


def _unquantised_linears(vlm: VLM) -> list[str]:
    """Names of the linears that quantisation leaves alone: towers, projector and head, all but the language layers'."""
    inside = {id(module) for layer in vlm.text_layers for module in layer.modules()}
    return [
        name for name, module in vlm.base.named_modules() if isinstance(module, nn.Linear) and id(module) not in inside
    ]


def _configuration(name_or_path: str) -> Any:
    try:
        return AutoConfig.from_pretrained(source_of(name_or_path), trust_remote_code=False)
    except FAILURES as error:
        raise UserError(f"{name_or_path}: its configuration cannot be read: {reason(error)}") from error


def _options(settings: ModelSettings, device: str) -> dict[str, Any]:
    """Arguments of `from_pretrained`."""
    options: dict[str, Any] = {"dtype": DTYPES[settings.dtype]}
    if settings.attention is not None:
        options["attn_implementation"] = settings.attention
    if settings.device_map is not None:
        options["device_map"] = settings.device_map
    if settings.quantisation is not None:
        options |= {"quantization_config": _four_bits(settings), "device_map": settings.device_map or {"": device}}
    return options


def _four_bits(settings: ModelSettings) -> Any:
    """NF4 with double quantisation (QLoRA, arXiv 2305.14314)."""
    if not torch.cuda.is_available():
        raise UserError("model_settings.quantisation: 4-bit needs a CUDA GPU, and this machine has none: leave it out")
    if find_spec("bitsandbytes") is None:
        raise UserError("model_settings.quantisation: 4-bit needs bitsandbytes: pip install 'unsay[qlora]'")
    compute = torch.bfloat16 if settings.dtype in ("auto", "float32") else DTYPES[settings.dtype]
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def _processor(source: str, name: str, case: SpecialCase) -> Any:
    """The checkpoint's processor, with a chat template."""
    try:
        processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
    except (ImportError, AttributeError, TypeError) as error:
        # Without torchvision, processors that also take videos end in errors that do not name it.
        missing = [name for name in ("torchvision", "num2words") if find_spec(name) is None]
        if not missing:
            raise UserError(f"{source}: its processor cannot be made: {reason(error)}") from error
        raise UserError(
            f"{source}: its processor cannot be made without {' and '.join(missing)}: pip install 'unsay[families]'"
        ) from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        # `tokenizers` has no class of its own for a tokenizer.json that a newer version has written.
        raise UserError(f"{source}: its tokenizer cannot be read: {reason(error)}") from error
    if getattr(processor, "chat_template", None) is None and hasattr(processor, "tokenizer"):
        processor.chat_template = processor.tokenizer.chat_template or case.template
    if case.as_written:
        if not hasattr(type(processor), "prepare_inputs_layout"):
            raise UserError(
                f"{name}: transformers {transformers.__version__} writes into its prompts; take 5.23 or later"
            )
        processor.prepare_inputs_layout = as_written
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "chat_template", None) is None:
        raise UserError(f"{name}: its processor has no chat template; add a chat_template.jinja to its folder")
    return processor


def _load_error(error: BaseException, name: str, settings: ModelSettings, device: str, otherwise: str) -> UserError:
    if out_of_memory(error):
        where = f"device_map '{settings.device_map}'" if settings.device_map is not None else f"'{device}'"
        return UserError(f"{name}: out of memory while it was loaded onto {where}. {memory_advice(settings, device)}")
    return UserError(f"{otherwise}: {reason(error)}")


def source_of(name_or_path: str) -> str:
    """Where a model's files are: a folder, or an id of the hub; a `UserError` for a folder that is not there."""
    if name_or_path in NAMED:
        return str(NAMED[name_or_path]())
    path = Path(name_or_path).expanduser()
    if (name_or_path[:1] in "/.~" or name_or_path.count("/") > 1) and not path.is_dir():
        raise UserError(
            f"{name_or_path}: no such folder; a model is a checkpoint folder, or an id such as llava-hf/llava-1.5-7b-hf"
        )
    return str(path) if path.is_dir() else name_or_path
