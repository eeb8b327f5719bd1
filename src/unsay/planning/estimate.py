"""Memory, operations and time of a training step, from a configuration alone: no weights are loaded.

The model is built on the meta device, so its modules and shapes are the real ones. Memory is counted as autograd keeps
it for a Llama-like block with LoRA on frozen linears; `docs/scale.md` compares it with measurements.
"""

import re
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from unsay.config import RunConfig
from unsay.data.pictures import shares
from unsay.errors import UserError
from unsay.methods import build_method
from unsay.methods.base import Needs, Part
from unsay.models.loading import load_skeleton, stored_precision
from unsay.models.lora import language_linears
from unsay.models.precision import resolved
from unsay.models.sharding import check_shardable
from unsay.models.vlm import VLM
from unsay.records import Example, Modality, Role
from unsay.training import plan_training
from unsay.training.adversary import HARMFUL, attack_flops
from unsay.training.encode import Encoded, MixedBatch, collate
from unsay.training.flops import step_flops

GB = 10**9
GIB = 2**30

UTILISATION = 0.35
"""Share of the peak that training on short texts reaches on one card; an assumption, not a measurement."""

CONTEXT_BYTES = 700 * 2**20
"""Memory of CUDA and its libraries on a card before the first tensor."""

FOUR_BIT_BYTES = (4 + 0.127) / 8
"""NF4 with double quantisation: 4 bits per weight, and 0.127 of constants (QLoRA, arXiv 2305.14314, section 3)."""

HEAD_BUFFERS = 5
"""Buffers of chunk × vocabulary in float32 that are alive at the peak of the head's backward pass (KL included)."""


@dataclass(frozen=True)
class Gpu:
    """A model of graphics card, as its maker states it."""

    memory_bytes: int  # memory of one card
    half: float  # peak operations per second in bfloat16 and float16, on tensor cores, without sparsity
    single: float  # peak operations per second in float32, without TF32, which is PyTorch's default
    source: str  # where these numbers are stated

    def peak(self, dtype: torch.dtype) -> float:
        """Peak operations per second of matrix products in this precision."""
        return self.half if dtype.itemsize < torch.float32.itemsize else self.single


GPUS: dict[str, Gpu] = {
    "H200": Gpu(141 * GB, 989e12, 67e12, "NVIDIA H200 data sheet (SXM; half precision halved from that with sparsity)"),
    "H100": Gpu(80 * GIB, 989e12, 67e12, "NVIDIA H100 data sheet (SXM; half precision halved from that with sparsity)"),
    "A100-80": Gpu(80 * GIB, 312e12, 19.5e12, "NVIDIA A100 data sheet"),
    "A100-40": Gpu(40 * GIB, 312e12, 19.5e12, "NVIDIA A100 data sheet"),
    "L40S": Gpu(48 * GIB, 362e12, 91.6e12, "NVIDIA L40S data sheet"),
    "L4": Gpu(24 * GIB, 121e12, 30.3e12, "NVIDIA L4 data sheet (half precision halved from that with sparsity)"),
    "A10G": Gpu(24 * GIB, 70e12, 35e12, "NVIDIA A10G data sheet"),
    "RTX4090": Gpu(24 * GIB, 165e12, 82.6e12, "NVIDIA Ada GPU architecture white paper (float32 accumulation)"),
}


