"""The fused output head and the kept original against the plain formulas, in float64."""

import copy
import json
import math

import pytest
import torch
from PIL import Image

from helpers import tiny
from helpers.training import train
from tests.training.test_logprobs import EVERYTHING, by_example, encoded_examples, trained_looking
from unsay.errors import UserError
from unsay.files import content_key
from unsay.methods import Needs, build_method
from unsay.models import detach
from unsay.records import Role
from unsay.training import BatchSettings, TrainSettings
from unsay.training.encode import collate
from unsay.training.head import FusedHead, Reference, fusible, head_pass, role_views, top_k_kl
from unsay.training.reference import ReferenceCache

POSITIONS, WIDTH, VOCABULARY = 13, 6, 29


def made(bias):
    generator = torch.Generator().manual_seed(3)
    head = torch.nn.Linear(WIDTH, VOCABULARY, bias=bias).double().requires_grad_(False)
    hidden, original = torch.randn(2, POSITIONS, WIDTH, generator=generator, dtype=torch.float64)
    targets = torch.randint(VOCABULARY, (POSITIONS,), generator=generator)
    weights = torch.randn(2, POSITIONS, generator=generator, dtype=torch.float64)
    return head, hidden.requires_grad_(), original, targets, weights


def naive(head, hidden, targets, original):
    """As the formulas stand: every logit at once."""
    log_p, log_q = torch.log_softmax(head(hidden), -1), torch.log_softmax(head(original), -1)
    rows = torch.arange(len(targets))
    return log_p[rows, targets], log_q[rows, targets], (log_q.exp() * (log_q - log_p)).sum(-1)


@pytest.mark.parametrize("sure", [2.0, 6.0, 9.0])
def test_in_half_precision_a_confident_token_still_has_its_gradient(sure):
    """p is up to 0.9998 here, and bfloat16 has nothing between 0.996 and 1: 1 − p must be taken before."""
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(64, 50, bias=False).to(torch.bfloat16).requires_grad_(False)
    targets = torch.arange(POSITIONS)
    hidden = head.weight[targets].float()
    hidden = (sure * hidden / hidden.square().sum(-1, keepdim=True)).to(torch.bfloat16)
    hidden += 0.01 * torch.randn(hidden.shape, generator=generator).to(torch.bfloat16)
    exact = copy.deepcopy(head).double()
    [wanted] = torch.autograd.grad(
        torch.log_softmax(exact(precise := hidden.double().requires_grad_()), -1)[targets, targets].sum(), precise
    )
    got = head_pass(head, hidden.requires_grad_(), targets, None, False, 5)[0]
    [gradient] = torch.autograd.grad(got.sum(), hidden)
    error = (gradient.double() - wanted).norm(dim=-1) / wanted.norm(dim=-1)
    assert float(error.max()) < 0.02


@pytest.mark.parametrize("asked", ["policy", "kl", "both"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_values_and_gradients_are_those_of_the_naive_formula(chunk, bias, asked):
    head, hidden, original, targets, weights = made(bias)
    assert fusible(head)

    def objective(policy, kl):
        return (weights[0] * policy).sum() * (asked != "kl") + (weights[1] * kl).sum() * (asked != "policy")

    wanted = naive(head, hidden, targets, original)
    got = head_pass(head, hidden, targets, original, True, chunk)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)
    [expected] = torch.autograd.grad(objective(wanted[0], wanted[2]), hidden)
    [gradient] = torch.autograd.grad(objective(got[0], got[2]), hidden)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)
    assert expected.abs().max() > 0.1
    assert not got[1].requires_grad


def test_without_an_original_and_without_gradient():
    head, hidden, _, targets, weights = made(True)
    policy, before, kl = head_pass(head, hidden, targets, None, False, 4)
    assert before is None
    assert kl is None
    [gradient] = torch.autograd.grad((policy * weights[0]).sum(), hidden)
    [expected] = torch.autograd.grad((naive(head, hidden, targets, hidden)[0] * weights[0]).sum(), hidden)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(head_pass(head, hidden, targets, None, False, 4)[0], policy)


