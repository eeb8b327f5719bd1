"""Losses against arithmetic by hand."""

import math

import pytest
import torch

from unsay.errors import UserError
from unsay.methods import METHODS, Companion, Needs, RoleBatch, RoleView, WeightEdit, build_method, default_settings
from unsay.methods.base import block_numbers
from unsay.records import Role

# Two examples: the first has two answer tokens, the second three. Where the mask is False stands rubbish.
RUBBISH = -1e6
MASK = torch.tensor([[True, True, False], [True, True, True]])


def leaf(rows):
    return torch.tensor(rows, requires_grad=True)


def forget(*, far=-4.0):
    """Cross-entropies (1 + 3) / 2 = 2 and (−far·3) / 3 = −far; log-ratios −1, 0 (sum −1) and far + 4 thrice."""
    reference = torch.tensor([[0.0, -3.0, RUBBISH], [-4.0, -4.0, -4.0]])
    return RoleView(leaf([[-1.0, -3.0, RUBBISH], [far, far, far]]), MASK, reference)


def refuse():
    """Cross-entropies (0.5 + 1.5) / 2 = 1 and (1 + 2 + 6) / 3 = 3; their mean is 2. Log-ratios sum to 1 and −3."""
    reference = torch.tensor([[-1.0, -2.0, RUBBISH], [-1.0, -2.0, -3.0]])
    return RoleView(leaf([[-0.5, -1.5, RUBBISH], [-1.0, -2.0, -6.0]]), MASK, reference)


def retain():
    """KL means (0.2 + 0.4) / 2 = 0.3 and (0.9 + 0 + 0.6) / 3 = 0.5, first tokens 0.2 and 0.9; cross-entropies 1, 2."""
    return RoleView(
        leaf([[-0.5, -1.5, RUBBISH], [-2.0, -3.0, -1.0]]),
        MASK,
        kl=leaf([[0.2, 0.4, -RUBBISH], [0.9, 0.0, 0.6]]),
    )


def batch(**views):
    """Every part; companions have the refusals' numbers unless given."""
    made = {"forget": forget(), "refuse": refuse(), "retain": retain()}
    made |= {companion.value: refuse() for companion in Companion} | views
    return RoleBatch({part: made[part.value] for part in [*Role, *Companion]})


def values(terms):
    return {name: float(term.detach()) for name, term in terms.terms.items()}


def meters(terms):
    assert not any(meter.requires_grad for meter in terms.meters.values())
    return {name: float(meter) for name, meter in terms.meters.items()}


def log_sigmoid(x):
    return -math.log1p(math.exp(-x))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


# ------------------------------------------------------------------------------------------------- textual unlearning


def test_textual_unlearning_by_hand():
    terms = build_method("textual-unlearning", {"forget_cap": 10.0}).loss(batch())
    # forget: −0.5 · (2 + 4) / 2; refuse: 1 · 2; retain: 1 · (0.3 + 0.5) / 2
    assert values(terms) == pytest.approx({"forget": -1.5, "refuse": 2.0, "retain": 0.4})
    assert float(terms.total.detach()) == pytest.approx(-1.5 + 2.0 + 0.4)
    assert meters(terms) == pytest.approx({"forget_ce": 3.0, "refuse_ce": 2.0})


def test_weights_multiply_their_terms():
    settings = {"forget_weight": 2.0, "refuse_weight": 3.0, "retain_weight": 5.0, "forget_cap": None}
    settings |= {"decision_weight": 7.0, "retain_ce_weight": 11.0, "mismatch_weight": 13.0}
    method = build_method("textual-unlearning", settings)
    mismatch = RoleView(leaf([[-1.0, -2.0, RUBBISH], [-3.0, -3.0, -3.0]]), MASK)  # 1.5 and 3, mean 2.25
    assert values(method.loss(batch(mismatch=mismatch))) == pytest.approx(
        {
            "forget": -2 * 3.0,
            "refuse": 3 * 2.0,
            "retain": 5 * 0.4,
            "decision": 7 * (0.2 + 0.9) / 2,
            "retain_ce": 11 * 1.5,
            "mismatch": 13 * 2.25,
        }
    )


