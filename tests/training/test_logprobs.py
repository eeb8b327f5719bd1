"""Log-probabilities and KL against the plainest computation there is: one example at a time, all logits, no padding."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import tiny
from unsay.methods import Needs, build_method
from unsay.methods.base import RoleBatch
from unsay.models import LoraSettings, attach, detach
from unsay.models.packing import MIN_PREFIX, length_groups, packs
from unsay.records import Role
from unsay.training.encode import Encoded, collate, encode, shared_prefix
from unsay.training.head import head_pass, role_views

EVERYTHING = Needs(roles=frozenset(Role), reference=frozenset(Role), kl=frozenset(Role))
LAYERS = ["all", "upper half"]


def trained_looking(vlm, layers="all"):
    """An adapter that does something: B is no longer zero."""
    adapted = attach(vlm, LoraSettings(rank=4, layers=layers), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return adapted


def encoded_examples(vlm, per_role=3):
    return [encode(vlm, e, max_prompt_tokens=256, max_answer_tokens=20) for e in tiny.examples(per_role)]


def naive(vlm, rows):
    """Per example, through the whole model: log-probabilities of its answer's tokens, and whole distributions there."""
    out = []
    for row in rows:
        ids = torch.tensor([[*row.prompt_ids, *row.answer_ids]])
        logits = vlm.base(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        log_p = torch.log_softmax(logits, dim=-1)[len(row.prompt_ids) - 1 : -1]
        out.append((log_p[torch.arange(len(row.answer_ids)), torch.tensor(row.answer_ids)], log_p))
    return out


def naive_both(vlm, rows):
    current = naive(vlm, rows)
    with torch.no_grad(), vlm.model.disable_adapter():
        original = naive(vlm, rows)
    kl = [(q.exp() * (q - p)).sum(-1) for (_, p), (_, q) in zip(current, original, strict=True)]
    return [c[0] for c in current], [o[0] for o in original], kl


def by_example(views, name):
    """The real values of every example, in the batch's order of roles."""
    out = []
    for role in Role:
        view = views[role]
        out += [row[mask] for row, mask in zip(getattr(view, name), view.mask, strict=True)]
    return out


WAYS = pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])


