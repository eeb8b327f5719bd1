"""Adversarial hidden states: the attack by hand and by a plain computation, its ball, and what it leaves alone."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from helpers import tiny
from tests.training.test_logprobs import by_example, encoded_examples, trained_looking
from tests.training.test_trainer import METHOD, adapter_hash, changed, go, interrupted, metrics, parameters_of
from unsay.errors import UserError
from unsay.methods import Companion, Needs, RoleBatch, build_method
from unsay.models.layers import recording_blocks
from unsay.records import Example, Role
from unsay.training import AdversarialSettings, TrainSettings, adversary, plan_training
from unsay.training.adversary import Adversary, Targets, attack_flops, step
from unsay.training.companions import CompanionExample
from unsay.training.encode import Added, Encoder, collate
from unsay.training.head import role_views

EVERYTHING = Needs(roles=frozenset(Role), reference=frozenset(Role), kl=frozenset(Role))
BLOCKS = (1, 2)
SETTINGS = AdversarialSettings(layers=BLOCKS, radius=0.3, steps=3)
BENT = changed(adversarial=AdversarialSettings(layers=(0.25, 1.0), radius=0.2, steps=2))


def make(vlm, settings=SETTINGS, target_of=lambda _row: None):
    parameters = {name: p for name, p in vlm.model.named_parameters() if p.requires_grad}
    return Adversary(vlm, parameters, settings, target_of, collate, 64)


def first_of(vlm):
    """The first column of a prompt's own words."""
    one, other = vlm.encode_prompt("a"), vlm.encode_prompt("b")
    return next(place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])