def test_mismatched_answers_are_the_origins_option_and_off_in_the_papers_form():
    assert not build_method("textual-unlearning").needs.companions
    method = build_method("textual-unlearning", {"mismatch_weight": 1.0})
    assert method.needs.companions == {Companion.MISMATCH: Role.FORGET}
    view = refuse()
    method.loss(batch(mismatch=view)).terms["mismatch"].backward()
    assert view.policy.grad.tolist() == [[-0.25, -0.25, 0.0], [pytest.approx(-1 / 6)] * 3]  # descent: up they go


def test_cap_bounds_the_value_and_stops_the_gradient_of_examples_beyond_it():
    view = forget(far=-4.0)
    terms = build_method("textual-unlearning", {"forget_cap": 3.0}).loss(batch(forget=view))
    # −0.5 · (2 + min(4, 3)) / 2
    assert values(terms)["forget"] == pytest.approx(-1.25)
    terms.total.backward()
    # Minimising −0.5 · CE pushes log-probabilities down: d/d logp = +0.5 / 2 examples / 2 tokens; nothing past the cap.
    assert view.policy.grad.tolist() == [[0.125, 0.125, 0.0], [0.0, 0.0, 0.0]]


def test_without_a_cap_ascent_is_raw_and_unbounded():
    view = forget(far=-400.0)
    terms = build_method("textual-unlearning", {"forget_cap": None}).loss(batch(forget=view))
    assert values(terms)["forget"] == pytest.approx(-0.5 * (2 + 400) / 2)
    terms.total.backward()
    assert view.policy.grad[1].tolist() == pytest.approx([0.5 / 2 / 3] * 3)


def test_meter_shows_the_uncapped_cross_entropy():
    terms = build_method("textual-unlearning", {"forget_cap": 0.5}).loss(batch())
    assert meters(terms)["forget_ce"] == pytest.approx(3.0)


# ------------------------------------------------------------------------------------------------------------- anchors

ANCHORED = [name for name in METHODS if "decision_weight" in type(default_settings(name)).model_fields]


def test_all_but_five_packaged_methods_share_the_anchors():
    packaged = {name for name, entry in METHODS.items() if entry.version is not None}
    assert packaged - set(ANCHORED) == {"gradient-ascent", "task-vector", "rep-select", "rmu", "circuit-breaker"}


