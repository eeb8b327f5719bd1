"""Loading, finding the language model, adapters that do what they say, and the pocket VLM's parts in miniature."""

import copy
import json
import shutil

import pytest
import torch
from accelerate import dispatch_model
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import Llama4TextConfig
from transformers.models.llama4.modeling_llama4 import Llama4TextMoe
from transformers.quantizers.quantizers_utils import should_convert_module

from helpers import tiny
from unsay.errors import UserError
from unsay.models import (
    LoraSettings,
    ModelSettings,
    attach,
    detach,
    load,
    load_adapter,
    model_key,
    pocket,
    save_adapter,
)
from unsay.models.checks import check_head
from unsay.models.loading import NAMED
from unsay.models.lora import adapter_key, language_linears
from unsay.models.pocket import assemble
from unsay.models.pocket.assemble import IMAGE_TOKEN, IMAGE_TOKEN_ID, packaged_weights
from unsay.models.vlm import VLM
from unsay.records import Kind, Modality, Prompt, Turn
from unsay.training.flops import backward_flops, forward_flops
from unsay.training.head import fusible
from unsay.training.likelihood import answer_losses

IDS = torch.tensor([[1, 30, 40, 50, 60]])


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def acting(vlm, seed=3, size=0.1):
    """An adapter whose B is not zero."""
    adapted = attach(vlm, LoraSettings(rank=4), seed=0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    return adapted


@pytest.fixture
def saved(tiny_folder, tmp_path):
    """A saved adapter of the tiny VLM, and the logits that it gives."""
    adapted = acting(load(str(tiny_folder)))
    save_adapter(adapted, tmp_path / "adapter")
    return tmp_path / "adapter", logits(adapted.model)


# ------------------------------------------------------------------------------------------------------------- loading


def test_load_opens_a_checkpoint_folder(tiny_folder):
    vlm = load(str(tiny_folder))
    assert vlm.render("Say hello.") == tiny.llava().render("Say hello.")
    assert vlm.encode_answer("Hello there!") == tiny.llava().encode_answer("Hello there!")
    assert torch.equal(logits(vlm.model), logits(tiny.llava().model))
    assert not any(parameter.requires_grad for parameter in vlm.model.parameters())
    assert not vlm.model.training


@pytest.mark.parametrize("name", ["tokenizer.model", "pytorch_model.bin", "merges.txt"])
def test_model_key_follows_every_file_that_transformers_may_open(tiny_folder, tmp_path, name):
    same = shutil.copytree(tiny_folder, tmp_path / "same")
    (same / "README.md").write_text("words")
    assert model_key(str(same)) == model_key(str(tiny_folder))
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    (other / name).write_text("x")
    assert model_key(str(other)) != model_key(str(tiny_folder))


def test_a_model_in_several_places_answers_and_scores_like_one_in_one(tmp_path):
    """As with a device map over two GPUs: what the layers give, and the head, must not be taken to be in one place."""
    prompts = [
        Prompt(id=row.id, suite="toy", kind=Kind.UTILITY, modality=Modality.TEXT, prompt=row.prompt, request=row.prompt,
               group=row.id, reference=row.answer)
        for row in tiny.examples()
    ]  # fmt: skip
    whole = tiny.llava()
    wanted, tokens = answer_losses(whole, prompts)
    assert not whole.spread
    spread = tiny.llava()
    spread.model = dispatch_model(spread.model, {"model": "cpu", "lm_head": "disk"}, offload_dir=str(tmp_path))
    assert spread.spread
    assert answer_losses(spread, prompts) == (pytest.approx(wanted, rel=1e-5), tokens)
    assert not fusible(spread.lm_head)


def test_model_key_follows_the_content(tiny_folder, tmp_path):
    same, other = tmp_path / "same", tmp_path / "other"
    shutil.copytree(tiny_folder, same)
    shutil.copytree(tiny_folder, other)
    template = other / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert model_key(str(same)) == model_key(str(tiny_folder))
    assert model_key(str(other)) != model_key(str(tiny_folder))


def test_load_says_what_is_wrong_in_one_line(tiny_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    textual = tmp_path / "textual"
    shutil.copytree(tiny_folder, textual)
    (textual / "chat_template.jinja").unlink()
    for source, says in ((tmp_path / "empty", "cannot be loaded"), (textual, "no chat template")):
        with pytest.raises(UserError, match=says) as caught:
            load(str(source))
        assert str(source) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="device: 'nonsense'") as caught:
        load(str(tiny_folder), device="nonsense")
    assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------------------------- the chat format


def test_answer_end_is_the_templates_own_not_the_tokenizers(any_vlm):
    """The tiny Idefics3's tokenizer says <|endoftext|>, its template <end_of_utterance>, and it takes parts only."""
    expected = {"tiny-llava": "<|im_end|>", "tiny-idefics3": "<end_of_utterance>"}[any_vlm.name]
    assert any_vlm.tokenizer.decode(any_vlm.answer_end) == expected
    assert set(any_vlm.answer_end) <= any_vlm.end_tokens


def test_a_template_that_ends_nothing_leaves_it_to_the_tokenizer(tiny_vlm):
    tiny_vlm.processor.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}"
    assert tiny_vlm.answer_end == (tiny_vlm.tokenizer.eos_token_id,)