@WAYS
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("head_chunk", [1, 7, 512])
def test_views_equal_the_naive_computation(any_vlm, head_chunk, layers, packed):
    vlm = trained_looking(any_vlm, layers)
    assert packs(vlm)
    vlm.packs = packed
    rows = encoded_examples(vlm)
    views = role_views(vlm, collate(rows), EVERYTHING, head_chunk)
    for name, expected in zip(("policy", "reference", "kl"), naive_both(vlm, rows), strict=True):
        for got, wanted in zip(by_example(views, name), expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert max(float(kl.max().detach()) for kl in by_example(views, "kl")) > 0.01  # or the comparison says little


@WAYS
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("head_chunk", [7, 512])
def test_gradients_equal_the_naive_computation(tiny_vlm, head_chunk, layers, packed):
    vlm = trained_looking(tiny_vlm, layers)
    vlm.packs = packed
    rows = encoded_examples(vlm)
    parameters = [p for p in vlm.model.parameters() if p.requires_grad]

    def objective(policy, kl):
        return sum(p.mean() for p in policy[:6]) - sum(p.sum() for p in policy[6:]) + 2 * sum(k.mean() for k in kl)

    views = role_views(vlm, collate(rows), EVERYTHING, head_chunk)
    got = torch.autograd.grad(objective(by_example(views, "policy"), by_example(views, "kl")), parameters)
    policy, _, kl = naive_both(vlm, rows)
    wanted = torch.autograd.grad(objective(policy, kl), parameters)
    for one, other in zip(got, wanted, strict=True):
        # As a whole: where an entry is nearly nothing, it is what rounding of numbers up to 40 left of their sum.
        assert float((one - other).norm()) <= 2e-6 * float(other.norm())
    assert max(float(g.abs().max()) for g in wanted) > 0.01


@pytest.mark.parametrize("layers", LAYERS)
def test_reference_is_the_original_model(tiny_vlm, layers):
    """A second copy of the model is a bug that others shipped; an adapter switched off must be as good as one."""
    rows = encoded_examples(tiny_vlm)
    with torch.no_grad():
        wanted = [values for values, _ in naive(tiny_vlm, rows)]
    vlm = trained_looking(tiny_vlm, layers)
    views = role_views(vlm, collate(rows), EVERYTHING, 64)
    for got, expected in zip(by_example(views, "reference"), wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        assert not got.requires_grad


def test_a_fresh_adapter_has_no_kl(any_vlm):
    vlm = attach(any_vlm, LoraSettings(), seed=0)
    views = role_views(vlm, collate(encoded_examples(vlm)), EVERYTHING, 64)
    assert max(float(kl.detach().abs().max()) for kl in by_example(views, "kl")) < 1e-6


def test_padding_does_not_change_the_numbers(tiny_vlm):
    vlm = trained_looking(tiny_vlm)
    rows = encoded_examples(vlm)
    alone = [
        role_views(vlm, collate([row]), Needs(roles=frozenset({row.role})), 64)[row.role].policy[0] for row in rows
    ]
    together = by_example(role_views(vlm, collate(rows), EVERYTHING, 64), "policy")
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_what_stands_in_the_padding_is_of_no_account(tiny_vlm):
    """A hard-coded padding id is a bug that others shipped."""
    vlm = trained_looking(tiny_vlm)
    batch = collate(encoded_examples(vlm))
    before = role_views(vlm, batch, EVERYTHING, 64)
    batch.input_ids[batch.attention_mask == 0] = 77
    after = role_views(vlm, batch, EVERYTHING, 64)
    for role in Role:
        assert torch.equal(before[role].policy, after[role].policy)
        assert torch.equal(before[role].kl, after[role].kl)


def test_tokenizer_padding_side_does_not_matter(tiny_vlm):
    vlm = trained_looking(tiny_vlm)
    results = []
    for side in ("left", "right"):
        vlm.tokenizer.padding_side = side
        results.append(by_example(role_views(vlm, collate(encoded_examples(vlm)), EVERYTHING, 64), "policy"))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_only_what_was_asked_for_is_there(tiny_vlm):
    vlm = trained_looking(tiny_vlm)
    needs = Needs(
        roles=frozenset({Role.REFUSE, Role.RETAIN}), reference=frozenset({Role.REFUSE}), kl=frozenset({Role.RETAIN})
    )
    views = role_views(vlm, collate(encoded_examples(vlm)), needs, 64)
    assert list(views) == [Role.REFUSE, Role.RETAIN]
    assert views[Role.REFUSE].reference is not None
    assert views[Role.REFUSE].kl is None
    assert views[Role.RETAIN].reference is None
    assert views[Role.RETAIN].kl is not None


def test_the_original_is_not_run_where_nobody_asks_for_it(tiny_vlm, monkeypatch):
    vlm = trained_looking(tiny_vlm)
    monkeypatch.setattr(vlm.model, "disable_adapter", lambda: pytest.fail("the adapter was switched off"))
    role_views(vlm, collate(encoded_examples(vlm)), Needs(roles=frozenset(Role)), 64)


@pytest.mark.parametrize("head_chunk", [1, 5, 64])
def test_the_head_never_sees_more_than_a_chunk(tiny_vlm, head_chunk):
    vlm = trained_looking(tiny_vlm)
    seen = []
    vlm.lm_head.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].shape[:-1].numel()))
    batch = collate(encoded_examples(vlm))
    views = role_views(vlm, batch, EVERYTHING, head_chunk)
    sum(value.sum() for name in ("policy", "kl") for value in by_example(views, name)).backward()
    assert max(seen) <= head_chunk
    # Scored positions alone pass: current and original, and both again in the backward pass.
    assert sum(seen) == 4 * len(batch.targets)