@pytest.mark.parametrize("name", ANCHORED)
def test_decision_weight_looks_at_first_tokens_only(name):
    view = retain()
    settings = {"retain_weight": 0.0, "retain_ce_weight": 0.0, "decision_weight": 2.0}
    method = build_method(name, settings)
    assert method.needs.kl == {Role.RETAIN}
    terms = method.loss(batch(retain=view))
    assert not {"retain", "retain_ce"} & set(terms.terms)
    assert values(terms)["decision"] == pytest.approx(2 * (0.2 + 0.9) / 2)
    terms.terms["decision"].backward()
    assert view.kl.grad.tolist() == [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize("name", ANCHORED)
def test_without_anchors_no_normal_examples_are_needed(name):
    method = build_method(name, {"retain_weight": 0, "retain_ce_weight": 0, "decision_weight": 0})
    assert Role.RETAIN not in method.needs.roles
    asked = {part: view for part, view in batch().items() if part in method.needs.parts}
    assert not {"retain", "retain_ce", "decision"} & set(method.loss(RoleBatch(asked)).terms)


@pytest.mark.parametrize("name", ANCHORED)
def test_descent_on_normal_answers_needs_no_original_model(name):
    method = build_method(name, {"retain_weight": 0, "retain_ce_weight": 2.0})
    assert not method.needs.kl
    view = retain()
    terms = method.loss(batch(retain=view))
    assert values(terms)["retain_ce"] == pytest.approx(2 * 1.5)
    terms.terms["retain_ce"].backward()
    assert view.policy.grad.tolist() == [[-0.5, -0.5, 0.0], [pytest.approx(-1 / 3)] * 3]


def test_retain_without_kl_is_a_programming_error():
    with pytest.raises(ValueError, match="KL"):
        build_method("refusal-sft").loss(batch(retain=RoleView(torch.zeros(2, 3), MASK)))


# -------------------------------------------------------------------------------------------------- ascent and descent


def test_refusal_sft_by_hand_and_it_forgets_nothing():
    method = build_method("refusal-sft")
    assert Role.FORGET not in method.needs.roles
    assert values(method.loss(batch())) == pytest.approx({"refuse": 2.0, "retain": 0.4})


def test_idk_by_hand():
    method = build_method("idk")
    assert method.needs.roles == {Role.REFUSE, Role.RETAIN}
    assert not method.needs.original
    assert values(method.loss(batch())) == pytest.approx({"refuse": 2.0, "retain_ce": 1.5})


def test_gradient_ascent_by_hand():
    method, view = build_method("gradient-ascent"), forget(far=-400.0)
    assert method.needs.parts == [Role.FORGET]
    terms = method.loss(batch(forget=view))
    assert values(terms) == pytest.approx({"forget": -201.0})
    terms.total.backward()
    assert view.policy.grad.tolist() == [[0.25, 0.25, 0.0], [pytest.approx(1 / 6)] * 3]
    capped = build_method("gradient-ascent", {"forget_cap": 3.0, "forget_weight": 2.0}).loss(batch())
    assert values(capped) == pytest.approx({"forget": -2 * (2 + 3) / 2})


def test_grad_diff_by_hand():
    method = build_method("grad-diff")
    assert not method.needs.original
    assert values(method.loss(batch())) == pytest.approx({"forget": -3.0, "retain_ce": 1.5})


def test_kl_min_by_hand():
    method = build_method("kl-min")
    assert method.needs.kl == {Role.RETAIN}
    assert values(method.loss(batch())) == pytest.approx({"forget": -3.0, "retain": 0.4})


def test_task_vector_learns_what_it_then_subtracts():
    method, view = build_method("task-vector", {"scale": 0.5}), forget()
    assert method.needs.adapter_factor == -0.5
    terms = method.loss(batch(forget=view))
    assert values(terms) == pytest.approx({"forget": 3.0})
    terms.total.backward()
    assert view.policy.grad.tolist() == [[-0.25, -0.25, 0.0], [pytest.approx(-1 / 6)] * 3]
    packaged = [name for name, entry in METHODS.items() if entry.version is not None and name != "task-vector"]
    assert all(build_method(name).needs.adapter_factor == 1.0 for name in packaged)


def test_rep_select_learns_what_its_edit_then_takes_away():
    method, view = build_method("rep-select", {"components": 0.25, "max_kl": 0.05, "rank": 7}), forget()
    assert method.needs.edit == WeightEdit(components=0.25, max_kl=0.05, rank=7)
    assert values(method.loss(batch(forget=view))) == pytest.approx({"forget": 3.0})
    assert all(build_method(name).needs.edit is None for name in METHODS if name != "rep-select")


# --------------------------------------------------------------------------------------------------------- preferences


def test_npo_by_hand():
    method, view = build_method("npo", {"beta": 0.5}), forget(far=-6.0)
    assert method.needs.reference == {Role.FORGET}
    terms = method.loss(batch(forget=view))
    # Log-ratios of whole answers: −1 and 3 · (−6 + 4) = −6; −(2/β) log σ(−β r) = −4 log σ(0.5) and −4 log σ(3).
    expected = (-4 * log_sigmoid(0.5) - 4 * log_sigmoid(3.0)) / 2
    assert values(terms) == pytest.approx({"forget": expected, "retain_ce": 1.5})
    terms.total.backward()
    # d/d logp = 2 σ(β r) / 2 examples, for each token: the less likely, the weaker.
    near, far = sigmoid(-0.5), sigmoid(-3.0)
    assert view.policy.grad.tolist() == [[pytest.approx(near)] * 2 + [0.0], [pytest.approx(far)] * 3]


def test_npo_begins_as_ascent_on_whole_answers():
    """At the original model, `2r/(1 + r)` is 1: the gradient of each token is 1 / examples, whatever β."""
    for beta in (0.05, 0.1, 3.0):
        view = RoleView(leaf([[-1.0, -3.0, RUBBISH], [-4.0] * 3]), MASK, torch.tensor([[-1.0, -3.0, 7.0], [-4.0] * 3]))
        build_method("npo", {"beta": beta, "retain_ce_weight": 0}).loss(batch(forget=view)).total.backward()
        assert view.policy.grad.tolist() == [[0.5, 0.5, 0.0], [0.5, 0.5, 0.5]]


def test_npo_without_a_reference_is_a_programming_error():
    with pytest.raises(ValueError, match="reference"):
        build_method("npo").loss(batch(forget=RoleView(torch.zeros(2, 3), MASK)))


def test_simnpo_by_hand():
    method, view = build_method("simnpo", {"beta": 2.0, "gamma": 1.0, "forget_weight": 0.5}), forget(far=-4.0)
    assert not method.needs.original
    terms = method.loss(batch(forget=view))
    # Per token 2 and 4 nats: −(2/β) log σ(β CE − γ) = −log σ(3) and −log σ(7).
    assert values(terms) == pytest.approx(
        {"forget": 0.5 * (-log_sigmoid(3.0) - log_sigmoid(7.0)) / 2, "retain_ce": 1.5}
    )
    terms.total.backward()
    # d/d logp = 0.5 · 2 · (1 − σ(β CE − γ)) / 2 examples / tokens
    near, far = (1 - sigmoid(3.0)) / 4, (1 - sigmoid(7.0)) / 6
    assert view.policy.grad.tolist() == [[pytest.approx(near)] * 2 + [0.0], [pytest.approx(far, rel=1e-4)] * 3]


def test_dpo_by_hand():
    method, harmful, safe = build_method("dpo", {"beta": 0.5}), forget(far=-6.0), refuse()
    assert method.needs.reference == {Role.FORGET, Companion.REFUSAL}
    assert method.needs.roles == {Role.FORGET, Role.RETAIN}
    terms = method.loss(batch(forget=harmful, refusal=safe))
    # Margins: 1 − (−1) = 2 and −3 − (−6) = 3; −(2/β) log σ(β m) = −4 log σ(1) and −4 log σ(1.5).
    expected = (-4 * log_sigmoid(1.0) - 4 * log_sigmoid(1.5)) / 2
    assert values(terms) == pytest.approx({"preference": expected, "retain_ce": 1.5})
    assert meters(terms) == pytest.approx({"forget_ce": 4.0, "refuse_ce": 2.0, "preferred": 1.0})
    terms.total.backward()
    first, second = 1 - sigmoid(1.0), 1 - sigmoid(1.5)
    assert safe.policy.grad.tolist() == [[pytest.approx(-first)] * 2 + [0.0], [pytest.approx(-second)] * 3]
    assert harmful.policy.grad.tolist() == [[pytest.approx(first)] * 2 + [0.0], [pytest.approx(second)] * 3]


def test_dpo_pairs_row_by_row():
    """Swapping the rows of one half alone must change the loss: row i goes with row i."""

    def swapped(view):
        return RoleView(view.policy.flip(0), view.mask.flip(0), view.reference.flip(0))

    method = build_method("dpo", {"beta": 0.5})
    total = values(method.loss(batch(refusal=refuse())))["preference"]
    assert values(method.loss(batch(forget=swapped(forget()), refusal=swapped(refuse()))))["preference"] == (
        pytest.approx(total)
    )
    assert abs(values(method.loss(batch(refusal=swapped(refuse()))))["preference"] - total) > 0.1


def test_safe_unlearning_by_hand():
    method, view = build_method("safe-unlearning"), forget(far=-6.0)
    assert method.needs.roles == set(Role)
    assert method.needs.reference == {Role.FORGET}
    terms = method.loss(batch(forget=view))
    # Log-ratios per token: −0.5 and −2; β = 1, no factor 2/β.
    expected = 0.3 * (-log_sigmoid(0.5) - log_sigmoid(2.0)) / 2
    assert values(terms) == pytest.approx({"forget": expected, "refuse": 0.5 * 2.0, "retain_ce": 1.5})
    terms.total.backward()
    near, far = 0.3 * sigmoid(-0.5) / 2 / 2, 0.3 * sigmoid(-2.0) / 2 / 3
    assert view.policy.grad.tolist() == [[pytest.approx(near)] * 2 + [0.0], [pytest.approx(far)] * 3]


# --------------------------------------------------------------------------------------------------- prompt decoupling


def test_prompt_decouple_by_hand():
    method = build_method("prompt-decouple")
    assert method.needs.roles == {Role.REFUSE, Role.RETAIN}
    assert method.needs.companions == {Companion.DECOUPLE: Role.REFUSE}
    view = RoleView(leaf([[-1.0, -2.0, RUBBISH], [-3.0, -3.0, -3.0]]), MASK)  # 1.5 and 3, mean 2.25
    terms = method.loss(batch(decouple=view))
    assert values(terms) == pytest.approx({"decouple": 2.25, "refuse": 2.0, "retain_ce": 1.5})
    terms.total.backward()
    assert view.policy.grad.tolist() == [[-0.25, -0.25, 0.0], [pytest.approx(-1 / 6)] * 3]


def test_prompt_decouple_with_ascent_is_the_papers_other_form():
    settings = {"forget_weight": 1.0, "refuse_weight": 0.0, "retain_ce_weight": 0.5, "decouple_weight": 0.5}
    method = build_method("prompt-decouple", settings)
    assert method.needs.roles == {Role.FORGET, Role.RETAIN}
    assert method.needs.companions == {Companion.DECOUPLE: Role.FORGET}
    assert values(method.loss(batch())) == pytest.approx({"decouple": 1.0, "retain_ce": 0.75, "forget": -3.0})


# -------------------------------------------------------------------------------------------------------- hidden states

HIDDEN_MASK = torch.tensor([[True, False], [True, True]])


def states(rows):
    """[n, T] of H = 2 numbers of each of K blocks → a leaf [n, T, K, H]."""
    return torch.tensor(rows, dtype=torch.float32, requires_grad=True)


def thinking(hidden, reference_hidden=None):
    return RoleView(torch.full((2, 2), -1.0), HIDDEN_MASK, hidden=hidden, reference_hidden=reference_hidden)


def test_rmu_by_hand():
    method = build_method("rmu", {"steering": 10.0, "retain_weight": 3.0})
    drawn = torch.rand(2, generator=torch.Generator().manual_seed(0))
    u = drawn / drawn.square().sum().sqrt()
    assert (u > 0).all()
    harmful = states([[[[1.0, 2.0]], [[9e4, 9e4]]], [[[0.0, 0.0]], [[3.0, 4.0]]]])
    normal = states([[[[1.0, 1.0]], [[9e4, 9e4]]], [[[2.0, 0.0]], [[0.0, 0.0]]]])
    was = torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]], [[[0.0, 0.0]], [[0.0, 4.0]]]])
    terms = method.loss(RoleBatch({Role.FORGET: thinking(harmful), Role.RETAIN: thinking(normal, was)}))

    def distance(h):
        return sum((float(a) - 10 * float(b)) ** 2 for a, b in zip(h, u, strict=True)) / 2

    steer = (distance((1.0, 2.0)) + (distance((0.0, 0.0)) + distance((3.0, 4.0))) / 2) / 2
    drift = (4 / 2 + (4 / 2 + 16 / 2) / 2) / 2
    assert values(terms) == pytest.approx({"steer": steer, "drift": 3 * drift})
    terms.total.backward()
    # d/dh = (h − c·u) for H = 2, over 2 examples and the example's own tokens.
    assert harmful.grad[0, 0, 0].tolist() == pytest.approx(((torch.tensor([1.0, 2.0]) - 10 * u) / 2).tolist())
    assert harmful.grad[1, 1, 0].tolist() == pytest.approx(((torch.tensor([3.0, 4.0]) - 10 * u) / 4).tolist())
    assert harmful.grad[0, 1].abs().sum() == 0
    assert normal.grad[0, 0, 0].tolist() == [0.0, -3.0]  # 3 · (1 − 3) / 2
    assert normal.grad[0, 1].abs().sum() == 0