def parse_gpus(text: str) -> tuple[int, str]:
    """`8xH100` → (8, "H100"); a bare name is one card. A `UserError` if it is malformed or unknown."""
    match = re.fullmatch(r"(?:(\d{1,4})\s*x\s*)?(\S+)", text.strip(), flags=re.IGNORECASE)
    names = {name.lower(): name for name in GPUS}
    if match is None or match[2].lower() not in names or (match[1] is not None and int(match[1]) < 1):
        raise UserError(f"--gpus: '{text}' is not understood: write 1xH100 or 8xA100-80; known are {', '.join(GPUS)}")
    return int(match[1] or 1), names[match[2].lower()]


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, by part."""

    weights: int
    adapter: int
    gradients: int
    optimiser: int
    activations: int
    head: int
    reference: int
    context: int

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Plan:
    """What training takes."""

    parameters: int  # parameters of the whole model
    trained: int  # parameters of the adapter
    tokens: int  # tokens of one step on all devices, those of pictures and companions included
    flops: float  # operations of one step on all devices
    memory: Memory  # memory on one device
    precision: str  # precision of the layers' matrix products
    seconds: float | None  # time of one step; None without a GPU
    capacity: int | None  # memory of one device in bytes; None without a GPU
    steps: int  # steps of the run

    @property
    def fits(self) -> bool | None:
        """Whether it fits one device with a tenth to spare; None without a GPU."""
        return None if self.capacity is None else self.memory.total <= 0.9 * self.capacity


def plan(
    config: RunConfig,
    gpus: tuple[int, str] | None = None,
    *,
    prompt: int = 64,
    answer: int | None = None,
    image_tokens: int = 0,
    sharded: bool = False,
    vlm: VLM | None = None,
) -> Plan:
    """Estimate what training takes.

    Args:
        config: a run's settings.
        gpus: number and name of the cards; None plans for a CPU.
        prompt: tokens of a prompt in the chat format.
        answer: tokens of an answer; `train.max_answer_tokens` by default.
        image_tokens: tokens of a picture beside each prompt; 0 without training pictures.
        sharded: whether the layers are split over the cards.
        vlm: the `outline` of this model and adapter, if at hand.
    """
    count = 1 if gpus is None else gpus[0]
    answer = config.train.max_answer_tokens if answer is None else answer
    vlm = outline(config) if vlm is None else vlm
    training = plan_training(build_method(config.method, config.method_settings), config.train, processes=count)
    needs = training.needs
    split = sharded and count > 1
    if split:
        _check_shardable(config, vlm, image_tokens)
    turns = count * config.train.accumulate
    step, turn = (
        uniform_batch({part: number // by for part, number in training.rows.items()}, prompt + image_tokens, answer)
        for by in (1, turns)
    )
    flops = _step_flops(config, vlm, step, needs)
    stored = _stored_dtype(config, gpus is not None)
    memory = _memory(config, vlm, turn, needs, stored.itemsize)
    if gpus is not None:
        memory = replace(memory, context=CONTEXT_BYTES)
    if split:
        memory = replace(memory, weights=memory.weights - _sharded_away(vlm, count, stored.itemsize))
    computed = _compute_dtype(config, stored)
    card = None if gpus is None else GPUS[gpus[1]]
    trained = sum(p.numel() for p in vlm.model.parameters() if p.requires_grad)
    return Plan(
        parameters=sum(p.numel() for p in vlm.base.parameters()) - trained,
        trained=trained,
        tokens=step.tokens,
        flops=flops,
        memory=memory,
        precision=str(computed).removeprefix("torch."),
        seconds=None if card is None else flops / (card.peak(computed) * UTILISATION * count),
        capacity=None if card is None else card.memory_bytes,
        steps=config.train.steps,
    )


def _step_flops(config: RunConfig, vlm: VLM, step: MixedBatch, needs: Needs) -> float:
    """Operations of one step on all devices, an adversary's and those of a sharpness-aware step included."""
    flops = step_flops(vlm, step, needs, recompute=config.train.recompute)
    harmful = step.rows_of(HARMFUL)
    if config.train.adversarial is not None and any(harmful):
        flops += attack_flops(vlm, step.subset(harmful), config.train.adversarial.steps)
    return 2 * flops if config.train.sharpness else flops


def _stored_dtype(config: RunConfig, on_gpu: bool) -> torch.dtype:
    """Precision of the frozen weights, with `auto` and `fastest` resolved.

    `fastest` is measured on this machine only when planning for it; every card in the table is fastest in bfloat16.
    """
    settings = config.model_settings
    if settings.dtype == "auto":
        name = stored_precision(config.model)
        if name == "auto":  # not known before the weights are here: assume the widest
            name = "float32"
    elif settings.dtype == "fastest" and on_gpu:
        name = "bfloat16"
    else:
        name = resolved(settings, "cpu").dtype
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _compute_dtype(config: RunConfig, stored: torch.dtype) -> torch.dtype:
    """Precision of the matrix products; linears in 4 bits are unpacked to half precision."""
    return torch.bfloat16 if config.model_settings.quantisation and stored is torch.float32 else stored


