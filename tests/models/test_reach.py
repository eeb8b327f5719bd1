"""What no text meets, in a layout that no tiny model of a family has: Gemma-3n's lists of plain linears."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Gemma3nForCausalLM, Gemma3nTextConfig

from unsay.models import VLM
from unsay.models.lora import SAVED, weights_outside_language


@pytest.fixture
def gemma3n():
    """Gemma-3n's language model, with a tower inside as Phi-4-multimodal's."""
    config = Gemma3nTextConfig(
        vocab_size=32, vocab_size_per_layer_input=32, hidden_size=8, intermediate_size=8, num_hidden_layers=4,
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, hidden_size_per_layer_input=4, laurel_rank=2,
        num_kv_shared_layers=0, activation_sparsity_pattern=[0.0] * 4, layer_types=["full_attention"] * 4,
    )  # fmt: skip
    with torch.device("meta"):
        model = Gemma3nForCausalLM(config)
        block = torch.nn.Sequential(torch.nn.Linear(8, 8))
        model.model.tower = torch.nn.Sequential(torch.nn.ModuleList([block]))
    return VLM("gemma3n", model, None, "none")


@pytest.mark.parametrize("adapted", [False, True])
def test_plain_linears_in_a_list_are_no_tower(gemma3n, adapted):
    inside = gemma3n.decoder.named_modules(prefix="model")
    linears = [name for name, module in inside if type(module) is torch.nn.Linear]
    assert any("altup_projections.0" in name for name in linears)
    if adapted:
        with torch.device("meta"):
            gemma3n.model = get_peft_model(gemma3n.model, LoraConfig(r=2, target_modules=linears))
    names = [f"{SAVED}{name}.lora_A.weight" for name in linears]
    assert weights_outside_language(gemma3n, names) == [f"{SAVED}model.tower.0.0.0.lora_A.weight"]