def test_rmu_direction_is_fixed_and_chosen_by_its_seed():
    def steer(seed):
        view = thinking(states([[[[1.0, 2.0]]] * 2] * 2), torch.zeros(2, 2, 1, 2))
        method = build_method("rmu", {"direction_seed": seed})
        return float(method.loss(RoleBatch({Role.FORGET: view, Role.RETAIN: view})).terms["steer"].detach())

    assert steer(0) == steer(0)
    assert steer(0) != steer(1)


def breaking(progress, hidden, was, normal=None, normal_was=None, **settings):
    still = torch.ones(2, 2, 1, 2)
    views = {
        Role.FORGET: thinking(hidden, was),
        Role.RETAIN: thinking(still if normal is None else normal, still if normal_was is None else normal_was),
    }
    return build_method("circuit-breaker", settings).loss(RoleBatch(views, progress=progress))


def test_circuit_breaker_by_hand():
    # Two blocks. Cosines: first example 0.6 and 0 (opposite: ReLU); second: 1 and 0.6, then 0 and 0.
    was = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]] * 2, [[[2.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]])
    hidden = states(
        [
            [[[3.0, 4.0], [-3.0, 4.0]], [[9e4, 9e4], [9e4, 9e4]]],
            [[[7.0, 0.0], [6.0, 8.0]], [[0.0, 5.0], [1.0, 0.0]]],
        ]
    )
    normal = states([[[[1.0, 1.0]], [[9e4, 9e4]]], [[[3.0, 4.0]], [[0.0, 0.0]]]])
    normal_was = torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]])
    terms = breaking(0.4, hidden, was, normal, normal_was, alpha=5.0)
    reroute = ((0.6 + 0) / 2 + ((1 + 0.6) / 2 + 0) / 2) / 2
    drift = (2 + (5 + 0) / 2) / 2
    assert values(terms) == pytest.approx({"reroute": 5 * 0.8 * reroute, "drift": 5 * 0.2 * drift}, abs=5e-3)
    assert meters(terms)["cosine"] == pytest.approx(((0.6 - 0.6) / 2 + ((1 + 0.6) / 2 + 0) / 2) / 2, abs=2e-3)
    terms.total.backward()
    assert hidden.grad[0, 1].abs().sum() == normal.grad[0, 1].abs().sum() == 0  # padding
    assert hidden.grad[0, 0, 1].abs().sum() == 0  # beyond orthogonal nothing pulls back
    # d cos/dh = (w − cos·ĥ) / |h| for (3, 4) against (1, 0): (1 − 0.36, −0.48) / 5; times α c / 2 examples / 2 blocks.
    assert hidden.grad[0, 0, 0].tolist() == pytest.approx([4 / 4 * 0.64 / 5, 4 / 4 * -0.48 / 5], abs=2e-3)
    assert normal.grad[1, 0, 0].tolist() == pytest.approx([5 * 0.2 * 0.6 / 4, 5 * 0.2 * 0.8 / 4])
    assert torch.isfinite(normal.grad).all()  # a distance of 0 has a gradient too


