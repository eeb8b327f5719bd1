"""Does an adapter change what pictures pass, beside the language model?"""

from pathlib import Path

from safetensors import safe_open

from unsay.errors import UserError
from unsay.models.loading import bare
from unsay.models.reach import beside_language
from unsay.scoring import Caution


def sees_otherwise(adapter: Path, model: str) -> list[Caution]:
    """A caution for an adapter that changes the vision side, too, as one on all linears does.

    What is trained here never does. Read off the names of its weights: where all answers are there, no model is loaded.

    Args:
        adapter: its folder, in PEFT format.
        model: what it was put on. Where its configuration is gone by now, as with a cache that was cleared, the caution
            says that nothing is known: answers that are all there are not lost for that.
    """
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as weights:
        names = list(weights.keys())
    try:
        found = beside_language(bare(model), names)
    except UserError:
        text = (
            "It is not known whether the adapter changes the vision side of the model, too: the model's configuration "
            "could not be read any more. Run the command again where it can be; no answer is made anew."
        )
        return [Caution(text=text)]
    if not found:
        return []
    share = f"{len(found)} of its {len(names)} weights, as {min(found)}"
    text = (
        f"The adapter changes the vision side of the model, too ({share}): what it does beside pictures is not its "
        "language model's doing alone, and no measure of how far training on text carries over."
    )
    return [Caution(text=text)]