def test_a_model_without_an_end_is_refused(tiny_vlm):
    tiny_vlm.processor.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}"
    tiny_vlm.tokenizer.eos_token = None
    tiny_vlm.model.generation_config.eos_token_id = None
    with pytest.raises(UserError, match="end-of-sequence"):
        _ = tiny_vlm.answer_end


def test_a_token_that_the_tokenizer_puts_first_is_written_out_once(tiny_vlm):
    """LLaVA-1.5's template leaves <s> to the tokenizer; others write it themselves."""
    coded = tiny_vlm.tokenizer
    coded.bos_token = "<|endoftext|>"
    coded.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", coded.bos_token_id)]
    )
    assert coded("x")["input_ids"][0] == coded.bos_token_id
    tiny_vlm.processor.chat_template = "USER: {{ messages[0]['content'][0]['text'] }} ASSISTANT:"
    assert tiny_vlm.render("Say hello.") == "<|endoftext|>USER: Say hello. ASSISTANT:"
    assert tiny_vlm.encode_prompt("Say hello.") == coded("USER: Say hello. ASSISTANT:")["input_ids"]
    tiny_vlm.processor.chat_template = "<|endoftext|>" + tiny_vlm.processor.chat_template
    assert tiny_vlm.encode_prompt("Say hello.") == coded("USER: Say hello. ASSISTANT:")["input_ids"]


def test_an_image_stands_where_the_template_puts_it(any_vlm):
    placeholder = any_vlm.processor.image_token
    assert placeholder in any_vlm.render("Say hello.", image=True)
    assert placeholder not in any_vlm.render("Say hello.")
    assert "Be brief." in any_vlm.render("Say hello.", system="Be brief.")


STRINGS = {
    "fails at parts": "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}assistant:",
    "leaves parts out": "{% for m in messages %}{% if m['content'] is string %}{{ m['role'] }}: {{ m['content'] }}\n"
    "{% endif %}{% endfor %}assistant:",
    "writes parts out": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:",
}


@pytest.mark.parametrize("template", STRINGS.values(), ids=STRINGS.keys())
def test_a_template_of_the_language_model_alone_is_given_strings(tiny_vlm, template):
    tiny_vlm.processor.chat_template = template
    assert tiny_vlm.render("Say hello.") == "user: Say hello.\nassistant:"
    placeholder = tiny_vlm.processor.image_token
    assert tiny_vlm.render("Say hello.", image=True) == f"user: {placeholder}\nSay hello.\nassistant:"
    turns = [Turn(role="user", text="Hi"), Turn(role="assistant", text="Yes?")]
    said = tiny_vlm.render("Say hello.", system="Be brief.", turns=turns)
    assert said == "system: Be brief.\nuser: Hi\nassistant: Yes?\nuser: Say hello.\nassistant:"


@pytest.mark.parametrize(
    ("before", "says"),
    [
        ("{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}", "does not take a system"),
        ("", "drops system prompts"),
    ],
)
def test_a_template_without_system_prompts_says_so(tiny_vlm, before, says):
    tiny_vlm.processor.chat_template = before + "{{ messages[-1]['content'][0]['text'] }} assistant:"
    assert tiny_vlm.render("Say hello.") == "Say hello. assistant:"
    with pytest.raises(UserError, match=f"its chat template {says}"):
        tiny_vlm.render("Say hello.", system="Be brief.")