def test_one_position_by_hand():
    """Two tokens, logits h and 0: log p_0 = log σ(h); KL of q = (1/2, 1/2) from p = (3/4, 1/4) is log(2/√3)."""
    head = torch.nn.Linear(1, 2, bias=False).requires_grad_(False)
    head.weight.copy_(torch.tensor([[1.0], [0.0]]))
    hidden = torch.tensor([[math.log(3.0)]], requires_grad=True)
    policy, before, kl = head_pass(head, hidden, torch.tensor([0]), torch.zeros(1, 1), True, 8)
    assert [policy.item(), before.item()] == pytest.approx([math.log(0.75), math.log(0.5)])
    assert kl.item() == pytest.approx(math.log(2 / math.sqrt(3)))
    assert torch.autograd.grad(policy.sum(), hidden, retain_graph=True)[0].item() == pytest.approx(0.25)
    assert torch.autograd.grad(kl.sum(), hidden)[0].item() == pytest.approx(0.25)  # p_0 − q_0


@pytest.mark.parametrize("change", ["trainable", "hooked", "capped"])
def test_only_a_plain_frozen_linear_is_fused(change, monkeypatch):
    head, hidden, original, targets, weights = made(True)
    wanted = naive(head, hidden, targets, original)
    if change == "trainable":
        head.weight.requires_grad_()
    elif change == "hooked":
        head.register_forward_hook(lambda _m, _i, out: out)
    else:
        head = torch.nn.Sequential(head)
    assert not fusible(head)
    monkeypatch.setattr(FusedHead, "apply", None)
    got = head_pass(head, hidden, targets, original, True, 5)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6)
    [one] = torch.autograd.grad((got[2] * weights[0]).sum(), hidden)
    [other] = torch.autograd.grad((wanted[2] * weights[0]).sum(), hidden)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_nothing_as_large_as_positions_times_vocabulary_is_alive():
    """In both directions: peak memory grows with the chunk, not with the positions."""
    largest = []

    class Watching(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            largest.extend(t.numel() for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, torch.Tensor))
            return out

    head = torch.nn.Linear(4, 5000, bias=False).requires_grad_(False)
    hidden = torch.randn(64, 4, requires_grad=True)
    with Watching():
        policy, _, kl = head_pass(head, hidden, torch.zeros(64, dtype=torch.long), hidden.detach(), True, 8)
        (policy.sum() + kl.sum()).backward()
    assert 8 * 5000 <= max(largest) < 9 * 5000


def kept_of(log_q, k, targets):
    top = log_q.topk(k, dim=-1)
    return Reference(logp=log_q.gather(1, targets[:, None])[:, 0], kept=top.indices.int(), kept_logp=top.values)


def test_kl_of_kept_by_hand():
    """q = (.5, .3, .2), p = (.2, .3, .5), two kept: .5 log 2.5 + .3 log 1 + .2 log .4; nothing is lost of one token."""
    log_p = torch.tensor([[0.2, 0.3, 0.5]]).double().log()
    log_q = torch.tensor([[0.5, 0.3, 0.2]]).double().log()
    kl, _ = top_k_kl(log_p.clone(), kept_of(log_q, 2, torch.tensor([0])), False)
    assert kl.item() == pytest.approx(0.5 * math.log(2.5) + 0.2 * math.log(0.4))
    kl, _ = top_k_kl(log_p.clone(), kept_of(log_q, 1, torch.tensor([0])), False)
    assert kl.item() == pytest.approx(0.5 * math.log(2.5) + 0.5 * math.log(0.5 / 0.8))


def test_what_is_lost_is_bounded_and_vanishes_with_k():
    head, hidden, original, targets, _ = made(True)
    with torch.no_grad():
        log_p, log_q = torch.log_softmax(head(3 * hidden), -1), torch.log_softmax(head(3 * original), -1)
    exact = (log_q.exp() * (log_q - log_p)).sum(-1)
    previous = torch.zeros(POSITIONS)
    for k in (1, 2, 5, 12, 28, 29):
        reference = kept_of(log_q, k, targets)
        kl, _ = top_k_kl(log_p.clone(), reference, False)
        rest = torch.ones_like(log_q, dtype=torch.bool).scatter_(1, reference.kept.long(), False)
        r_q, r_p = (log_q.exp() * rest).sum(1), (log_p.exp() * rest).sum(1)
        ratio = ((log_q - r_q.log()[:, None]) - (log_p - r_p.log()[:, None])).masked_fill(~rest, 0)
        lost = (log_q.exp() * rest * ratio).sum(1)  # r_q · KL(q given the rest ‖ p given the rest)
        torch.testing.assert_close(exact - kl, lost, rtol=1e-9, atol=1e-12)
        assert (kl <= exact + 1e-12).all()
        assert (kl >= previous - 1e-12).all()
        previous = kl
    torch.testing.assert_close(previous, exact)