@pytest.mark.parametrize(("progress", "reroute", "drift"), [(0.0, 10.0, 0.0), (0.5, 7.5, 2.5), (1.0, 5.0, 5.0)])
def test_circuit_breaker_mends_more_and_breaks_less_as_training_goes_on(progress, reroute, drift):
    same, other = torch.ones(2, 2, 1, 2), torch.tensor([[[[4.0, 5.0]]] * 2] * 2)
    terms = breaking(progress, same.clone().requires_grad_(), same, other, same)
    assert values(terms) == pytest.approx({"reroute": reroute, "drift": 5 * drift}, abs=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.02, 3.0])
def test_circuit_breaker_holds_as_much_as_the_length_of_states_asks_for(weight):
    same, other = torch.ones(2, 2, 1, 2), torch.tensor([[[[4.0, 5.0]]] * 2] * 2)  # a distance of 5
    terms = breaking(0.5, same.clone().requires_grad_(), same, other, same, retain_weight=weight)
    assert values(terms) == pytest.approx({"reroute": 7.5, "drift": 10 * weight * 0.25 * 5}, abs=1e-3)


def test_circuit_breaker_can_begin_where_nothing_has_moved():
    """The cosine of equal vectors has no gradient; left so, single precision would train on rounding errors."""
    hidden = states([[[[4.0, -3.0]]] * 2] * 2)
    breaking(0.0, hidden, hidden.detach()).total.backward()
    assert hidden.grad[0, 0].norm() > 5e-4


