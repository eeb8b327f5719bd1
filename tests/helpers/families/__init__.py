"""Every supported family in miniature: a random model of the real class with a real processor, built without a hub."""

from helpers.families import gemma, idefics, llava, others, qwen
from helpers.families.base import Family

ALSO = ("torchvision",)
"""What a processor that also takes videos, or resizes in its own way, cannot be made without."""

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("LLaVA-1.5", "llava-hf/llava-1.5-7b-hf", llava.llava, "</s>"),
        Family("LLaVA-NeXT", "llava-hf/llava-v1.6-mistral-7b-hf", llava.llava_next, "</s>"),
        Family("LLaVA-OneVision", "llava-hf/llava-onevision-qwen2-7b-ov-hf", llava.llava_onevision, "<|im_end|>", ALSO),
        Family("Qwen2-VL", "Qwen/Qwen2-VL-7B-Instruct", qwen.qwen2_vl, "<|im_end|>", ALSO),
        Family("Qwen2.5-VL", "Qwen/Qwen2.5-VL-7B-Instruct", qwen.qwen2_5_vl, "<|im_end|>", ALSO),
        Family("Qwen3-VL", "Qwen/Qwen3-VL-8B-Instruct", qwen.qwen3_vl, "<|im_end|>", ALSO),
        Family("InternVL", "OpenGVLab/InternVL3-8B-hf", llava.internvl, "<|im_end|>", ALSO),
        Family("Idefics3, SmolVLM", "HuggingFaceTB/SmolVLM-Instruct", idefics.idefics3, "<end_of_utterance>"),
        Family("SmolVLM2", "HuggingFaceTB/SmolVLM2-2.2B-Instruct", idefics.smolvlm, "<end_of_utterance>",
               (*ALSO, "num2words")),
        Family("Gemma 3", "google/gemma-3-12b-it", gemma.gemma3, "<end_of_turn>"),
        Family("PaliGemma", "google/paligemma-3b-mix-224", gemma.paligemma, "<eos>"),
        Family("PaliGemma 2", "google/paligemma2-3b-mix-224", gemma.paligemma2, "<eos>"),
        Family("Mllama", "meta-llama/Llama-3.2-11B-Vision-Instruct", others.mllama, "<|eot_id|>"),
        Family("Pixtral", "mistral-community/pixtral-12b", others.pixtral, "</s>", ALSO),
        Family("Mistral 3", "mistralai/Mistral-Small-3.1-24B-Instruct-2503", others.mistral3, "</s>", ALSO),
        Family("Phi-4-multimodal", "microsoft/Phi-4-multimodal-instruct", others.phi4_multimodal, "<|end|>", ALSO),
        Family("MiniCPM-V 4.6", "openbmb/MiniCPM-V-4.6", others.minicpmv, "<|im_end|>", ALSO),
        Family("GLM-4V", "zai-org/GLM-4.1V-9B-Thinking", qwen.glm4v, "<|user|>", ALSO),
    )
}  # fmt: skip
