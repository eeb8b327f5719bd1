"""SmolVLM in miniature with SmolLM2's real tokenizer, because llama.cpp's converter takes only those that it knows."""

from pathlib import Path

from tokenizers import AddedToken
from transformers import AutoTokenizer, Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor, LlamaConfig
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from helpers import tiny
from helpers.families.base import SIDE, TEXT, TOWER, ids, save
from unsay.models.pocket import original_folder

TILES = 2
"""Tiles in a row of a square picture, which the model sees whole, too."""
MERGED = 2
"""Patches of a tile's side that become one token together."""
PLACES = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
END = "<end_of_utterance>"


def build(folder: Path) -> None:
    """Write a checkpoint folder with random weights, as SmolVLM's is laid out."""
    coded = AutoTokenizer.from_pretrained(original_folder())
    special = ["<global-img>", *PLACES, "<fake_token_around_image>", "<image>", END]
    coded.add_tokens([AddedToken(token, special=True, normalized=False) for token in special], special_tokens=True)
    coded.eos_token = END
    # The converter goes by the language model's own class. Without a head of its own a random model repeats its input.
    text = LlamaConfig(vocab_size=len(coded), architectures=["VLlama3ForCausalLM"], tie_word_embeddings=False, **TEXT)
    config = Idefics3Config(
        text_config=text.to_dict(),
        vision_config=TOWER,
        image_token_id=ids(coded, "<image>")[0],
        scale_factor=MERGED,
        tie_word_embeddings=False,
    )
    images = Idefics3ImageProcessorPil(size={"longest_edge": TILES * SIDE}, max_image_size={"longest_edge": SIDE})
    tokens = (SIDE // TOWER["patch_size"] // MERGED) ** 2
    # This template writes the same before words and pictures; the published one does not in llama.cpp (docs/serve.md).
    ready = Idefics3Processor(images, coded, image_seq_len=tokens, chat_template=tiny.IDEFICS_TEMPLATE)
    save(folder, Idefics3ForConditionalGeneration, config, ready, ends=ids(coded, END))
