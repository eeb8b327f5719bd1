"""Losses against arithmetic by hand."""

import math

import pytest
import torch

from unsay.errors import UserError
from unsay.methods import METHODS, Needs, RoleView, build_method, default_settings
from unsay.records import Role

# Two examples: the first has two answer tokens, the second three. Where the mask is False stands rubbish.
RUBBISH = -1e6
MASK = torch.tensor([[True, True, False], [True, True, True]])


def leaf(rows):
    return torch.tensor(rows, requires_grad=True)


def forget(*, far=-4.0):
    """Cross-entropies (1 + 3) / 2 = 2 and (−far·3) / 3 = −far."""
    return RoleView(leaf([[-1.0, -3.0, RUBBISH], [far, far, far]]), MASK)


def refuse():
    """Cross-entropies (0.5 + 1.5) / 2 = 1 and (1 + 2 + 6) / 3 = 3; their mean is 2."""
    return RoleView(leaf([[-0.5, -1.5, RUBBISH], [-1.0, -2.0, -6.0]]), MASK)


def retain():
    """KL means (0.2 + 0.4) / 2 = 0.3 and (0.9 + 0.0 + 0.6) / 3 = 0.5; first tokens 0.2 and 0.9."""
    return RoleView(
        torch.zeros(2, 3),
        MASK,
        kl=leaf([[0.2, 0.4, -RUBBISH], [0.9, 0.0, 0.6]]),
    )


def batch(**views):
    return {Role(name): view for name, view in {"refuse": refuse(), "retain": retain(), **views}.items()}


def test_textual_unlearning_by_hand():
    method = build_method("textual-unlearning", {"forget_cap": 10.0})
    terms = method.loss(batch(forget=forget()))
    # forget: −0.5 · (2 + 4) / 2; refuse: 1 · 2; retain: 1 · (0.3 + 0.5) / 2
    assert {name: float(term.detach()) for name, term in terms.terms.items()} == pytest.approx(
        {"forget": -1.5, "refuse": 2.0, "retain": 0.4}
    )
    assert float(terms.total.detach()) == pytest.approx(-1.5 + 2.0 + 0.4)
    assert {name: float(meter) for name, meter in terms.meters.items()} == pytest.approx(
        {"forget_ce": 3.0, "refuse_ce": 2.0}
    )


def test_weights_multiply_their_terms():
    settings = {"forget_weight": 2.0, "refuse_weight": 3.0, "retain_weight": 5.0, "forget_cap": None}
    terms = build_method("textual-unlearning", settings).loss(batch(forget=forget())).terms
    assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(
        {"forget": -2 * 3.0, "refuse": 3 * 2.0, "retain": 5 * 0.4}
    )


def test_cap_bounds_the_value_and_stops_the_gradient_of_examples_beyond_it():
    view = forget(far=-4.0)
    terms = build_method("textual-unlearning", {"forget_cap": 3.0}).loss(batch(forget=view))
    # −0.5 · (2 + min(4, 3)) / 2
    assert float(terms.terms["forget"].detach()) == pytest.approx(-1.25)
    terms.total.backward()
    # Minimising −0.5 · CE pushes log-probabilities down: d/d logp = +0.5 / 2 examples / 2 tokens; nothing past the cap.
    assert view.policy.grad.tolist() == [[0.125, 0.125, 0.0], [0.0, 0.0, 0.0]]


def test_without_a_cap_ascent_is_raw_and_unbounded():
    view = forget(far=-400.0)
    terms = build_method("textual-unlearning", {"forget_cap": None}).loss(batch(forget=view))
    assert float(terms.terms["forget"].detach()) == pytest.approx(-0.5 * (2 + 400) / 2)
    terms.total.backward()
    assert view.policy.grad[1].tolist() == pytest.approx([0.5 / 2 / 3] * 3)


def test_meter_shows_the_uncapped_cross_entropy_without_gradient():
    terms = build_method("textual-unlearning", {"forget_cap": 0.5}).loss(batch(forget=forget()))
    assert float(terms.meters["forget_ce"]) == pytest.approx(3.0)
    assert not any(meter.requires_grad for meter in terms.meters.values())


@pytest.mark.parametrize("name", METHODS)
def test_decision_weight_looks_at_first_tokens_only(name):
    view = retain()
    views = batch(forget=forget(), retain=view)
    settings = {"retain_weight": 0.0, "refuse_weight": 0.0, "decision_weight": 2.0}
    terms = build_method(name, settings).loss(views)
    assert float(terms.terms["decision"].detach()) == pytest.approx(2 * (0.2 + 0.9) / 2)
    terms.terms["decision"].backward()
    assert view.kl.grad.tolist() == [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize("name", METHODS)
def test_padding_never_counts(name):
    """KL averaged over padding is a bug that others shipped."""
    views = batch(forget=forget())
    total = build_method(name).loss(views).total
    total.backward()
    for view in views.values():
        for tensor in (view.policy, view.kl):
            if tensor is not None and tensor.grad is not None:
                assert tensor.grad[0, 2] == 0
    clean = {
        role: RoleView(
            view.policy.detach().masked_fill(~MASK, 0.0),
            MASK,
            kl=None if view.kl is None else view.kl.detach().masked_fill(~MASK, 0.0),
        )
        for role, view in views.items()
    }
    assert float(build_method(name).loss(clean).total) == pytest.approx(float(total.detach()))


def test_refusal_sft_by_hand_and_it_forgets_nothing():
    method = build_method("refusal-sft")
    assert Role.FORGET not in method.needs.roles
    terms = method.loss(batch())
    assert {name: float(term.detach()) for name, term in terms.terms.items()} == pytest.approx(
        {"refuse": 2.0, "retain": 0.4}
    )


def test_retain_without_kl_is_a_programming_error():
    bare = RoleView(torch.zeros(2, 3), MASK)
    with pytest.raises(ValueError, match="KL"):
        build_method("refusal-sft").loss(batch(retain=bare))


def test_needs_must_be_of_its_own_roles():
    with pytest.raises(ValueError):
        Needs(roles=frozenset({Role.REFUSE}), kl=frozenset({Role.RETAIN}))


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("gradient-magic", {}, "unknown 'gradient-magic'"),
        ("textual-unlearning", {"forget_wieght": 1.0}, "forget_wieght"),
        ("textual-unlearning", {"forget_weight": -1.0}, "forget_weight"),
        ("textual-unlearning", {"forget_cap": 0}, "forget_cap"),
        ("refusal-sft", {"forget_weight": 1.0}, "forget_weight"),
        ("refusal-sft", {"retain_weight": "much"}, "retain_weight"),
    ],
)
def test_bad_names_and_settings_get_one_line(name, settings, says):
    with pytest.raises(UserError) as caught:
        build_method(name, settings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_defaults_are_the_papers_weights():
    settings = default_settings("textual-unlearning")
    assert (settings.forget_weight, settings.refuse_weight, settings.retain_weight) == (0.5, 1.0, 1.0)
    assert math.isfinite(settings.forget_cap)