# ------------------------------------------------------------------------------------------------- the language model


def test_linears_are_found_by_identity_not_by_name(any_vlm):
    """The vision towers have q_proj, k_proj and v_proj too: matching by name lands there."""
    names = language_linears(any_vlm, LoraSettings(modules="attention"))
    vision = [name for name, _ in any_vlm.model.named_modules() if "vision" in name and name.endswith("q_proj")]
    assert vision  # or this test shows nothing
    assert not set(names) & set(vision)
    modules = dict(any_vlm.model.named_modules())
    inside = {id(module) for module in any_vlm.decoder.modules()}
    assert all(id(modules[name]) in inside for name in names)
    assert len(names) == 4 * len(any_vlm.layers)
    assert len(language_linears(any_vlm, LoraSettings())) == 7 * len(any_vlm.layers)


@pytest.mark.parametrize(("layers", "lowest"), [("all", 0), ("upper half", 3), ("upper third", 4)])
def test_which_layers_are_adapted(layers, lowest):
    names = language_linears(tiny.llava(layers=6), LoraSettings(layers=layers))
    assert {int(name.split(".layers.")[1].split(".")[0]) for name in names} == set(range(lowest, 6))


class Llama4Mixture(Llama4TextMoe):
    """Llama 4's: its router is derived from a linear and gives a tuple, its experts are one tensor."""

    def __init__(self):
        config = {"hidden_size": 32, "intermediate_size": 24, "num_local_experts": 4, "num_experts_per_tok": 2}
        super().__init__(Llama4TextConfig(num_attention_heads=4, num_key_value_heads=2, **config))

    def forward(self, x):
        return super().forward(x)[0].view_as(x)


class Routed(nn.Module):
    """As Mixtral's was and Gemma 4's is: scores of plain linears, here beside a shared expert as narrow as they are."""

    def __init__(self, one_piece):
        super().__init__()
        self.one_piece = one_piece
        self.gate = nn.Sequential(nn.Linear(32, 4)) if one_piece else nn.Linear(32, 4)
        self.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        if one_piece:
            self.experts = nn.ParameterDict({"weight": nn.Parameter(torch.empty(4, 32, 32))})
        self.shared_expert = nn.Sequential(nn.Linear(32, 4), nn.SiLU(), nn.Linear(4, 32))

    def forward(self, x):
        matrices = self.experts["weight"] if self.one_piece else torch.stack([one.weight for one in self.experts])
        every = torch.einsum("bth,eoh->btoe", x, matrices)
        if not self.one_piece:
            every = torch.stack([expert(x) for expert in self.experts], dim=-1)
        return self.shared_expert(x) + (every * self.gate(x).softmax(-1)[:, :, None]).sum(-1)


SHARED = {f"shared_expert.{name}_proj" for name in ("gate", "up", "down")}
NARROW = {"shared_expert.0", "shared_expert.2"}


@pytest.mark.parametrize(
    ("mixture", "adapted"),
    [
        (Llama4Mixture, SHARED),
        (lambda: Routed(one_piece=True), NARROW),
        (lambda: Routed(one_piece=False), NARROW | {f"experts.{number}" for number in range(4)}),
    ],
)
def test_of_a_mixture_of_experts_the_linears_are_adapted_but_not_the_router(tiny_vlm, mixture, adapted):
    made = mixture()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    tiny_vlm.layers[1].mlp = made.requires_grad_(False)
    names = language_linears(tiny_vlm, LoraSettings())
    assert {name.split("layers.1.mlp.")[1] for name in names if "layers.1.mlp." in name} == adapted
    assert len(names) == 7 * len(tiny_vlm.layers) - 3 + len(adapted)
    vlm = acting(tiny_vlm)
    vlm.model(input_ids=IDS).logits.sum().backward()  # a step goes through
    assert all(p.grad is not None and p.grad.any() for p in vlm.model.parameters() if p.requires_grad)


class Scaled(nn.Linear):
    """Derived from a linear, and computes something else."""

    def forward(self, x):
        return super().forward(x) * 2


class Packed(nn.Linear):
    """As bitsandbytes' linears, which PEFT knows by their class."""

    __module__ = "bitsandbytes.nn.modules"

    def forward(self, x):
        return super().forward(x)


