"""A loaded adapter at any strength: y = W x + c + t · s · B A x, from the original (t = 0) over the trained (t = 1)."""

import json
import math
import shutil
from pathlib import Path

from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from unsay.errors import UserError
from unsay.files import read_json, write_text
from unsay.models.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from unsay.models.vlm import VLM


class AdapterScale:
    """Sets how strongly the adapter of one model acts, without loading anything.

    Attributes:
        gradual: whether every strength is possible; an adapter that is not LoRA alone is off or on.
        now: the strength at which the model is, as a factor on the trained adapter.
    """

    def __init__(self, vlm: VLM) -> None:
        """Find the adapter's layers; it must act at full strength."""
        self._vlm = vlm
        tuned = [module for module in vlm.model.modules() if isinstance(module, BaseTunerLayer)]
        self._layers = [module for module in tuned if isinstance(module, LoraLayer)]
        self._full = [dict(layer.scaling) for layer in self._layers]
        replaced = any(isinstance(module, AuxiliaryTrainingWrapper) for module in vlm.model.modules())
        variants = any(layer.lora_variant for layer in self._layers)  # such as DoRA: its magnitudes act at scale 0, too
        self.gradual = len(self._layers) == len(tuned) and not replaced and not variants
        self.now = 1.0

    def set(self, strength: float) -> VLM:
        """The model at this strength, 0 for the original; changed in place.

        Its key tells the strengths apart, so that nothing computed at one is taken for another's.
        """
        if self.gradual:
            if strength != self.now:
                for layer, full in zip(self._layers, self._full, strict=True):
                    layer.scaling.update({name: strength * scale for name, scale in full.items()})
        elif (strength != 0) != (self.now != 0):
            (self._vlm.model.enable_adapter_layers if strength else self._vlm.model.disable_adapter_layers)()
            self._vlm.model.requires_grad_(False)  # PEFT makes an adapter trainable when it switches
        self.now = strength
        vlm = self._vlm
        if strength == 0:
            return VLM(vlm.name, vlm.model, vlm.processor, vlm.key)
        key = vlm.adapter_key if strength == 1 else f"{vlm.adapter_key} x {strength:g}"
        return VLM(vlm.name, vlm.model, vlm.processor, vlm.key, adapter_key=key, adapts_vision=vlm.adapts_vision)


def write_scaled(adapter: Path, strength: float, folder: Path) -> None:
    """Write an adapter in PEFT format that acts at this strength: the same matrices, with alpha multiplied.

    Args:
        adapter: folder of the trained adapter.
        strength: factor on its update, above 0; 1 is the trained adapter.
        folder: an existing folder for the new one.

    Raises:
        UserError: a strength that is not above 0, or an adapter that is more than LoRA.
    """
    if not 0 < strength < float("inf"):
        raise UserError(f"--strength {strength:g}: give a number above 0; 0 is the original model")
    settings = read_json(adapter / ADAPTER_CONFIG)
    more = settings.get("modules_to_save") or settings.get("use_dora") or settings.get("bias") != "none"
    if settings.get("peft_type") != "LORA" or more:
        raise UserError(f"{adapter}: is more than LoRA, so a strength cannot be chosen: leave out --strength")
    settings["lora_alpha"] *= strength
    if not math.isfinite(settings["lora_alpha"]):
        raise UserError(f"--strength {strength:g}: is too large for this adapter")
    settings["alpha_pattern"] = {
        name: strength * alpha for name, alpha in (settings.get("alpha_pattern") or {}).items()
    }
    shutil.copyfile(adapter / ADAPTER_WEIGHTS, folder / ADAPTER_WEIGHTS)
    write_text(folder / ADAPTER_CONFIG, json.dumps(settings, indent=2) + "\n")