@pytest.mark.parametrize("k", [1, 4, 29])
def test_gradients_of_what_was_kept_are_its_formulas(k):
    head, hidden, original, targets, weights = made(True)
    with torch.no_grad():
        reference = kept_of(torch.log_softmax(head(original), -1), k, targets)
    got = head_pass(head, hidden, targets, reference, True, 5)
    [gradient] = torch.autograd.grad((got[2] * weights[0] + got[0] * weights[1]).sum(), hidden)
    log_p = torch.log_softmax(head(hidden), -1)
    kept, log_q = reference.kept.long(), reference.kept_logp
    rest = torch.ones_like(log_p).scatter(1, kept, 0.0)
    r_q, r_p = 1 - log_q.exp().sum(1), (log_p.exp() * rest).sum(1)
    kl = (log_q.exp() * (log_q - log_p.gather(1, kept))).sum(1)
    if k < VOCABULARY:
        kl = kl + r_q * (r_q.log() - r_p.log())
    torch.testing.assert_close(got[2], kl, rtol=1e-9, atol=1e-10)
    [expected] = torch.autograd.grad(
        (kl * weights[0] + log_p.gather(1, targets[:, None])[:, 0] * weights[1]).sum(), hidden
    )
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)


NEEDS = Needs(roles=frozenset(Role), reference=frozenset({Role.FORGET}), kl=frozenset({Role.RETAIN}))


def test_a_kept_original_is_the_live_one(any_vlm, tmp_path):
    vlm = trained_looking(any_vlm)
    rows = encoded_examples(vlm)
    whole = TrainSettings(reference="cached", reference_top_k=10_000)
    cache = ReferenceCache(tmp_path, whole, vlm.key)
    assert cache.fill(vlm, rows, EVERYTHING).flops > 0
    live = role_views(vlm, collate(rows), EVERYTHING, 64)
    kept = role_views(vlm, collate(rows), EVERYTHING, 64, cache.of(rows, EVERYTHING, vlm.device))
    for name in ("policy", "reference", "kl"):
        for one, other in zip(by_example(kept, name), by_example(live, name), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_original_is_run_once_per_example(tiny_vlm, tmp_path, monkeypatch):
    vlm = trained_looking(tiny_vlm)
    rows = encoded_examples(vlm)
    settings = TrainSettings(reference="cached", reference_top_k=3)
    first = ReferenceCache(tmp_path, settings, vlm.key)
    price = first.fill(vlm, rows, NEEDS)
    again = ReferenceCache(tmp_path, settings, vlm.key)
    monkeypatch.setattr(vlm.model, "disable_adapter", lambda: pytest.fail("the original was run again"))
    assert price.flops > 0
    assert price.seconds > 0
    assert first.fill(vlm, rows, NEEDS) == (0, 0)  # paid
    assert again.fill(vlm, rows, NEEDS) == pytest.approx(price)  # what a killed session paid is known to the next
    assert again.fill(vlm, rows, NEEDS) == (0, 0)
    before, after = first.of(rows, NEEDS, vlm.device), again.of(rows, NEEDS, vlm.device)
    assert list(before) == list(after) == [Role.FORGET, Role.RETAIN]
    assert after[Role.FORGET].kept is None
    assert after[Role.RETAIN].kept.shape[1] == 3
    for role in before:
        assert torch.equal(before[role].logp, after[role].logp)


@pytest.mark.parametrize("change", ["k", "model", "example"])
def test_what_decides_the_original_decides_its_key(tiny_vlm, tmp_path, change):
    vlm = trained_looking(tiny_vlm)
    rows = encoded_examples(vlm)[-1:]
    ReferenceCache(tmp_path, TrainSettings(reference_top_k=3), vlm.key).fill(vlm, rows, NEEDS)
    model = content_key("another") if change == "model" else vlm.key
    cache = ReferenceCache(tmp_path, TrainSettings(reference_top_k=4 if change == "k" else 3), model)
    known = set(cache._kept)
    if change == "example":
        rows = [type(rows[0])("same-id", rows[0].role, rows[0].prompt_ids, rows[0].answer_ids[:-1])]
    cache.fill(vlm, rows, NEEDS)
    assert len(cache._kept) == len(known) + 1


def test_a_damaged_file_costs_its_examples_and_no_more(tiny_vlm, tmp_path, monkeypatch):
    monkeypatch.setattr("unsay.training.reference.PER_FILE", 4)
    vlm = trained_looking(tiny_vlm)
    rows = [row for row in encoded_examples(vlm) if row.role in NEEDS.original]
    settings = TrainSettings(reference_top_k=3)
    whole = ReferenceCache(tmp_path, settings, vlm.key)
    whole.fill(vlm, rows, NEEDS)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:50])
    mended = ReferenceCache(tmp_path, settings, vlm.key)
    assert 0 < len(mended._kept) < len(whole._kept)
    mended.fill(vlm, rows, NEEDS)
    assert mended._kept.keys() == whole._kept.keys()