def test_blocks_are_numbers_or_shares_of_the_depth():
    assert block_numbers((0.3125, 0.625), 32) == [9, 19]  # the 10th and 20th
    assert block_numbers((0.25,), 32) == [7]
    assert block_numbers((0.01, 0.5, 1.0), 4) == [0, 1, 3]
    assert block_numbers((2, 0), 4) == [2, 0]
    assert block_numbers("all", 3) == [0, 1, 2]
    with pytest.raises(UserError, match="block 4 does not exist; this model has 4, counted from 0"):
        block_numbers((4,), 4)


# --------------------------------------------------------------------------------------------------------- all methods


def full_batch(settings_of):
    """Every part with everything that any method may ask for; rubbish wherever there is padding."""
    generator = torch.Generator().manual_seed(3)

    def view(low):
        def draw(*shape):
            return torch.randn(2, 3, *shape, generator=generator)

        rubbish = torch.where(MASK, 0.0, settings_of)
        wide = rubbish[..., None, None]
        return RoleView(
            (-draw().abs() - low + rubbish).requires_grad_(),
            MASK,
            -draw().abs() - low + rubbish,
            (draw().abs() + rubbish).requires_grad_(),
            (draw(2, 4) + wide).requires_grad_(),
            draw(2, 4) + wide,
        )

    return RoleBatch({part: view(index) for index, part in enumerate([*Role, *Companion])}, progress=0.5)