def _check_shardable(config: RunConfig, vlm: VLM, image_tokens: int) -> None:
    """Refuse what training would refuse to split, in the same words."""
    data = config.data
    modalities = {
        *shares(data.modality),
        *shares(data.modality if data.retain_modality is None else data.retain_modality),
    }
    pictured = image_tokens > 0 or modalities != {Modality.TEXT}
    # There are neither weights nor examples: the outline stands for the model, one row for the data.
    vlm.base.is_quantized = config.model_settings.quantisation is not None
    picture = Example(id="any", role=Role.RETAIN, prompt="any", answer="any", source="any", image="any.png")
    check_shardable(vlm, [picture] if pictured else [])


def outline(config: RunConfig) -> VLM:
    """The model with its adapter on the meta device: modules and shapes, no weights."""
    vlm, lora = load_skeleton(config.model), config.train.lora
    with torch.device("meta"):
        targets = language_linears(vlm, lora)
        vlm.model = get_peft_model(vlm.model, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets))
    return vlm


def uniform_batch(rows: dict[Part, int], prompt: int, answer: int) -> MixedBatch:
    """A batch of so many rows per part, all of one length."""
    one = {part: Encoded("", part, (0,) * prompt, (0,) * answer) for part in rows}
    return collate([one[part] for part, number in rows.items() for _ in range(number)])


def _memory(config: RunConfig, vlm: VLM, batch: MixedBatch, needs: Needs, width: int) -> Memory:
    """Memory of one device and turn, libraries excluded; `width` is the bytes of a frozen weight."""
    layers = {id(p) for layer in vlm.text_layers for p in layer.parameters() if p.ndim == 2 and not p.requires_grad}
    packed = FOUR_BIT_BYTES if config.model_settings.quantisation else width
    weights = sum(
        p.numel() * (packed if id(p) in layers else width) for p in vlm.base.parameters() if not p.requires_grad
    )
    trained = sum(p.numel() for p in vlm.model.parameters() if p.requires_grad)
    text = vlm.base.config.get_text_config()
    longest = max(len(batch.scored_in(frozenset({part}))) for part in needs.parts)  # each passes the head on its own
    head = HEAD_BUFFERS * min(config.train.head_chunk, longest) * text.vocab_size * 4
    blocks = [_block_bytes(layer, text, width) for layer in _trained_layers(vlm)]
    # Recomputed block by block: the input of each block is kept, and everything of the one at work.
    kept = len(blocks) * text.hidden_size * width + max(blocks, default=0) if config.train.recompute else sum(blocks)
    hidden = len(batch.targets) * text.hidden_size
    adapted = [module for module in vlm.model.modules() if hasattr(module, "lora_A")]
    edited = 0 if needs.edit is None else sum(4 * module.in_features * module.out_features for module in adapted)
    return Memory(
        weights=int(weights),
        adapter=4 * trained * (2 if config.train.sharpness else 1),  # where it was, and where the loss is highest
        gradients=4 * trained + edited,
        optimiser=(2 if config.train.optimizer == "adamw-8bit" else 8) * trained,
        activations=int(batch.tokens * kept),
        head=int(head),
        reference=int(hidden * width) if needs.original else 0,
        context=0,
    )


def _sharded_away(vlm: VLM, count: int, width: int) -> int:
    """Bytes of layer weights that a card does not hold; two layers are whole, the one at work and the next."""
    layers = [width * sum(p.numel() for p in layer.parameters() if not p.requires_grad) for layer in vlm.layers]
    return max(0, sum(layers) - sum(layers) // count - 2 * max(layers))


def _trained_layers(vlm: VLM) -> list[Any]:
    """The layers that the backward pass reaches: the lowest adapted one and all above it."""
    layers = vlm.text_layers
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    return layers[trained.index(True) :] if True in trained else []


def _block_bytes(layer: Any, text: Any, width: int) -> float:
    """Bytes per token that autograd keeps of one block.

    In the model's precision: inputs and outputs of both norms; queries, keys and values (repeated to all heads) and the
    output of attention; gate, activation, up and their product. LoRA keeps its inner states in float32, and below
    float32 also a float32 copy of each input, as a norm does.
    """
    hidden, heads = text.hidden_size, text.num_attention_heads
    wide = heads * (getattr(text, "head_dim", None) or hidden // heads)
    inner = text.intermediate_size
    plain = 4 * hidden + 4 * wide + 4 * inner
    adapted = [module for module in layer.modules() if hasattr(module, "lora_A")]
    ranks = sum(module.r["default"] for module in adapted)
    copies = sum(module.in_features for module in adapted) + 2 * hidden if width < 4 else 0
    kept: float = width * plain + 4 * (ranks + copies)
    return kept
