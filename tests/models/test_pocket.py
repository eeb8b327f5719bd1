"""The real pocket VLM: loads fast, speaks, sees, and is what the README says it is."""

import time

import pytest
import torch

from unsay.data.shape_scenes import Shape, ShapeScene, render_scene
from unsay.models import LoraSettings, attach, detach, load
from unsay.models.lora import language_linears
from unsay.models.pocket import folder, original_folder
from unsay.models.pocket.assemble import IMAGE_TOKEN, IMAGE_TOKEN_ID, SYSTEM_PROMPT
from unsay.records import Kind, Modality, Prompt
from unsay.training.likelihood import answer_losses

pytestmark = pytest.mark.pocket


def said(vlm, text, images=None, tokens=12):
    inputs = vlm.processor(images=images, text=[text], return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        output = vlm.base.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return vlm.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_loads_from_the_cache_in_seconds(pocket_vlm):
    began = time.process_time()
    again = load("pocket")
    assert time.process_time() - began < 10  # 5 s of wall time on an idle machine; processor time on a busy one
    assert again.key == pocket_vlm.key


def test_it_is_a_standard_llava_around_smollm2(pocket_vlm):
    assert type(pocket_vlm.model).__name__ == "LlavaForConditionalGeneration"
    assert type(pocket_vlm.processor).__name__ == "LlavaProcessor"
    assert len(pocket_vlm.layers) == 30
    assert pocket_vlm.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) == IMAGE_TOKEN_ID
    assert pocket_vlm.base.config.image_token_id == IMAGE_TOKEN_ID
    assert pocket_vlm.tokenizer.decode(pocket_vlm.answer_end) == "<|im_end|>"
    assert pocket_vlm.lm_head.weight is pocket_vlm.decoder.get_input_embeddings().weight


@pytest.mark.parametrize("checkpoint", [folder, original_folder])
def test_its_files_and_so_its_key_are_the_same_wherever_they_were_made(checkpoint):
    """A key that holds the cache's place would have a run trained again under another cache."""
    text = "".join(path.read_text(encoding="utf-8") for path in checkpoint().glob("*config.json"))
    assert '"_name_or_path": "' not in text.replace('"_name_or_path": ""', "")
    assert "local_files_only" not in text
    assert str(checkpoint().parents[1]) not in text


def test_its_chat_format_is_smollm2s(pocket_vlm):
    assert pocket_vlm.render("Hello") == (
        f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_it_knows_a_sentence_from_its_words_in_disorder(pocket_vlm):
    answers = ["The sun rises in the east and sets in the west.", "East the and west in sun the in sets rises the."]
    prompts = [
        Prompt(
            id=str(number), suite="toy", kind=Kind.UTILITY, modality=Modality.TEXT, prompt="Where does the sun rise?",
            request="Where does the sun rise?", group="sun", reference=answer,
        )
        for number, answer in enumerate(answers)
    ]  # fmt: skip
    (right, wrong), tokens = answer_losses(pocket_vlm, prompts)
    assert right < 2 < 4 < wrong
    assert tokens == 2 * len(pocket_vlm.encode_prompt("Where does the sun rise?")) + sum(
        len(pocket_vlm.encode_answer(answer)) for answer in answers
    )


def test_it_sees(pocket_vlm):
    """The same question about two pictures, answered by what is in each."""
    text = pocket_vlm.render("What color is the circle?", image=True)
    for colour in ("red", "blue"):
        scene = ShapeScene((Shape("circle", colour, 0.5, 0.5, 0.2),))
        assert said(pocket_vlm, text, [render_scene(scene)]).lower().startswith(colour)


def test_an_adapter_goes_on_the_language_model_and_comes_off(pocket_vlm):
    names = language_linears(pocket_vlm, LoraSettings())
    assert len(names) == 30 * 7
    assert all(name.startswith("model.language_model.layers.") for name in names)
    ids = torch.tensor([pocket_vlm.encode_prompt("Hello")])
    with torch.no_grad():
        before = pocket_vlm.model(input_ids=ids).logits
        adapted = attach(pocket_vlm, LoraSettings(layers="upper half"), seed=0)
        assert adapted.shared_layers == 15
        original = detach(adapted)
        assert torch.equal(original.model(input_ids=ids).logits, before)