@pytest.mark.parametrize("name", METHODS)
def test_padding_never_counts(name):
    """KL averaged over padding is a bug that others shipped."""
    clean, padded = full_batch(0.0), full_batch(9e3)
    total = build_method(name).loss(padded).total
    assert float(total.detach()) == pytest.approx(float(build_method(name).loss(clean).total.detach()), rel=1e-5)
    total.backward()
    touched = 0
    for view in padded.values():
        for tensor in (view.policy, view.kl, view.hidden):
            if tensor.grad is not None:
                touched += 1
                assert tensor.grad[0, 2].abs().sum() == 0
                assert torch.isfinite(tensor.grad).all()
    assert touched


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_is_in_one_line_and_uses_all_it_asks_for(name):
    entry = METHODS[name]
    assert 10 < len(entry.summary) <= 58  # after its name, 80 columns
    assert "\n" not in entry.summary
    assert entry.paper.startswith("arXiv ")
    asked, whole = build_method(name).needs, full_batch(0.0)
    given = {}
    for part in asked.parts:
        view = whole[part]
        given[part] = RoleView(
            view.policy,
            view.mask,
            view.reference if part in asked.reference else None,
            view.kl if part in asked.kl else None,
            view.hidden if part in asked.hidden else None,
            view.reference_hidden if part in asked.reference_hidden else None,
        )
    build_method(name).loss(RoleBatch(given, progress=0.5)).total.backward()
    for part, view in given.items():
        assert any(t is not None and t.grad is not None for t in (view.policy, view.kl, view.hidden)), part