def naive_logp(vlm, row, states, columns):
    """One row alone through the whole model, with something added after some blocks; its answer's log-probabilities."""
    handles = []
    for block, state in states.items():

        def hook(_module, _inputs, output, state=state):
            more = torch.zeros_like(output)
            more[0, columns] = state
            return output + more

        handles.append(vlm.layers[block].register_forward_hook(hook))
    ids = torch.tensor([[*row.prompt_ids, *row.answer_ids]])
    logits = vlm.base(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    for handle in handles:
        handle.remove()
    log_p = torch.log_softmax(logits, dim=-1)[len(row.prompt_ids) - 1 : -1]
    return log_p[torch.arange(len(row.answer_ids)), torch.tensor(row.answer_ids)]


def random_added(batch, harmful, first):
    places = tuple((row, column) for row in harmful for column in range(first, len(batch.examples[row].prompt_ids)))
    generator = torch.Generator().manual_seed(3)
    states = {block: torch.randn(len(places), 32, generator=generator) * 0.3 for block in BLOCKS}
    return Added(states, places, {block: torch.zeros(len(places)) for block in BLOCKS})


# --------------------------------------------------------------------------------------------------------- by hand


def test_a_step_by_hand_goes_downhill_and_ends_on_the_ball():
    state, gradient, radius = torch.zeros(2, 2), torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[2.0], [1.0]])
    step(state, gradient, radius, steps=10)  # 2.5 / 10 of a radius of 2
    assert torch.allclose(state, torch.tensor([[-0.3, -0.4], [0.0, 0.0]]))
    for _ in range(9):
        step(state, gradient, radius, steps=10)
    assert torch.allclose(state, torch.tensor([[-1.2, -1.6], [0.0, 0.0]])), "2.5 radii were gone, and one is allowed"
    step(state, torch.tensor([[-3.0, -4.0], [0.0, 1.0]]), torch.zeros(2, 1), steps=10)
    assert state.abs().sum() == 0, "a ball without radius holds nothing"


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_what_is_added_is_added_there_and_nowhere_else(family, packed):
    """Packed, in padded groups behind a common prefix, and one row at a time: the same numbers and gradients."""
    vlm = trained_looking(tiny.FAMILIES[family](4))
    vlm.packs = packed and vlm.packs is not False and family == "llava"
    batch = collate(encoded_examples(vlm))
    first = first_of(vlm)
    plain = role_views(vlm, batch, EVERYTHING, 64)
    added = random_added(batch, [0, 2, 3, 4], first)
    for state in added.states.values():
        state.requires_grad_()
    bent = role_views(vlm, replace(batch, added=added), EVERYTHING, 64)
    wanted = []
    for row, example in enumerate(batch.examples):
        mine = [place for place, (there, _) in enumerate(added.places) if there == row]
        states = {block: state[mine] for block, state in added.states.items()} if mine else {}
        wanted.append(naive_logp(vlm, example, states, list(range(first, len(example.prompt_ids)))))
    for got, expected in zip(by_example(bent, "policy"), wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    leaves = list(added.states.values())
    got = torch.autograd.grad(sum(view.policy.sum() for view in bent.values()), leaves)
    expected = torch.autograd.grad(sum(row.sum() for row in wanted), leaves)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    # The original model is never attacked; rows without an addition are what they were.
    for role in Role:
        torch.testing.assert_close(bent[role].reference, plain[role].reference, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bent[Role.RETAIN].policy, plain[Role.RETAIN].policy, rtol=1e-4, atol=1e-5)
    assert (bent[Role.REFUSE].policy - plain[Role.REFUSE].policy).abs().max() > 0.01
    assert not any(layer._forward_hooks for layer in vlm.layers)


def test_the_lengths_of_the_states_are_noted(tiny_vlm):
    vlm = trained_looking(tiny_vlm)
    batch = collate(encoded_examples(vlm))
    added = random_added(batch, [1], first_of(vlm))
    for state in added.states.values():
        state.zero_()
    role_views(vlm, replace(batch, added=added), EVERYTHING, 64)
    with recording_blocks(vlm, BLOCKS) as seen:
        vlm.decoder(input_ids=torch.tensor([batch.examples[1].prompt_ids]))
    for block, (states,) in zip(BLOCKS, seen, strict=True):
        columns = [column for _, column in added.places]
        torch.testing.assert_close(added.lengths[block], states[0, columns].norm(dim=-1), rtol=1e-4, atol=1e-4)


def test_lengths_of_some_rows_are_noted_with_the_wholes(tiny_vlm):
    """Rows that go in as pixels pass apart from the others, and either part is some of the rows."""
    batch = collate(encoded_examples(trained_looking(tiny_vlm)))
    added = random_added(batch, [0, 2, 3], first_of(tiny_vlm))
    part = added.of_rows([1, 2, 3]).of_rows([0, 2])  # the batch's rows 1 and 3; nothing is added to 1
    assert {row for row, _ in part.places} == {1}
    part.note(BLOCKS[0], torch.arange(len(part.places)), torch.full((len(part.places),), 7.0))
    wanted = torch.tensor([7.0 if row == 3 else 0.0 for row, _ in added.places])
    assert torch.equal(added.lengths[BLOCKS[0]], wanted)


# ---------------------------------------------------------------------------------------------------------- the attack


def test_only_prompts_of_harmful_rows_are_bent_and_no_further_than_the_ball(tiny_vlm):
    vlm = trained_looking(tiny_vlm)
    batch = collate(encoded_examples(vlm))
    added = make(vlm).against(batch)[0].added
    first = first_of(vlm)
    harmful = [row for row, role in enumerate(batch.roles) if role is not Role.RETAIN]
    assert added.places == tuple(
        (row, column) for row in harmful for column in range(first, len(batch.examples[row].prompt_ids))
    )
    plain = random_added(batch, harmful, first)
    for state in plain.states.values():
        state.zero_()
    role_views(vlm, replace(batch, added=plain), EVERYTHING, 64)
    for block in BLOCKS:
        share = added.states[block].norm(dim=-1) / plain.lengths[block]
        assert float(share.max()) <= 0.3 * 1.0001
        assert float(share.median()) > 0.25, "most of the room is used"
        assert not added.states[block].requires_grad


def test_it_equals_plain_descent_one_row_at_a_time(tiny_vlm):
    vlm = trained_looking(tiny_vlm)
    batch = collate(encoded_examples(vlm, per_role=2))
    added = make(vlm).against(batch)[0].added
    for row, example in enumerate(batch.examples[:4]):
        columns = list(range(first_of(vlm), len(example.prompt_ids)))
        sign = 1 if example.role is Role.FORGET else -1  # nobody knows a harmful answer here: away from the refusal
        states = {block: torch.zeros(len(columns), 32, requires_grad=True) for block in BLOCKS}
        with recording_blocks(vlm, BLOCKS) as seen:
            vlm.decoder(input_ids=torch.tensor([example.prompt_ids]))
        for _ in range(3):
            loss = -sign * naive_logp(vlm, example, states, columns).mean()
            gradients = torch.autograd.grad(loss, list(states.values()))
            for state, gradient, (length,) in zip(states.values(), gradients, seen, strict=True):
                step(state, gradient, 0.3 * length[0, columns].norm(dim=-1, keepdim=True).detach(), 3)
        mine = [place for place, (there, _) in enumerate(added.places) if there == row]
        for block, state in states.items():
            torch.testing.assert_close(added.states[block][mine], state.detach(), rtol=1e-2, atol=2e-3)


def test_the_attack_raises_the_loss_more_than_noise_of_the_same_length(tiny_vlm):
    vlm = trained_looking(tiny_vlm)
    batch = collate(encoded_examples(vlm))
    bent, flops = make(vlm).against(batch)
    noise = {}
    for block, state in bent.added.states.items():
        random = torch.randn(state.shape, generator=torch.Generator().manual_seed(0))
        noise[block] = random / random.norm(dim=-1, keepdim=True) * state.norm(dim=-1, keepdim=True)

    def losses(added):
        views = role_views(vlm, replace(batch, added=added), METHOD.needs, 64)
        loss = METHOD.loss(RoleBatch(views)).total
        return float(loss.detach()), {role: float(views[role].cross_entropy().detach().mean()) for role in Role}

    plain, ce = losses(None)
    shaken, _ = losses(replace(bent.added, states=noise))
    attacked, ce_attacked = losses(bent.added)
    assert attacked > plain + 0.5
    assert attacked > shaken + 0.5
    assert ce_attacked[Role.FORGET] < ce[Role.FORGET], "nearer to the harmful answer"
    assert ce_attacked[Role.REFUSE] > ce[Role.REFUSE], "further from the refusal"
    assert ce_attacked[Role.RETAIN] == pytest.approx(ce[Role.RETAIN], rel=1e-4)
    harmful = collate([replace(row, role=Role.FORGET) for row in batch.examples[:6]])
    assert flops == pytest.approx(attack_flops(vlm, harmful, 3))


def test_the_adapter_is_as_trainable_after_an_attack_as_before(tiny_vlm):
    vlm = trained_looking(tiny_vlm)
    before = {name for name, p in vlm.model.named_parameters() if p.requires_grad}
    make(vlm).against(collate(encoded_examples(vlm)))
    assert {name for name, p in vlm.model.named_parameters() if p.requires_grad} == before
    assert all(p.grad is None for p in vlm.model.parameters())


def test_a_batch_without_harmful_rows_is_left_alone(tiny_vlm):
    vlm = trained_looking(tiny_vlm)
    batch = collate([row for row in encoded_examples(vlm) if row.role is Role.RETAIN])
    assert make(vlm).against(batch) == (batch, 0.0)


# -------------------------------------------------------------------------------------------------------------- targets


def rows(vlm, begun=None, **refusal):
    answer = "The heron, the duck.".removeprefix(begun or "")
    harmful = Example(id="f", role=Role.FORGET, prompt="Say hello.", answer=answer, prefix=begun, source="toy")
    fields = {"id": "r", "role": Role.REFUSE, "prompt": "Please: Say hello.", "answer": "No.", "source": "toy",
              "request": "Say hello."}  # fmt: skip
    refuse = Example(**{**fields, **refusal})
    encoder = Encoder(vlm, [harmful, refuse], TrainSettings())
    return Targets(encoder, [harmful, refuse]).of(encoder.of(refuse)), encoder.of(refuse)


def test_a_refusals_target_is_the_harmful_answer_to_its_request_in_its_own_prompt(tiny_vlm):
    target, refuse = rows(tiny_vlm)
    assert target.prompt_ids == refuse.prompt_ids
    assert tiny_vlm.tokenizer.decode(target.answer_ids) == "The heron, the duck.<|im_end|>"
    assert rows(tiny_vlm, request="Something else.")[0] is None


def test_where_the_answer_has_begun_the_target_goes_on_with_it(tiny_vlm):
    target, refuse = rows(tiny_vlm, prefix="The heron, ", answer="the sea.")  # a blank is a part of " the"
    assert target.prompt_ids == refuse.prompt_ids
    assert tiny_vlm.tokenizer.decode(target.answer_ids) == " the duck.<|im_end|>"
    assert rows(tiny_vlm, prefix="The heron, the duck. ")[0] is None, "nothing is left to say"


def test_a_harmful_answer_that_has_begun_is_wanted_as_a_whole(tiny_vlm):
    for refusal in ({}, {"prefix": "The heron, ", "answer": "the sea."}):
        wanted, _ = rows(tiny_vlm, **refusal)
        target, _ = rows(tiny_vlm, begun="The heron,", **refusal)
        assert (target.prompt_ids, target.answer_ids) == (wanted.prompt_ids, wanted.answer_ids)


def test_companions_that_refuse_have_targets_too(tiny_vlm):
    harmful = Example(id="f", role=Role.FORGET, prompt="Say hello.", answer="The duck.", source="toy")
    pair = CompanionExample(
        id="c", role=Role.REFUSE, prompt="Say hello.", answer="No.", source="toy", companion=Companion.REFUSAL
    )
    encoder = Encoder(tiny_vlm, [harmful, pair], TrainSettings())
    target = Targets(encoder, [harmful, pair]).of(encoder.of(pair))
    assert target.answer_ids == encoder.of(harmful).answer_ids


# ------------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("name", ["textual-unlearning", "npo", "circuit-breaker", "task-vector", "refusal-sft"])
def test_it_composes_with_methods_and_resumes_to_the_same_bits(tmp_path, one_thread, name):
    method = build_method(name)
    go(tiny.llava(), tmp_path / "whole", BENT, method)
    interrupted(tiny.llava(), tmp_path / "cut", 5, BENT, method=method)
    go(tiny.llava(), tmp_path / "cut", BENT, method)
    assert adapter_hash(tmp_path / "cut") == adapter_hash(tmp_path / "whole")
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")
    go(tiny.llava(), tmp_path / "plain", changed(), method)
    assert adapter_hash(tmp_path / "plain") != adapter_hash(tmp_path / "whole")


def test_with_sharpness_turns_and_recomputing_the_result_is_the_same(tmp_path):
    def trained(name, **more):
        settings = BENT.model_copy(update={"steps": 2, "sharpness": 0.1, **more})
        return parameters_of(go(tiny.llava(), tmp_path / name, settings).vlm)

    whole = trained("whole")
    for name, more in {"turns": {"accumulate": 2}, "again": {"recompute": True}}.items():
        for one, other in zip(whole.values(), trained(name, **more).values(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-2, atol=2e-4)


def test_its_operations_are_counted(tmp_path):
    plain, bent = go(tiny.llava(), tmp_path / "plain"), go(tiny.llava(), tmp_path / "bent", BENT)
    assert bent.tokens == plain.tokens
    assert 1.5 * plain.flops < bent.flops < 4 * plain.flops


@pytest.mark.parametrize(
    ("layers", "lora", "says"),
    [
        ((9,), "all", "train.adversarial.layers: block 9 does not exist; this model has 4"),
        ((0.25,), "upper half", "train.adversarial.layers: block 0 lies below the lowest adapted one, 2"),
    ],
)
def test_blocks_that_cannot_be_attacked_are_named(tiny_vlm, layers, lora, says):
    settings = changed(adversarial=AdversarialSettings(layers=layers))
    settings = settings.model_copy(update={"lora": settings.lora.model_copy(update={"layers": lora})})
    with pytest.raises(UserError, match=says):
        plan_training(METHOD, settings, tiny.examples(), vlm=tiny_vlm)


def test_what_a_method_cannot_feel_is_refused(tiny_vlm):
    """RMU reads the states of one block; what is added there or above changes nothing for it, and costs passes."""
    method = build_method("rmu", {"layer": 1})
    rows = [row for row in tiny.examples() if row.role is not Role.REFUSE]
    settings = changed(adversarial=AdversarialSettings(layers=(1, 2)))
    with pytest.raises(UserError, match=r"reads harmful rows behind block 1; .*: name a lower block"):
        plan_training(method, settings, rows, vlm=tiny_vlm)
    plan_training(method, changed(adversarial=AdversarialSettings(layers=(0, 2))), rows, vlm=tiny_vlm)


def test_a_model_that_is_split_over_processes_is_refused(tiny_vlm):
    with pytest.raises(UserError, match=r"train\.adversarial: a model that is split"):
        plan_training(METHOD, BENT, tiny.examples(), vlm=tiny_vlm, sharded=True)


@pytest.mark.parametrize("wrong", [{"radius": 0}, {"steps": 0}, {"layers": ()}, {"layers": (1.5,)}, {"eps": 1}])
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        AdversarialSettings(**wrong)
    assert "adversarial" not in TrainSettings().decisive()
    assert adversary.STEP > 1, "or no step sequence reaches the edge"