class Named(nn.Linear):
    """A linear under another name."""


@pytest.mark.parametrize(("kind", "taken"), [(Scaled, False), (Packed, True), (Named, True)])
def test_what_is_derived_from_a_linear_is_adapted_only_if_it_computes_what_a_linear_does(tiny_vlm, kind, taken):
    tiny_vlm.layers[0].mlp.up_proj = kind(32, 48, bias=False)
    tiny_vlm.layers[0].mlp.down_proj.forward = tiny_vlm.layers[0].mlp.down_proj.forward  # as accelerate's hooks do
    names = language_linears(tiny_vlm, LoraSettings())
    assert any("layers.0.mlp.up_proj" in name for name in names) == taken
    assert any("layers.0.mlp.down_proj" in name for name in names)


def test_no_vision_module_gets_an_adapter(any_vlm):
    adapted = attach(any_vlm, LoraSettings(), seed=0)
    names = [name for name, _ in adapted.model.named_parameters() if "lora_" in name]
    assert names
    assert not any("vision" in name or "connector" in name or "projector" in name for name in names)


def test_an_adapter_on_the_vision_tower_is_refused_and_taken_off(any_vlm, monkeypatch):
    before = logits(any_vlm.model)
    vision = [name for name, _ in any_vlm.model.named_modules() if "vision" in name and name.endswith("q_proj")]
    monkeypatch.setattr("unsay.models.lora.language_linears", lambda *_: vision)
    with pytest.raises(UserError, match="not part of the language model"):
        attach(any_vlm, LoraSettings(), seed=0)
    assert torch.equal(logits(any_vlm.model), before)
    assert not any("lora_" in name for name, _ in any_vlm.model.named_parameters())


def test_a_model_that_caps_its_logits_is_refused(tiny_vlm, monkeypatch):
    """Training on decoder and head alone would optimise another model than the one that answers."""
    check_head(tiny_vlm)
    forward = tiny_vlm.model.forward

    def capped(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = 2 * torch.tanh(output.logits / 2)
        return output

    monkeypatch.setattr(tiny_vlm.model, "forward", capped)
    with pytest.raises(UserError, match="not supported"):
        attach(tiny_vlm, LoraSettings(), seed=0)


def test_a_fresh_adapter_changes_nothing_and_follows_the_seed(tiny_vlm):
    before = logits(tiny_vlm.model)
    first = attach(copy.deepcopy(tiny_vlm), LoraSettings(), seed=0)
    torch.manual_seed(99)  # whatever was drawn before is of no account
    again = attach(copy.deepcopy(tiny_vlm), LoraSettings(), seed=0)
    other = attach(copy.deepcopy(tiny_vlm), LoraSettings(), seed=1)
    assert torch.equal(logits(first.model), before)

    def downs(vlm):
        return torch.cat([p.flatten() for name, p in vlm.model.named_parameters() if "lora_A" in name])

    assert torch.equal(downs(first), downs(again))
    assert not torch.equal(downs(first), downs(other))


def test_detach_gives_back_the_original_bit_for_bit(any_vlm):
    before = logits(any_vlm.model)
    adapted = acting(any_vlm)
    assert not torch.equal(logits(adapted.model), before)
    original = detach(adapted)
    assert torch.equal(logits(original.model), before)
    assert original.adapter_key is None
    assert detach(original) is original
    assert not torch.equal(logits(acting(original).model), before)  # and it takes another adapter


# ------------------------------------------------------------------------------------------------------ saved adapters


def test_plain_peft_loads_what_we_save(tiny_folder, saved):
    """Text adapters that load as silent no-ops in a VLM are a bug that others shipped."""
    folder, wanted = saved
    base = load(str(tiny_folder)).model
    before = logits(base)
    plain = PeftModel.from_pretrained(base, str(folder))
    torch.testing.assert_close(logits(plain), wanted, rtol=1e-4, atol=1e-5)
    assert (wanted - before).abs().max() > 0.01


def test_load_adapter_gives_the_same_model(tiny_folder, saved):
    folder, wanted = saved
    vlm = load(str(tiny_folder), adapter=folder)
    assert torch.equal(logits(vlm.model), wanted)
    assert vlm.adapter_key == adapter_key(folder)
    assert not any(parameter.requires_grad for parameter in vlm.model.parameters())


def test_adapter_key_does_not_depend_on_pefts_order_or_on_where_the_model_lies(saved):
    folder, _ = saved
    before = adapter_key(folder)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    assert len(config["target_modules"]) > 1
    config["target_modules"] = list(reversed(config["target_modules"]))
    config["base_model_name_or_path"] = "elsewhere"
    path.write_text(json.dumps(config))
    assert adapter_key(folder) == before
    path.write_text(json.dumps({**config, "lora_alpha": 1.0}))
    assert adapter_key(folder) != before


def test_adapter_key_follows_the_weights(saved):
    folder, _ = saved
    before = adapter_key(folder)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: tensor * 2 for name, tensor in weights.items()}, folder / "adapter_model.safetensors")
    assert adapter_key(folder) != before