@pytest.mark.parametrize(
    "bad",
    [
        {"kl": frozenset({Role.RETAIN})},
        {"reference": frozenset({Companion.REFUSAL})},
        {"hidden": {Role.RETAIN: "all"}},
        {"hidden": {Role.REFUSE: "all"}, "reference_hidden": frozenset({Role.RETAIN})},
        {"companions": {Companion.REFUSAL: Role.FORGET}},
    ],
)
def test_needs_must_be_of_its_own_parts(bad):
    with pytest.raises(ValueError):
        Needs(roles=frozenset({Role.REFUSE}), **bad)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("gradient-magic", {}, "unknown 'gradient-magic'"),
        ("textual-unlearning", {"forget_wieght": 1.0}, "forget_wieght"),
        ("textual-unlearning", {"forget_weight": -1.0}, "forget_weight"),
        ("textual-unlearning", {"forget_cap": 0}, "forget_cap"),
        ("refusal-sft", {"forget_weight": 1.0}, "forget_weight"),
        ("refusal-sft", {"retain_weight": "much"}, "retain_weight"),
        ("npo", {"beta": 0}, "beta"),
        ("rmu", {"layer": -1}, "layer"),
        ("rmu", {"layer": 1.5}, "layer"),
        ("circuit-breaker", {"layers": []}, "layers"),
        ("circuit-breaker", {"layers": [0.5, 0.0]}, "layers"),
        ("task-vector", {"scale": -1}, "scale"),
        ("prompt-decouple", {"decouple_weight": 0}, "decouple_weight"),
    ],
)
def test_bad_names_and_settings_get_one_line(name, settings, says):
    with pytest.raises(UserError) as caught:
        build_method(name, settings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_published_defaults():
    def fields(name, *names):
        return tuple(getattr(default_settings(name), field) for field in names)

    assert fields("textual-unlearning", "forget_weight", "refuse_weight", "retain_weight") == (0.5, 1.0, 1.0)
    assert fields("textual-unlearning", "decision_weight", "retain_ce_weight", "mismatch_weight") == (0, 0, 0)
    assert math.isfinite(default_settings("textual-unlearning").forget_cap)
    assert fields("gradient-ascent", "forget_weight", "forget_cap") == (1.0, None)
    assert fields("grad-diff", "retain_weight", "retain_ce_weight", "forget_cap") == (0.0, 1.0, None)
    assert fields("kl-min", "retain_weight", "retain_ce_weight", "forget_cap") == (1.0, 0.0, None)
    assert fields("npo", "beta", "forget_weight", "retain_ce_weight") == (0.1, 1.0, 1.0)
    assert fields("simnpo", "beta", "gamma", "forget_weight", "retain_ce_weight") == (4.5, 0.0, 0.125, 1.0)
    assert fields("dpo", "beta", "retain_ce_weight") == (0.1, 1.0)
    assert fields("safe-unlearning", "forget_weight", "refuse_weight", "beta") == (0.3, 0.5, 1.0)
    assert fields("rmu", "steering", "retain_weight", "layer") == (6.5, 1200.0, 0.25)
    assert fields("circuit-breaker", "alpha", "layers", "retain_weight") == (10.0, (0.3125, 0.625), 1.0)
    assert fields("task-vector", "scale") == (1.0,)