def test_what_is_in_a_checkpoint_is_not_paid_again(tiny_vlm, tmp_path):
    vlm = trained_looking(tiny_vlm)
    rows = [row for row in encoded_examples(vlm) if row.role in NEEDS.original]
    settings = TrainSettings(reference_top_k=3)
    price = ReferenceCache(tmp_path, settings, vlm.key).fill(vlm, rows, NEEDS)
    resumed = ReferenceCache(tmp_path, settings, vlm.key)
    resumed.paid(rows[:1], NEEDS)
    # All stand in one file, so each is an equal share of it.
    rest = resumed.fill(vlm, rows, NEEDS)
    assert rest == pytest.approx([value * (len(rows) - 1) / len(rows) for value in price])


def test_a_method_of_hidden_states_cannot_have_a_kept_original(tiny_vlm, tmp_path):
    method = build_method("circuit-breaker")
    settings = TrainSettings(steps=1, batch=BatchSettings(forget=1, refuse=1, retain=1), reference="cached")
    with pytest.raises(UserError, match=r"train\.reference: .*hidden states.*set it to live") as caught:
        train(tiny_vlm, tiny.examples(2), method, settings, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "adapter").exists()
    assert not list(tmp_path.rglob("*.safetensors"))
    train(detach(tiny_vlm), tiny.examples(2), method, settings.model_copy(update={"reference": "live"}), tmp_path)


def test_a_kept_original_of_pictured_rows_is_refused_by_their_name(tiny_vlm, tmp_path):
    Image.new("RGB", (tiny.IMAGE_SIZE, tiny.IMAGE_SIZE), "red").save(tmp_path / "a.png")
    rows = tiny.examples(2)
    rows[-1] = rows[-1].model_copy(update={"image": str(tmp_path / "a.png")})
    settings = TrainSettings(steps=1, batch=BatchSettings(forget=1, refuse=1, retain=1), reference="cached")
    method, out = build_method("textual-unlearning"), tmp_path / "run"
    with pytest.raises(UserError, match=rf"train\.reference: example {rows[-1].id} has a picture") as caught:
        train(tiny_vlm, rows, method, settings, out)
    assert "set it to live" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(out.rglob("*.safetensors"))
    train(detach(tiny_vlm), rows[:-1], method, settings, out)


def test_a_run_on_kept_originals_is_the_run_on_live_ones(tiny_vlm, tmp_path, one_thread):
    method = build_method("textual-unlearning")
    rows = []
    for how in ("live", "cached"):
        settings = TrainSettings(
            steps=4, batch=BatchSettings(forget=2, refuse=2, retain=2), reference=how, reference_top_k=10_000
        )
        folder = tmp_path / how
        result = train(copy.deepcopy(tiny_vlm), tiny.examples(), method, settings, folder)
        assert result.stopped == "finished"
        lines = (folder / "train" / "metrics.jsonl").read_text().splitlines()
        rows.append([json.loads(line) for line in lines])
    for live, cached in zip(*rows, strict=True):
        assert cached["loss"] == pytest.approx(live["loss"], abs=1e-4)
        assert cached["retain_loss"] == pytest.approx(live["retain_loss"], abs=1e-4)
    assert rows[0][-1]["retain_loss"] > 1e-4  # there is something to agree on
