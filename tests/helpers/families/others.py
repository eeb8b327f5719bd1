"""Mllama, Pixtral, Mistral 3, Phi-4-multimodal and MiniCPM-V: each with a layout of its own."""

from pathlib import Path
from typing import Any

from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaProcessor,
    PixtralVisionConfig,
)
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

from helpers.families.base import SIDE, TEXT, TOWER, ids, save, tokenizer
from helpers.families.qwen import MROPE

LLAMA_TEMPLATE = (
    "<|begin_of_text|>"
    "{% for m in messages %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<|image|>{% elif p['type'] == 'text' %}{{ p['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

MISTRAL_TEMPLATE = (
    "<s>"
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{{ m['content'][0]['text'] }}{% endif %}</s>"
    "{% elif m['role'] == 'system' %}[SYSTEM_PROMPT]{{ m['content'][0]['text'] }}[/SYSTEM_PROMPT]"
    "{% else %}[INST]{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}[IMG]{% elif p['type'] == 'text' %}{{ p['text'] }}{% endif %}"
    "{% endfor %}[/INST]{% endif %}"
    "{% endfor %}"
)

PHI_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<|image|>{% elif p['type'] == 'text' %}{{ p['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% else %}<|endoftext|>{% endif %}"
)

MINICPM_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<|image_pad|>\n{% elif p['type'] == 'text' %}{{ p['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def mllama(folder: Path) -> None:
    """Llama 3.2 Vision: pictures are seen by cross-attention layers of the language model."""
    # Its processor looks up <|python_tag|>, which Llama's tokenizer has.
    coded = tokenizer(
        "<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>",
        bos="<|begin_of_text|>", eos="<|eot_id|>", pad="<|finetune_right_pad_id|>", adds_bos=True,
    )  # fmt: skip
    words = len(coded)
    coded.add_special_tokens({"extra_special_tokens": ["<|image|>"]})  # behind the vocabulary that has a logit
    text = {**TEXT, "num_hidden_layers": 3, "vocab_size": words, "cross_attention_layers": [1]}
    beginning, end, pad = ids(coded, "<|begin_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>")
    tower = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_global_layers": 1,
        "attention_heads": 2,
        "image_size": SIDE, "patch_size": 8, "vision_output_dim": 32, "intermediate_layers_indices": [0],
        "max_num_tiles": 2, "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]], "initializer_range": 0.2,
    }  # fmt: skip
    config = MllamaConfig(
        text_config={**text, "bos_token_id": beginning, "eos_token_id": end, "pad_token_id": pad},
        vision_config=tower,
        image_token_index=ids(coded, "<|image|>")[0],
    )
    images = MllamaImageProcessorPil(size={"height": SIDE, "width": SIDE}, max_image_tiles=2)
    processor = MllamaProcessor(images, coded, chat_template=LLAMA_TEMPLATE)
    save(folder, MllamaForConditionalGeneration, config, processor, ends=[end])


def _pixtral_parts(merge: int) -> tuple[Any, Any]:
    from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil
    from transformers.models.pixtral.processing_pixtral import PixtralProcessor

    coded = tokenizer("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]",
                      bos="<s>", eos="</s>", pad="<pad>", adds_bos=True)  # fmt: skip
    images = PixtralImageProcessorPil(size={"longest_edge": SIDE}, patch_size={"height": 8, "width": 8})
    processor = PixtralProcessor(
        images, coded, patch_size=8, spatial_merge_size=merge, chat_template=MISTRAL_TEMPLATE
    )  # fmt: skip
    return coded, processor


def pixtral(folder: Path) -> None:
    """Pixtral-12B as transformers has it: the Llava class around a tower that takes pictures of any size."""
    coded, processor = _pixtral_parts(1)
    config = LlavaConfig(
        vision_config=PixtralVisionConfig(**TOWER),
        text_config=MistralConfig(vocab_size=len(coded), **TEXT),
        image_token_index=ids(coded, "[IMG]")[0],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    save(folder, LlavaForConditionalGeneration, config, processor, ends=ids(coded, "</s>"))


def mistral3(folder: Path) -> None:
    """Mistral Small 3.1: Pixtral's tower, four patches merged to a token."""
    coded, processor = _pixtral_parts(2)
    config = Mistral3Config(
        vision_config=PixtralVisionConfig(**TOWER),
        text_config=MistralConfig(vocab_size=len(coded), **TEXT),
        image_token_index=ids(coded, "[IMG]")[0],
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    save(folder, Mistral3ForConditionalGeneration, config, processor, ends=ids(coded, "</s>"))


def phi4_multimodal(folder: Path) -> None:
    """Phi-4-multimodal: towers inside the decoder, fused projections, no entry among image-text-to-text models."""
    from transformers import Phi4MultimodalConfig, Phi4MultimodalForCausalLM, Phi4MultimodalProcessor
    from transformers.models.phi4_multimodal.feature_extraction_phi4_multimodal import Phi4MultimodalFeatureExtractor
    from transformers.models.phi4_multimodal.image_processing_phi4_multimodal import Phi4MultimodalImageProcessor

    named = {"image_token": "<|image|>", "audio_token": "<|audio|>"}
    turns = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
    coded = tokenizer(*turns, bos="<|endoftext|>", eos="<|endoftext|>", named=named)
    image, audio = ids(coded, *named.values())
    end, stop = ids(coded, "<|endoftext|>", "<|end|>")
    config = Phi4MultimodalConfig(
        vocab_size=len(coded),
        bos_token_id=end,
        eos_token_id=[end, stop],
        pad_token_id=end,
        vision_config={**TOWER, "image_size": 448, "patch_size": 14, "crop_size": 448, "image_token_id": image},
        audio_config={
            "hidden_size": 16, "intermediate_size": 32, "num_blocks": 1, "num_attention_heads": 2,
            "ext_pw_out_channel": 16, "depthwise_separable_out_channel": 16, "nemo_conv_channels": 16,
            "audio_token_id": audio,
        },
        **TEXT,
    )  # fmt: skip
    images = Phi4MultimodalImageProcessor(dynamic_hd=1)  # counts its tokens for 448 pixels in patches of 14 only
    processor = Phi4MultimodalProcessor(images, Phi4MultimodalFeatureExtractor(), coded, chat_template=PHI_TEMPLATE)
    save(folder, Phi4MultimodalForCausalLM, config, processor, ends=[end, stop])


def minicpmv(folder: Path) -> None:
    """MiniCPM-V 4.6: layers of linear attention in the language model, a tower that merges as it goes."""
    from transformers import (
        MiniCPMV4_6Config,
        MiniCPMV4_6ForConditionalGeneration,
        MiniCPMV4_6Processor,
        Qwen3_5TextConfig,
    )
    from transformers.models.minicpmv4_6.image_processing_pil_minicpmv4_6 import MiniCPMV4_6ImageProcessorPil
    from transformers.models.minicpmv4_6.video_processing_minicpmv4_6 import MiniCPMV4_6VideoProcessor

    named = {
        "image_token": "<|image_pad|>", "video_token": "<|video_pad|>",
        "image_start_token": "<image>", "image_end_token": "</image>",
        "slice_start_token": "<slice>", "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>", "image_id_end_token": "</image_id>",
    }  # fmt: skip
    coded = tokenizer(named=named)
    image, video = ids(coded, "<|image_pad|>", "<|video_pad|>")
    text = Qwen3_5TextConfig(
        vocab_size=len(coded), head_dim=16, layer_types=["linear_attention", "full_attention"],
        linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=2,
        rope_parameters={**MROPE, "mrope_interleaved": True, "partial_rotary_factor": 0.5}, **TEXT,
    )  # fmt: skip
    config = MiniCPMV4_6Config(
        text_config=text,
        vision_config=TOWER,
        insert_layer_id=0,
        image_size=2 * SIDE,
        image_token_id=image,
        video_token_id=video,
    )
    more = {"scale_resolution": 2 * SIDE, "patch_size": 8, "slice_mode": False}
    processor = MiniCPMV4_6Processor(
        MiniCPMV4_6ImageProcessorPil(**more), MiniCPMV4_6VideoProcessor(**more), coded, chat_template=MINICPM_TEMPLATE
    )
    save(folder, MiniCPMV4_6ForConditionalGeneration, config, processor, ends=ids(coded, "<|im_end|>"))