def test_logits_are_not_kept_for_the_backward_pass():
    """Memory: between forward and backward nothing as large as positions × vocabulary is alive in the graph."""
    vocabulary, positions = 1000, 64
    weight = torch.randn(vocabulary, 8)
    hidden = torch.randn(positions, 8, requires_grad=True)
    kept = []

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        head_pass(lambda h: h @ weight.T, hidden, torch.zeros(positions, dtype=torch.long), hidden.detach(), True, 16)
    assert max(kept, default=0) <= weight.numel()
    assert sum(kept) < positions * vocabulary


@WAYS
@pytest.mark.parametrize("layers", LAYERS)
def test_layers_below_the_adapter_run_once(tiny_vlm, layers, packed):
    vlm = trained_looking(tiny_vlm, layers)
    vlm.packs = packed
    runs = [0] * len(vlm.layers)

    def count(index):
        def hook(_module, _inputs, _output):
            runs[index] += 1

        return hook

    for index, layer in enumerate(vlm.layers):
        layer.self_attn.register_forward_hook(count(index))
    role_views(vlm, collate(encoded_examples(vlm)), EVERYTHING, 64)
    lowest, highest = runs[0], runs[-1]
    assert vlm.shared_layers == {"all": 0, "upper half": 2}[layers]
    assert runs == [lowest] * vlm.shared_layers + [highest] * (4 - vlm.shared_layers)
    assert lowest < highest or layers == "all"


def test_packing_leaves_attention_as_it_was(tiny_vlm):
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = ALL_ATTENTION_FUNCTIONS["sdpa"]
    assert packs(tiny_vlm)
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is before


@pytest.mark.parametrize("told", [{"sliding_window": 4}, {"softcap": 30.0}, {"is_causal": False}, {"dropout": 0.1}])
def test_a_family_whose_attention_is_told_more_is_not_packed(tiny_vlm, monkeypatch, told):
    attention = type(tiny_vlm.layers[0].self_attn)
    plain = attention.forward
    monkeypatch.setattr(attention, "forward", lambda self, *args, **more: plain(self, *args, **more, **told))
    assert not packs(tiny_vlm)


def test_a_family_that_mixes_neighbours_outside_attention_is_not_packed(tiny_vlm):
    """A convolution, say: rows beside each other would run into each other."""
    tiny_vlm.layers[1].mlp.register_forward_hook(lambda _m, _i, out: out + out.roll(1, dims=1))
    assert not packs(tiny_vlm)


def test_a_model_with_other_attention_is_not_packed(tiny_vlm):
    tiny_vlm.base.set_attn_implementation("eager")
    assert not packs(tiny_vlm)


def test_nothing_of_the_sharing_stays_behind(tiny_vlm):
    rows = encoded_examples(tiny_vlm)
    with torch.no_grad():
        before = naive(tiny_vlm, rows)
    vlm = trained_looking(tiny_vlm, "upper half")
    role_views(vlm, collate(rows), EVERYTHING, 64)
    assert not any("forward" in vars(layer) or layer._forward_hooks for layer in vlm.layers)
    with torch.no_grad():
        after = naive(detach(vlm), rows)
    assert all(torch.equal(one[1], other[1]) for one, other in zip(before, after, strict=True))


def test_sharing_is_given_up_where_layers_do_not_take_it(tiny_vlm):
    """A family whose layers hand on more than hidden states trains as before, only slower."""
    layer = tiny_vlm.layers[1]
    layer.register_forward_pre_hook(lambda _module, inputs: None)
    layer.forward = layer.forward  # somebody else, such as accelerate, has taken over this layer's forward
    vlm = attach(tiny_vlm, LoraSettings(layers="upper half"), seed=0)
    assert vlm.shared_layers == 0


def prefix_of(*rows):
    return shared_prefix([Encoded(str(number), Role.RETAIN, *row) for number, row in enumerate(rows)])


