"""Decoding of one batch, greedy or sampled, that pays for no shared prefix and no finished row.

Every row begins with the same system prompt: its keys and values are computed once and shared. Rows that have ended
leave the batch. Keys and values stand in one buffer of the final length: transformers' growing cache copies everything
it holds for every new token, which for a batch of pictures is hundreds of megabytes a token, on a CPU a third of the
time. The arithmetic is that of one row at a time (tests compare them); only the order of sums in a matrix product may
differ.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from unsay.generation.openings import Masses, Openings, library_log_odds
from unsay.generation.prompts import EncodedPrompt, feature_store, placed_inputs, shared_prefix
from unsay.models.failures import out_of_memory
from unsay.models.vlm import VLM

LEAVE = 0.25
"""Part of a batch that must be done before the others move together: moving copies their keys and values."""

LOOK_EVERY = 8
"""Tokens between two checks for finished rows on an accelerator: each check waits for it. On a CPU checking is free."""

HARMLESS = frozenset({"bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "temperature", "top_p", "top_k",
                      "max_length", "max_new_tokens", "use_cache", "transformers_version", "_from_model_config",
                      "typical_p", "min_p", "output_attentions", "output_hidden_states", "return_dict_in_generate",
                      "cache_implementation", "decoder_start_token_id", "num_return_sequences",
                      "output_scores"})  # fmt: skip
"""Settings of a checkpoint's generation configuration that do not change a greedy answer."""


@dataclass
class _State:
    """A batch of B rows between two tokens.

    Attributes:
        cache: keys and values.
        mask: [B, room], 1 where a position may be attended to.
        width: positions filled so far.
        position: [B], position id of the next token.
        logits: [B, V], of the next token.
    """

    cache: DynamicCache
    mask: Tensor
    width: int
    position: Tensor
    logits: Tensor


@torch.inference_mode()
def greedy(
    vlm: VLM, rows: Sequence[EncodedPrompt], max_new_tokens: int, openings: Openings
) -> tuple[list[list[int]], list[float | None]]:
    """Token ids of each row's answer, its end token included, and the log-odds of a refusal before it."""
    state = _prefill(vlm, rows, max(max_new_tokens, len(openings.nodes)))
    log_odds = _log_odds(vlm, state, openings) if _takes_masks(vlm) else library_log_odds(vlm, rows, openings)
    return _decode(vlm, state, max_new_tokens, lambda logits: logits.argmax(dim=-1)), log_odds


@torch.inference_mode()
def sample(
    vlm: VLM, row: EncodedPrompt, answers: int, max_new_tokens: int, temperature: float, seed: int
) -> list[list[int]]:
    """Token ids of several answers to one prompt, sampled apart, which is read once for all of them."""
    generator = torch.Generator(vlm.device).manual_seed(seed)

    def draw(logits: Tensor) -> Tensor:
        chances = (logits.float() / temperature).softmax(dim=-1)
        return chances.multinomial(1, generator=generator)[:, 0]

    return _decode(vlm, _prefill(vlm, [row] * answers, max_new_tokens), max_new_tokens, draw)


def _decode(vlm: VLM, state: _State, max_new_tokens: int, choose: Callable[[Tensor], Tensor]) -> list[list[int]]:
    """Token ids of each row's answer; `choose` takes the next tokens [B] from logits [B, V]."""
    answers: list[list[int]] = [[] for _ in state.logits]
    alive, pending = list(range(len(answers))), list[Tensor]()
    look = 1 if vlm.device.type == "cpu" else LOOK_EVERY
    for count in range(1, max_new_tokens + 1):
        pending.append(choose(state.logits))
        if count % look == 0 or count == max_new_tokens:
            done = _append(answers, alive, torch.stack(pending, dim=1).tolist(), vlm.end_tokens)
            last, pending = pending[-1], []
            if len(done) == len(alive) or count == max_new_tokens:
                break
            if len(done) >= LEAVE * len(alive):
                stay = [slot for slot in range(len(alive)) if slot not in done]
                alive = [alive[slot] for slot in stay]
                last = _shrink(state, last, torch.tensor(stay, device=vlm.device))
            _step(vlm, state, last)
        else:
            _step(vlm, state, pending[-1])
    return answers


@torch.inference_mode()
def greedy_tokens(vlm: VLM, row: EncodedPrompt, max_new_tokens: int) -> Iterator[int]:
    """The same answer of one row, token by token as it is decoded; its end token is the last."""
    state = _prefill(vlm, [row], max_new_tokens)
    for count in range(1, max_new_tokens + 1):
        tokens = state.logits.argmax(dim=-1)
        token = int(tokens[0])
        yield token
        if token in vlm.end_tokens or count == max_new_tokens:
            return
        _step(vlm, state, tokens)


_EXACT: "WeakKeyDictionary[Any, dict[bool, bool]]" = WeakKeyDictionary()