def test_an_adapter_of_one_pocket_is_not_put_on_another(tiny_folder, saved, tmp_path):
    folder, _ = saved
    names = {name: f"pocket-{pocket._key(packaged_weights(name))}" for name in pocket.VERSIONS}
    assert [pocket.version_of(name) for name in names.values()] == [*pocket.VERSIONS]
    assert pocket.version_of("pocket-0123456789abcdef") is pocket.version_of("llava-1.5-7b-hf") is None
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": names["pocket-1"]}))
    for version, fits in (("pocket-1", True), ("pocket-2", False)):
        here = tmp_path / names[version]
        shutil.copytree(tiny_folder, here)
        if fits:
            assert load(str(here), adapter=folder).adapter_key
        else:
            with pytest.raises(UserError, match="trained on pocket-1, and the model is pocket-2: load pocket-1"):
                load(str(here), adapter=folder)


def spoil(folder, how):
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    if how == "absent":
        weights.unlink()
    elif how == "torn":
        weights.write_bytes(weights.read_bytes()[:100])
    elif how == "not json":
        (folder / "adapter_config.json").write_text("{")
    elif how == "zero":
        save_file({name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, weights)
    elif how == "other names":
        save_file({name.replace("language_model", "text_model"): tensor for name, tensor in tensors.items()}, weights)
    elif how == "one missing":
        save_file(dict(list(tensors.items())[1:]), weights)
    elif how == "other shapes":
        save_file({name: tensor[..., :-1].contiguous() for name, tensor in tensors.items()}, weights)
    elif how == "other modules":
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["no_such_linear"]}))


SPOILED = {
    "absent": "no PEFT adapter there",
    "torn": "not a readable PEFT adapter",
    "not json": "not a readable PEFT adapter",
    "zero": "changes nothing",
    "other names": "does not fit",
    "one missing": "does not fit",
    "other shapes": "does not fit",
    "other modules": "does not fit",
}


@pytest.mark.parametrize("how", SPOILED)
def test_an_adapter_that_does_not_fit_is_named_and_leaves_the_model_alone(tiny_folder, saved, how):
    folder, _ = saved
    spoil(folder, how)
    vlm = load(str(tiny_folder))
    before = logits(vlm.model)
    with pytest.raises(UserError, match=SPOILED[how]) as caught:
        load_adapter(vlm, folder)
    assert "\n" not in str(caught.value)
    assert torch.equal(logits(vlm.model), before)
    assert not any("lora_" in name for name, _ in vlm.model.named_parameters())


def test_saving_asks_nobody_and_leaves_only_whole_files(tiny_vlm, tmp_path, monkeypatch):
    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", lambda *_: pytest.fail("asked the hub"))
    tiny_vlm.model.config._name_or_path = "somebody/some-model"
    save_adapter(acting(tiny_vlm), tmp_path / "adapter")
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert not any(name.endswith(".tmp") for name in names)


# ------------------------------------------------------------------------------------------------------------ the cost


def test_flops_by_hand(tiny_vlm):
    # One layer: q 32·32, k and v 32·16 each, o 32·32, three of 32·48, two norms of 32.
    layer = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 48 + 2 * 32
    head = 32 * len(tiny_vlm.tokenizer)
    assert forward_flops(tiny_vlm, 10) == 2 * 4 * layer * 10
    assert forward_flops(tiny_vlm, 0, head_tokens=3) == 2 * head * 3
    towers = [tiny_vlm.model.model.vision_tower, tiny_vlm.model.model.multi_modal_projector]
    seeing = sum(parameter.numel() for tower in towers for parameter in tower.parameters())
    assert forward_flops(tiny_vlm, 0, images=5) == 2 * seeing * 4 * 5  # 4 patches in a picture
    assert backward_flops(tiny_vlm, 10) == 0


