"""A checkpoint's model, whole, and without its code: what is lacking transformers draws at random, and only logs it."""

from collections.abc import Sequence
from typing import Any

from safetensors import SafetensorError

from unsay.errors import UserError

FAILURES = (AssertionError, ImportError, KeyError, MemoryError, OSError, RuntimeError, SafetensorError, ValueError)
"""What is raised where a checkpoint, a package, a device or the memory will not do."""

OWN_CODE = (
    "it needs code of its own, which unsay never runs: take a checkpoint in transformers' own layout, often the one "
    "whose name ends in -hf"
)

MOST_NAMED = 3
"""How many weights an error names."""


def opened(auto: Any, source: str, name: str, **options: Any) -> Any:
    """A checkpoint's model with every weight that its class has.

    Otherwise a fine-tune that was saved under other names would be evaluated, unlearned and exported as noise. Code
    that the checkpoint brings is not run, and nobody is asked whether it may be.

    Args:
        auto: one of transformers' auto classes.
        source: folder or model id.
        name: what an error calls the checkpoint.
        options: of `from_pretrained`, whose own errors pass.

    Raises:
        UserError: weights are missing, or have other shapes than the configuration gives them.
    """
    # Other shapes are let in, only to be refused below: transformers' own error would name none of them.
    model, told = auto.from_pretrained(
        source, **options, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True
    )
    _check_shapes(model, told, name)
    _check_all_there(model, told, name)
    return model


def reason(error: BaseException) -> str:
    """What a failure says, in one line; of a checkpoint that needs code of its own, what to take instead."""
    if isinstance(error, ValueError) and "trust_remote_code" in str(error):
        return OWN_CODE
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _check_shapes(model: Any, told: Any, name: str) -> None:
    found = sorted((weight, list(there), list(wanted)) for weight, there, wanted in told["mismatched_keys"])
    if found:
        named = _some([f"{weight} {there} instead of {wanted}" for weight, there, wanted in found])
        raise UserError(
            f"{name}: the checkpoint has {len(found)} of {type(model).__name__}'s weights in another shape than its "
            f"config.json says ({named}): take configuration and weights of one and the same checkpoint"
        )


def _check_all_there(model: Any, told: Any, name: str) -> None:
    # What is tied to another weight, and what a family does without, transformers has taken out. A buffer that is
    # not there is what the class makes of it.
    parameters = {weight for weight, _ in model.named_parameters(remove_duplicate=False)}
    missing = sorted(parameters.intersection(told["missing_keys"]))
    if missing:
        other = sorted(told["unexpected_keys"])
        instead = f"; of what it has, {len(other)} fit nowhere ({_some(other)})" if other else ""
        raise UserError(
            f"{name}: the checkpoint lacks {len(missing)} of {type(model).__name__}'s {len(parameters)} weights, which "
            f"would be random ({_some(missing)}){instead}: it may have been saved out of a wrapper, as PEFT's, or "
            "under another prefix; open it with what has saved it, and write the model itself with save_pretrained"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:MOST_NAMED], *(["…"] if len(names) > MOST_NAMED else [])])
