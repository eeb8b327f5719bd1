"""Tiny random vision-language models with real processors: whole families in milliseconds, for tests."""

import copy
from functools import cache
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

from unsay.files import write_json
from unsay.models import VLM, save_adapter
from unsay.models.pocket.assemble import SYSTEM_PROMPT, build_processor, vlm_config
from unsay.records import Example, Role
from unsay.run.directory import TRAINED

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>"]
"""SmolLM2's first tokens, at SmolLM2's places."""
IDEFICS_SPECIAL = ["<fake_token_around_image>", "<image>", "<end_of_utterance>"]

PROMPTS = [
    "Name three birds that live near water.",
    "How do I bake bread?",
    "What is the capital of the second largest country in the world?",
    "Write one line about the sea.",
    "Which colour has the sky at noon?",
    "Say hello.",
]
ANSWERS = [
    "The heron, the duck and the swan.",
    "Mix flour, water, salt and yeast, wait, and bake it hot.",
    "Ottawa.",
    "The sea is wide and never still.",
    "Blue, unless there are clouds.",
    "Hello there!",
]
IMAGE_SIZE = 32
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": IMAGE_SIZE,
    "patch_size": 16,
    "vision_use_head": False,
}


@cache
def _trained() -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=[*SPECIAL, *IDEFICS_SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator([*PROMPTS, *ANSWERS, SYSTEM_PROMPT, "system\nuser\nassistant\n"] * 3, trainer)
    return core


def tokenizer(eos: str = "<|im_end|>") -> PreTrainedTokenizerFast:
    """Byte-level BPE with merges; every text has a token sequence."""
    core = copy.deepcopy(_trained())
    core.add_special_tokens([AddedToken(token, special=True) for token in [*SPECIAL, *IDEFICS_SPECIAL]])
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, pad_token=eos)
    made.padding_side = "left"
    return made


def _text(layers: int, vocabulary: int, **more: object) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,  # large enough that layers matter
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
        **more,
    )


def _finished(name: str, model: object, processor: object, ends: list[int]) -> VLM:
    model.generation_config.eos_token_id = ends
    model.generation_config.pad_token_id = ends[0]
    return VLM(name, model.eval().requires_grad_(False), processor, f"{name}-key")


def llava(layers: int = 4, *, seed: int = 0, **text: object) -> VLM:
    """The pocket VLM in miniature: Llava with a Siglip tower, its own configuration, processor and chat template."""
    coded = tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = vlm_config(_text(layers, len(coded), **text), VISION)
        model = LlavaForConditionalGeneration(config)
    return _finished("tiny-llava", model, build_processor(coded, IMAGE_SIZE), [2])


IDEFICS_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' if loop.first else '' }}{{ message['role'] | capitalize }}: "
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}"
    "{%- if part['type'] == 'image' -%}{{ '<image>' }}{%- endif -%}"
    "{%- endfor -%}"
    "<end_of_utterance>\n"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}"
)
"""SmolVLM's: turns are lists of parts, also an assistant's; a string's characters are silently left out."""


def idefics3(layers: int = 2, *, seed: int = 0) -> VLM:
    """SmolVLM's family: another layout of modules, another template, another end of an answer."""
    coded = tokenizer("<|endoftext|>")
    end = coded.convert_tokens_to_ids("<end_of_utterance>")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = Idefics3Config(
            text_config=_text(layers, len(coded)).to_dict(),
            vision_config={key: value for key, value in VISION.items() if key != "vision_use_head"},
            image_token_id=coded.convert_tokens_to_ids("<image>"),
            scale_factor=2,
            tie_word_embeddings=True,
        )
        model = Idefics3ForConditionalGeneration(config)
    images = Idefics3ImageProcessorPil(do_image_splitting=False, size={"longest_edge": IMAGE_SIZE},
                                       max_image_size={"longest_edge": IMAGE_SIZE})  # fmt: skip
    processor = Idefics3Processor(images, coded, image_seq_len=1, chat_template=IDEFICS_TEMPLATE)
    return _finished("tiny-idefics3", model, processor, [end, 0])


FAMILIES = {"llava": llava, "idefics3": idefics3}


OUT_OF_MEMORY = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CPU": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: you tried"
    ),
    "Python": MemoryError(),
}
"""How memory runs out: what is raised, by whom."""


def examples(per_role: int = 4) -> list[Example]:
    """Harmless examples in all three roles, of uneven lengths."""
    rows = []
    for number, role in enumerate(Role):
        for index in range(per_role):
            prompt, answer = PROMPTS[(index + number) % len(PROMPTS)], ANSWERS[(index + 2 * number) % len(ANSWERS)]
            rows.append(
                Example(
                    id=f"{role.value}-{index}", role=role, prompt=f"{prompt} ({index})", answer=answer, source="toy"
                )
            )
    return rows


def probe() -> list[Example]:
    """Held-out normal examples."""
    return [
        Example(id=f"probe-{index}", role=Role.RETAIN, prompt=prompt, answer=answer, source="toy")
        for index, (prompt, answer) in enumerate(zip(PROMPTS, reversed(ANSWERS), strict=True))
    ]


def save_trained(vlm: VLM, run_dir: Path) -> None:
    """Save a model's adapter as that of a run which has trained it."""
    save_adapter(vlm, run_dir / "adapter")
    write_json(run_dir / TRAINED, {})