def greedy_is_exact(vlm: VLM, rows: Sequence[EncodedPrompt]) -> bool:
    """Whether `greedy` gives this model's own answers to such prompts; tried once per model, for text and for pictures.

    No list of families decides: the model must keep plain keys and values in every layer, its pictures must reach the
    decoder as input embeddings, its checkpoint must want no more than the likeliest token, and the logits of the first
    batch must be those of the whole model. All others go through transformers' `generate`. So does a batch whose trial
    runs out of memory; that says nothing about the model, and the next batch is tried again.
    """
    tried = _EXACT.setdefault(vlm.base, {})
    pictured = rows[0].image is not None
    if pictured not in tried:
        unusual = vlm.base.generation_config.to_diff_dict().keys() - HARMLESS
        exact = not unusual and not vlm.spread and plain_cache(vlm.decoder.config) and _agrees(vlm, rows)
        if exact is None:
            return False
        tried[pictured] = exact
    return tried[pictured]


def plain_cache(config: object) -> bool:
    """Whether every layer of a text model keeps plain keys and values: no sliding windows, no states."""
    layers = DynamicCache(config=config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _append(answers: list[list[int]], alive: list[int], tokens: list[list[int]], ends: frozenset[int]) -> set[int]:
    """Add each slot's new tokens to its answer until that ends; returns the slots whose answer has ended."""
    done = set()
    for slot, row in enumerate(tokens):
        answer = answers[alive[slot]]
        for token in row:
            if answer and answer[-1] in ends:
                break
            answer.append(token)
        if answer[-1] in ends:
            done.add(slot)
    return done


def _prefill(vlm: VLM, rows: Sequence[EncodedPrompt], more: int) -> _State:
    """Read the prompts, what they have in common once."""
    placeholder = getattr(vlm.base.config, "image_token_id", None) if rows[0].image is not None else None
    features = feature_store(vlm).of(vlm, rows) if rows[0].image is not None else {}
    prefix = shared_prefix(rows, placeholder)
    width = max(len(row.ids) for row in rows) - prefix
    room = prefix + width + more
    mask = torch.zeros(len(rows), room, dtype=torch.long)
    mask[:, :prefix] = 1
    ids = torch.zeros(len(rows), prefix + width, dtype=torch.long)  # padding is masked, so any token will do
    for place, row in enumerate(rows):
        start = prefix + width - (len(row.ids) - prefix)
        ids[place, :prefix] = torch.tensor(row.ids[:prefix])
        ids[place, start:] = torch.tensor(row.ids[prefix:])
        mask[place, start : prefix + width] = 1
    ids, mask = ids.to(vlm.device), mask.to(vlm.device)
    embedded = vlm.base.get_input_embeddings()(ids)
    for place, row in enumerate(rows):
        if row.image is not None:
            # Padding may hold the placeholder's id: features go to the row's own tokens alone.
            embedded[place, (ids[place] == placeholder) & (mask[place, : prefix + width] == 1)] = features[row.image]
    positions = (mask[:, : prefix + width].cumsum(dim=1) - 1).clamp_min(0)

    cache = DynamicCache()
    cache.layers = [RoomyLayer(room) for _ in vlm.layers]
    if prefix:
        begun = vlm.decoder(inputs_embeds=embedded[:1, :prefix], position_ids=positions[:1, :prefix], use_cache=True)
        for layer, shared in zip(cache.layers, begun.past_key_values.layers, strict=True):
            layer.begin(len(rows), shared.keys, shared.values)
    hidden = vlm.decoder(
        inputs_embeds=embedded[:, prefix:],
        attention_mask=mask[:, : prefix + width],
        position_ids=positions[:, prefix:],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    mask[:, prefix + width :] = 1
    return _State(cache, mask, prefix + width, positions[:, -1] + 1, vlm.lm_head(hidden[:, -1]))


def _step(vlm: VLM, state: _State, tokens: Tensor) -> None:
    """Read one more token per row."""
    state.width += 1
    mask = state.mask[:, : state.width]
    if vlm.device.type == "cpu":
        # Given a four-dimensional mask, attention stacks query heads that share keys. Without one (transformers drops a
        # plain mask that hides nothing), torch takes a kernel that is five times slower for one token.
        mask = mask[:, None, None].bool()
    hidden = vlm.decoder(
        input_ids=tokens[:, None],
        attention_mask=mask,
        position_ids=state.position[:, None],
        past_key_values=state.cache,
        use_cache=True,
    ).last_hidden_state
    state.position = state.position + 1
    state.logits = vlm.lm_head(hidden[:, -1])


def _takes_masks(vlm: VLM) -> bool:
    """Whether attention takes any mask, so that one pass can read several ways to go on."""
    return getattr(vlm.base.config.get_text_config(), "_attn_implementation", None) in ("sdpa", "eager")


def _dtype(vlm: VLM) -> torch.dtype:
    """Of the activations; weights may be quantised."""
    return next(parameter.dtype for parameter in vlm.decoder.parameters() if parameter.is_floating_point())


def _log_odds(vlm: VLM, state: _State, openings: Openings) -> list[float | None]:
    """The log-odds of a refusal for each row after the prompt.

    One pass reads all beginnings of openings, each of which sees the prompt and what it goes on from. Their keys and
    values are dropped; the answer overwrites them.
    """
    nodes = openings.nodes[1:]
    masses: list[Masses] = [openings.masses(0, state.logits)]
    if nodes:
        seen = torch.tensor([[node[: len(other)] == other for other in nodes] for node in nodes], device=vlm.device)
        rows = len(state.logits)
        prompt = state.mask[:, None, : state.width].bool().expand(rows, len(nodes), state.width)
        visible = torch.cat([prompt, seen.expand(rows, -1, -1)], dim=2)[:, None]
        mask = torch.zeros(visible.shape, dtype=_dtype(vlm), device=vlm.device)
        depth = torch.tensor([len(node) for node in nodes], device=vlm.device)
        hidden = vlm.decoder(
            input_ids=torch.tensor([node[-1] for node in nodes], device=vlm.device).expand(rows, -1),
            attention_mask=mask.masked_fill_(~visible, torch.finfo(mask.dtype).min),
            position_ids=state.position[:, None] + depth - 1,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state
        for layer in state.cache.layers:
            layer.rewind(state.width)
        masses += [openings.masses(place, vlm.lm_head(hidden[:, place - 1])) for place in range(1, len(nodes) + 1)]
    return openings.log_odds(masses)


def _shrink(state: _State, tokens: Tensor, rows: Tensor) -> Tensor:
    """Drop all other rows; returns the `tokens` of these."""
    for layer in state.cache.layers:
        layer.keep(rows)
    state.mask, state.position = state.mask[rows], state.position[rows]
    return tokens[rows]


@torch.inference_mode()
def _agrees(vlm: VLM, rows: Sequence[EncodedPrompt]) -> bool | None:
    """Whether prompts of two lengths get the whole model's logits, and for text also the next token's.

    None where memory runs out before that is known.
    """
    pair = [rows[0], rows[-1]] if len(rows) > 1 else [rows[0]]
    try:
        openings = Openings.of(vlm)
        state = _prefill(vlm, pair, more=len(openings.nodes) + 2)
        inputs = [placed_inputs(vlm, [row]) for row in pair]
        if not _close(state.logits, torch.cat([_whole(vlm, one) for one in inputs])):
            return False
        if pair[0].image is not None:
            return True
        if _takes_masks(vlm) and not _close_odds(
            vlm, _log_odds(vlm, state, openings), library_log_odds(vlm, pair, openings)
        ):
            return False
        tokens = state.logits.argmax(dim=-1)
        _step(vlm, state, tokens)
        longer = [
            {"input_ids": torch.cat([one["input_ids"], token.view(1, 1)], dim=1)}
            for one, token in zip(inputs, tokens, strict=True)
        ]
        return _close(state.logits, torch.cat([_whole(vlm, one) for one in longer]))
    except (AttributeError, KeyError, IndexError, MemoryError, TypeError, ValueError, RuntimeError) as error:
        return None if out_of_memory(error) else False


def _whole(vlm: VLM, inputs: Mapping[str, Tensor]) -> Tensor:
    """The whole model's logits of the next token, [1, V]."""
    logits: Tensor = vlm.base(**inputs, use_cache=False).logits[:, -1]
    return logits


def _close(one: Tensor, other: Tensor) -> bool:
    tolerance = 1e-4 if one.dtype == torch.float32 else 3e-2
    return bool((one.float() - other.float()).abs().max() <= tolerance * other.float().abs().max())


def _close_odds(vlm: VLM, ours: Sequence[float | None], theirs: Sequence[float | None]) -> bool:
    tolerance = 1e-3 if _dtype(vlm) == torch.float32 else 0.3
    pairs = zip(ours, theirs, strict=True)
    return all(a is not None and b is not None and abs(a - b) <= tolerance for a, b in pairs)


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, [B, heads, room, D], of which the first `length` positions are filled."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.length = room, 0
        self.buffers: tuple[Tensor, ...] = ()

    def begin(self, rows: int, keys: Tensor, values: Tensor) -> None:
        """Give `rows` rows the keys and values, [1, heads, P, D], of a prefix that all of them share."""
        self.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1))

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the buffers, in the dtype and on the device of the first keys and values."""
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        self.buffers = tuple(
            part.new_empty(*part.shape[:2], self.room, part.shape[-1]) for part in (key_states, value_states)
        )

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write new positions after the old ones; returns views of all filled ones."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        for buffer, part in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.length : end] = part
        self.length = end
        self._show()
        return self.keys, self.values

    def rewind(self, length: int) -> None:
        """Forget all positions from `length` on."""
        self.length = length
        self._show()

    def keep(self, rows: Tensor) -> None:
        """Drop every row but these, and their memory."""
        kept = []
        for buffer in self.buffers:
            smaller = buffer.new_empty(len(rows), *buffer.shape[1:])
            smaller[:, :, : self.length] = buffer[rows, :, : self.length]
            kept.append(smaller)
        self.buffers = tuple(kept)
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self.buffers)