def test_common_prefix_by_hand(monkeypatch):
    long = tuple(range(MIN_PREFIX))
    assert prefix_of(((*long, 1), (9,)), ((*long, 2), (9,))) == MIN_PREFIX
    assert prefix_of(((*long[1:], 1), (9,)), ((*long[1:], 2), (9,))) == 0  # too short to be worth anything
    monkeypatch.setattr("unsay.models.packing.MIN_PREFIX", 1)
    assert prefix_of(((1, 2, 3, 4), (9,)), ((1, 2, 5, 6, 7), (9,))) == 2
    assert prefix_of(((8, 2, 3), (9,)), ((1, 2, 3), (9,))) == 0
    # The last prompt token predicts the answer's first: it must go through with its row even where all rows agree.
    assert prefix_of(((1, 2, 3), (9,)), ((1, 2, 3), (8,))) == 2
    assert prefix_of(((1,), (9,)), ((1, 2, 3), (8,))) == 0


def test_length_groups_by_hand():
    # 100 + 95 + 90 in rows of 100 waste 5 %; with 40 it would be 75 of 400, more than 15 %.
    assert length_groups([40, 100, 90, 95, 38]) == [[1, 3, 2], [0, 4]]
    assert length_groups([7]) == [[0]]


def positions_through(vlm, rows):
    """Positions that pass the lowest layer in one forward."""
    seen = []
    handle = vlm.layers[0].mlp.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].shape[:-1].numel()))
    role_views(vlm, collate(rows), Needs(roles=frozenset(Role)), 64)
    handle.remove()
    return sum(seen)


def test_the_common_prefix_passes_once_and_padding_is_bounded(tiny_vlm):
    rows = encoded_examples(tiny_vlm)
    prefix = shared_prefix(rows)
    assert prefix >= MIN_PREFIX
    real = sum(row.length - 1 - prefix for row in rows)  # from the last token of a row nothing is predicted
    tiny_vlm.packs = True
    assert positions_through(tiny_vlm, rows) == prefix + real
    tiny_vlm.packs = False
    assert prefix + real < positions_through(tiny_vlm, rows) <= prefix + real / 0.85
    assert positions_through(tiny_vlm, rows) < 0.8 * sum(row.length for row in rows)


@pytest.mark.parametrize("layers", LAYERS)
def test_a_model_with_another_kind_of_cache_is_read_whole(tiny_vlm, monkeypatch, layers):
    """Sliding windows and the like keep no plain keys and values: then the prefix is not shared."""
    vlm = trained_looking(tiny_vlm, layers)
    vlm.packs = False
    rows = encoded_examples(vlm)
    shared = role_views(vlm, collate(rows), EVERYTHING, 64)
    monkeypatch.setattr("unsay.training.forward.DynamicLayer", type("Other", (), {}))
    whole = role_views(vlm, collate(rows), EVERYTHING, 64)
    for name in ("policy", "reference", "kl"):
        for one, other in zip(by_example(shared, name), by_example(whole, name), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


class Waits(TorchDispatchMode):
    """Counts what would make a program wait for an accelerator: values read back, and sizes that hang on values."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        booleans = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype is torch.bool for index in args[1]
        )
        if booleans or name in ("_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "is_nonzero"):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_waits_are_seen():
    with Waits() as waits:
        values = torch.arange(3)
        float(values.sum())
        values[values > 1].sum()
        values.nonzero()
    assert waits.found == ["_local_scalar_dense", "index", "nonzero"]


@pytest.mark.parametrize("layers", LAYERS)
def test_between_batch_and_loss_nothing_waits_for_the_device(tiny_vlm, layers):
    vlm = trained_looking(tiny_vlm, layers)
    vlm.packs = True
    method = build_method("textual-unlearning")
    with Waits() as waits:
        batch = collate(encoded_examples(vlm))
        loss = method.loss(RoleBatch(role_views(vlm, batch, method.needs, 64), progress=0.0))
        loss.total.backward()
    assert waits.found == []