def test_backward_reaches_down_to_the_lowest_adapter(tiny_vlm):
    half = attach(tiny_vlm, LoraSettings(layers="upper half"), seed=0)
    assert backward_flops(half, 10) == 2 * 10 * sum(p.numel() for layer in half.layers[2:] for p in layer.parameters())


# -------------------------------------------------------------------------------------------- the pocket VLM's assembly


def test_pocket_configuration_and_processor_agree_about_images(tiny_vlm):
    from PIL import Image

    assert (
        tiny_vlm.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) == IMAGE_TOKEN_ID == tiny_vlm.base.config.image_token_id
    )
    text = tiny_vlm.render("Say hello.", image=True)
    inputs = tiny_vlm.processor(images=[Image.new("RGB", (50, 20))], text=[text], return_tensors="pt")
    assert int((inputs["input_ids"] == IMAGE_TOKEN_ID).sum()) == tiny_vlm.base.config.image_seq_length == 4
    with torch.no_grad():
        assert torch.isfinite(tiny_vlm.model(**inputs).logits).all()


def test_merged_lora_is_the_product_added(tiny_vlm):
    weight = tiny_vlm.model.model.language_model.layers[0].self_attn.q_proj.weight
    before = weight.clone()
    a, b = torch.randn(2, 32), torch.randn(32, 2)
    stem = "base_model.model.model.language_model.layers.0.self_attn.q_proj"
    merged = assemble.merge_lora(
        tiny_vlm.model, {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}, scale=0.5
    )  # fmt: skip
    assert merged == 1
    torch.testing.assert_close(weight, before + 0.5 * b @ a)


def test_saved_checkpoint_is_standard(tiny_vlm, tmp_path):
    wanted = logits(tiny_vlm.model)
    assemble.save(tiny_vlm.model, tiny_vlm.processor, tmp_path / "checkpoint")
    vlm = load(str(tmp_path / "checkpoint"))
    assert isinstance(vlm, VLM)
    assert (logits(vlm.model) - wanted).abs().max() < 0.05  # float16 on disk


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_four_bits_are_for_the_language_models_layers_alone(family, tmp_path, monkeypatch):
    """transformers' own choice would put the vision tower and the projector into 4 bits, too."""
    made = tiny.FAMILIES[family]()
    made.model.save_pretrained(tmp_path)
    asked = {}

    def caught(_source, **options):
        asked.update(options)
        raise OSError("far enough")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("unsay.models.loading.find_spec", lambda _name: True)
    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", caught)
    with pytest.raises(UserError, match="far enough"):
        load(str(tmp_path), device="cuda", settings=ModelSettings(quantisation="4-bit"))
    skipped = asked["quantization_config"].llm_int8_skip_modules
    linears = {name: module for name, module in made.model.named_modules() if type(module) is torch.nn.Linear}
    packed = {id(linears[name]) for name in linears if should_convert_module(name, skipped)}
    inside = {id(module) for layer in made.layers for module in layer.modules() if type(module) is torch.nn.Linear}
    assert packed == inside
    assert any("vision" in name for name in skipped)


def test_every_version_of_the_pocket_vlm_has_a_name_and_weights_of_its_own(monkeypatch, tmp_path):
    """`pocket` is the current version; an installation without an old one's weights says where they are."""
    made = []

    def derived(_name, key, _make):
        made.append(key)
        return tmp_path

    monkeypatch.setattr("unsay.assets.derived", derived)
    for name in pocket.NAMES:
        assert NAMED[name]() == tmp_path
    versions = dict(zip(pocket.VERSIONS, made[1:], strict=True))
    assert made[0] == versions[pocket.CURRENT]
    assert len(set(versions.values())) == len(versions)
    for version in pocket.VERSIONS:
        files = [assemble.packaged_weights(version) / name for name in assemble.WEIGHT_FILES]
        assert sum(path.stat().st_size for path in files) < 30e6
    with pytest.raises(UserError, match="pocket-0: its weights are not in this installation"):
        pocket.folder("pocket-0")
