"""Methods through the real trainer: what they move, what they read of the model, and the rows made for them."""

import hashlib
import json
from itertools import pairwise

import pytest
import torch

from helpers import tiny
from helpers.harmful import harmful_examples
from helpers.training import train
from tests.training.test_logprobs import LAYERS, encoded_examples, trained_looking
from unsay.data.recipe import OwnAnswer, RecipeSettings, retain_examples
from unsay.errors import UserError
from unsay.methods import METHODS, Companion, Needs, build_method, default_settings
from unsay.models import LoraSettings, detach, load_adapter
from unsay.records import Example, Role, SourceRow
from unsay.training import BatchSettings, TrainSettings, trainer
from unsay.training.companions import Companions, part_of, surroundings
from unsay.training.encode import collate
from unsay.training.head import role_views
from unsay.training.likelihood import answer_losses
from unsay.training.optimizer import scale_adapter, scaled_adapter
from unsay.training.plan import plan_training, steps_of

QUICK = TrainSettings(
    steps=4, batch=BatchSettings(forget=2, refuse=2, retain=2), learning_rate=1e-2, warmup_steps=0, checkpoint_every=2
)

# -------------------------------------------------------------------------------------------------------- hidden states

BLOCKS = Needs(
    roles=frozenset(Role),
    kl=frozenset({Role.RETAIN}),
    hidden={Role.FORGET: (1.0, 2), Role.REFUSE: (0.5,), Role.RETAIN: "all"},
    reference_hidden=frozenset({Role.FORGET, Role.RETAIN}),
)
WANTED = {Role.FORGET: [3, 2], Role.REFUSE: [1], Role.RETAIN: [0, 1, 2, 3]}
"""The same blocks by their numbers, in a decoder of 4."""


def naive_hidden(vlm, rows):
    """Each row alone through the whole model: every block's output where its answer is predicted, [T, 4, H]."""
    out = []
    for row in rows:
        seen = []
        handles = [
            layer.register_forward_hook(lambda _m, _i, output: seen.append(output))  # noqa: B023, used at once
            for layer in vlm.layers
        ]
        ids = torch.tensor([[*row.prompt_ids, *row.answer_ids]])
        vlm.base(input_ids=ids, attention_mask=torch.ones_like(ids))
        for handle in handles:
            handle.remove()
        start = len(row.prompt_ids) - 1
        out.append(torch.stack([output[0, start : start + len(row.answer_ids)] for output in seen], dim=1))
    return out


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
@pytest.mark.parametrize("layers", LAYERS)
def test_hidden_states_equal_the_naive_computation(family, layers):
    vlm = trained_looking(tiny.FAMILIES[family](4), layers)
    rows = encoded_examples(vlm)
    views = role_views(vlm, collate(rows), BLOCKS, 64)
    current = naive_hidden(vlm, rows)
    with torch.no_grad(), vlm.model.disable_adapter():
        original = naive_hidden(vlm, rows)
    moved = 0.0
    for role, numbers in WANTED.items():
        view = views[role]
        mine = [index for index, row in enumerate(rows) if row.role is role]
        assert view.hidden.shape == (3, view.mask.shape[1], len(numbers), 32)
        assert (view.reference_hidden is None) == (role is Role.REFUSE)
        for place, index in enumerate(mine):
            got = view.hidden[place][view.mask[place]]
            torch.testing.assert_close(got, current[index][:, numbers], rtol=1e-4, atol=1e-4)
            if view.reference_hidden is not None:
                before = view.reference_hidden[place][view.mask[place]]
                torch.testing.assert_close(before, original[index][:, numbers], rtol=1e-4, atol=1e-4)
                moved = max(moved, float((got - before).detach().abs().max()))
        assert view.hidden[~view.mask].abs().sum() == 0
    assert moved > 0.01  # or the comparison says little
    assert not any(view.reference_hidden is not None and view.reference_hidden.requires_grad for view in views.values())


@pytest.mark.parametrize("layers", LAYERS)
def test_gradients_of_hidden_states_equal_the_naive_computation(tiny_vlm, layers):
    vlm = trained_looking(tiny_vlm, layers)
    rows = encoded_examples(vlm)
    parameters = [p for p in vlm.model.parameters() if p.requires_grad]

    def objective(of_role):
        return sum((index + 1) * h.square().mean() for index, h in enumerate(of_role))

    views = role_views(vlm, collate(rows), BLOCKS, 64)
    got = objective(row[mask] for role in Role for row, mask in zip(views[role].hidden, views[role].mask, strict=True))
    wanted = objective(h[:, WANTED[row.role]] for h, row in zip(naive_hidden(vlm, rows), rows, strict=True))
    left = torch.autograd.grad(got, parameters, allow_unused=True)
    right = torch.autograd.grad(wanted, parameters, allow_unused=True)
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert max(float(g.abs().max()) for g in right if g is not None) > 0.001


def test_hidden_states_are_kept_only_where_asked_for(tiny_vlm):
    vlm = trained_looking(tiny_vlm)
    rows = encoded_examples(vlm)
    views = role_views(vlm, collate(rows), Needs(roles=frozenset(Role)), 64)
    assert all(view.hidden is None and view.reference_hidden is None for view in views.values())
    role_views(vlm, collate(rows), BLOCKS, 64)
    assert not any(layer._forward_hooks for layer in vlm.layers)


def test_hidden_states_do_not_change_the_log_probabilities(tiny_vlm):
    vlm = trained_looking(tiny_vlm, "upper half")
    batch = collate(encoded_examples(vlm))
    plain = role_views(vlm, batch, Needs(roles=frozenset(Role), kl=BLOCKS.kl), 64)
    read = role_views(vlm, batch, BLOCKS, 64)
    assert all(torch.equal(plain[role].policy, read[role].policy) for role in Role)
    torch.testing.assert_close(plain[Role.RETAIN].kl, read[Role.RETAIN].kl)


@pytest.mark.parametrize(
    ("name", "settings", "layers", "says"),
    [
        ("rmu", {"layer": 4}, "all", "block 4 does not exist; this model has 4"),
        ("circuit-breaker", {"layers": [0.5, 9]}, "all", "block 9 does not exist"),
        ("rmu", {"layer": 1}, "upper half", "block 1 lies below the lowest adapted one, 2"),
        ("circuit-breaker", {}, "upper half", "block 0 lies below the lowest adapted one, 2"),
    ],
)
def test_blocks_that_cannot_be_read_or_changed_are_one_line(tiny_vlm, tmp_path, name, settings, layers, says):
    changed = QUICK.model_copy(update={"lora": LoraSettings(layers=layers)})
    with pytest.raises(UserError, match=says) as caught:
        train(tiny_vlm, paired(), build_method(name, settings), changed, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "adapter").exists()
    plan_training(build_method("rmu", {"layer": 3}), QUICK, paired(), vlm=detach(tiny_vlm))  # the model is whole again


# ----------------------------------------------------------------------------------------------------------- companions


def example(role, request, answer, prompt=None, **more):
    name = f"{role.value}-{hashlib.sha256(f'{request}{answer}{prompt}'.encode()).hexdigest()[:6]}"
    return Example(id=name, role=role, prompt=prompt or request, answer=answer, source="toy", request=request, **more)


def paired(count=4):
    """Harmless examples in which forget and refuse ask the same, in two formats that retain has as well."""
    rows = []
    for index in range(count):
        request, other = f"{tiny.PROMPTS[index]} ({index})", f"{tiny.PROMPTS[-1 - index]} (normal {index})"
        wrapped = "Do what this text says: {}" if index % 2 else "{}"
        rows += [
            example(Role.FORGET, request, tiny.ANSWERS[index], wrapped.format(request)),
            example(Role.REFUSE, request, "I will not.", f"Follow this. {request}"),
            example(Role.REFUSE, request, "Not that.", wrapped.format(request)),
            example(Role.RETAIN, other, tiny.ANSWERS[-1 - index], wrapped.format(other)),
            example(Role.RETAIN, f"{other}?", tiny.ANSWERS[index - 2], f"Follow this. {other}?", complete=False),
        ]
    return rows


def needing(companion, role=Role.FORGET):
    return Needs(roles=frozenset({role}), companions={companion: role})


def pairs_of(plan, companion, role=Role.FORGET):
    """(row, its companion) of a whole plan, in order."""
    out = []
    for rows in plan:
        asking = [row for row in rows if part_of(row) is role]
        made = [row for row in rows if part_of(row) is companion]
        out += list(zip(asking, made, strict=True))
    return out


def test_refusals_answer_the_very_prompt_whose_harmful_answer_they_stand_against():
    rows = paired()
    plan = steps_of(rows, needing(Companion.REFUSAL), QUICK)
    met = pairs_of(plan, Companion.REFUSAL)
    assert len(met) == 8
    for forget, refusal in met:
        assert (refusal.prompt, refusal.request) == (forget.prompt, forget.request)
        assert refusal.answer in {"I will not.", "Not that."}
        assert refusal.role is Role.REFUSE
    # Two rounds through four requests: each of a request's two refusals once.
    for request in {forget.request for forget, _ in met}:
        assert {r.answer for f, r in met if f.request == request} == {"I will not.", "Not that."}


def test_companions_are_the_same_in_every_process_and_follow_the_seed():
    rows = paired()
    needs = build_method("dpo").needs
    plan = steps_of(rows, needs, QUICK)
    assert plan == steps_of(list(reversed(rows)), needs, QUICK)
    assert plan != steps_of(rows, needs, QUICK.model_copy(update={"seed": 1}))
    assert [part_of(row) for row in plan[0]] == [
        *[Role.FORGET] * 2, *[Role.RETAIN] * 2, *[Companion.REFUSAL] * 2
    ]  # fmt: skip


def test_mismatched_answers_are_normal_ones_to_other_prompts_and_keep_their_open_end():
    rows = paired()
    retain = {row.answer: row for row in rows if row.role is Role.RETAIN}
    settings = QUICK.model_copy(update={"steps": 8})
    met = pairs_of(steps_of(rows, needing(Companion.MISMATCH), settings), Companion.MISMATCH)
    assert len({mismatch.answer for _, mismatch in met}) == len(retain)
    for forget, mismatch in met:
        assert mismatch.prompt == forget.prompt
        assert mismatch.answer in retain
        assert mismatch.role is Role.RETAIN
    ends = {(row.answer, row.complete) for row in rows if row.role is Role.RETAIN}
    assert {(mismatch.answer, mismatch.complete) for _, mismatch in met} <= ends


def test_look_alikes_have_the_same_words_around_another_request():
    rows = paired()
    met = pairs_of(steps_of(rows, needing(Companion.DECOUPLE), QUICK), Companion.DECOUPLE)
    assert {surroundings(forget) for forget, _ in met} == {"text \0", "text Do what this text says: \0"}
    for forget, twin in met:
        assert surroundings(twin) == surroundings(forget)
        assert twin.request != forget.request
        assert twin.role is Role.RETAIN


def test_the_same_words_beside_a_harmless_picture_come_before_any_other_look_alike():
    forget = example(Role.FORGET, "[request 1]", "[answer 1]", image="harmful.png")
    normal = example(Role.RETAIN, "[request 1]", "[normal answer]", image="harmless.png")
    other = example(Role.RETAIN, "[request 2]", "[another]", image="other.png")
    assert surroundings(other) == surroundings(forget) != surroundings(other.model_copy(update={"image": None}))
    made = [Companions(Companion.DECOUPLE, [forget, normal, other], 0).of(forget) for _ in range(3)]
    assert {(row.image, row.answer) for row in made} == {("harmless.png", "[normal answer]")}


def test_a_request_that_stands_whole_in_a_garbled_scan_has_a_look_alike():
    """The words beside it are noise that no other scan has; both end with the same pointing words."""
    forget = example(Role.FORGET, "bake bread", "[answer]", "St eps to ~~ bake bread ..\n 1 .\nFill in the list.")
    normal = example(
        Role.RETAIN, "Paint a chair", "[normal]", "Ste ps Steps to pa int a chair\n 1 .\nFill in the list."
    )
    assert surroundings(forget) != surroundings(normal) == "text Fill in the list."
    assert Companions(Companion.DECOUPLE, [forget, normal], 0).of(forget).answer == "[normal]"


def test_surroundings_of_lists_and_pictures():
    listed = example(Role.RETAIN, "Tell me how to bake bread.", "Mix.", "Methods to bake bread.\n1.\n2.\n\nFill it in.")
    assert surroundings(listed) == "text \0\n1.\n2.\n\nFill it in."
    drawn = example(Role.RETAIN, "Say hello.", "Hello.", "Do what the picture says.", image="a.png")
    assert surroundings(drawn) == "picture Do what the picture says."


@pytest.mark.parametrize(
    ("companion", "without", "says"),
    [
        (Companion.REFUSAL, Role.REFUSE, "no refuse examples, but the method needs their answers"),
        (Companion.MISMATCH, Role.RETAIN, "no retain examples, but the method needs their answers"),
        (Companion.DECOUPLE, Role.RETAIN, "no retain examples, but the method needs their answers"),
    ],
)
def test_missing_answers_are_one_line(companion, without, says):
    rows = [row for row in paired() if row.role is not without]
    with pytest.raises(UserError, match=says):
        steps_of(rows, needing(companion), QUICK)


def test_a_row_without_a_companion_is_named():
    forget = example(Role.FORGET, "[request 1]", "[answer 1]", "Odd words: [request 1]")
    rows = [forget, example(Role.REFUSE, "[request 2]", "No."), example(Role.RETAIN, "[request 3]", "[answer 3]")]
    for companion, says in ((Companion.REFUSAL, "no refuse example of the same request"),
                            (Companion.DECOUPLE, "no harmless look-alike")):  # fmt: skip
        with pytest.raises(UserError, match=says) as caught:
            steps_of(rows, needing(companion), QUICK)
        assert forget.id in str(caught.value)
        assert "\n" not in str(caught.value)


def recipe_examples():
    """What the built-in recipe makes of invented requests, in all of its formats."""
    things = ("bread", "soup", "a kite", "a shelf", "a garden", "tea", "a poem", "a map", "paper boats", "a lantern")
    harmful = [SourceRow(text=f"[request {index}] about {thing}", source="toy") for index, thing in enumerate(things)]
    own = [OwnAnswer(request=row.text, answer=f"[answer {n}]", complete=n % 2 == 0) for n, row in enumerate(harmful)]
    verbs = ("make", "repair", "describe", "draw", "sell", "clean", "carry", "explain", "buy", "paint", "copy", "name")
    normal = [
        SourceRow(text=f"{verb.title()} {thing} for {count} people", source="toy", answers=(f"{verb} {thing}.",))
        for verb in verbs for thing in things for count in ("two", "three", "many")
    ]  # fmt: skip
    settings = RecipeSettings()
    retain, _ = retain_examples(normal, settings, 0)
    return harmful_examples(harmful, own, settings, 0) + retain


@pytest.mark.parametrize("name", METHODS)
def test_the_built_in_recipe_has_what_every_method_needs(name):
    method, settings = build_method(name), TrainSettings(steps=20)
    plan = steps_of(recipe_examples(), method.needs, settings)
    for rows in plan:
        parts = [part_of(row) for row in rows]
        assert parts == [part for part in method.needs.parts for _ in range(8)]


# ------------------------------------------------------------------------------------------------------- every method

# A random model begins at about 6 nats, beyond bounds and margins, and learns frequent tokens first, also harmful ones.
SETTINGS = {
    "textual-unlearning": {"mismatch_weight": 0.1},
    "simnpo": {"beta": 0.2, "forget_weight": 1.0, "retain_ce_weight": 0.1},
    "safe-unlearning": {"forget_weight": 3.0, "retain_ce_weight": 0.1},
}
MOVES = {
    "textual-unlearning": {"forget_ce": +1, "refuse_ce": -1},
    "refusal-sft": {"refuse_ce": -1},
    "gradient-ascent": {"forget_ce": +1},
    "grad-diff": {"forget_ce": +1, "retain_ce_loss": -1},
    "kl-min": {"forget_ce": +1},
    "npo": {"forget_ce": +1, "forget_loss": -1},
    "simnpo": {"forget_ce": +1, "forget_loss": -1},
    "dpo": {"forget_ce": +1, "preference_loss": -1},
    "idk": {"refuse_ce": -1},
    "safe-unlearning": {"refuse_ce": -1, "forget_ce": +1},
    "prompt-decouple": {"refuse_ce": -1, "decouple_ce": -1},
    "rmu": {"steer_distance": -1},
    "circuit-breaker": {"cosine": -1},
    "task-vector": {"forget_ce": -1},
    "rep-select": {"forget_ce": -1},
}
"""What a packaged method's own numbers must do over a few steps: +1 up, −1 down. Of any other method the loss falls."""


class StopError(Exception):
    """Raised in place of a kill."""


def metrics(folder):
    rows = [json.loads(line) for line in (folder / "train" / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def adapter_bytes(folder):
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def settings_of(name):
    cap = {"forget_cap": 12.0} if getattr(default_settings(name), "forget_cap", None) is not None else {}
    return {**cap, **SETTINGS.get(name, {})}


def test_there_is_a_direction_for_every_packaged_method():
    assert MOVES.keys() == {name for name, entry in METHODS.items() if entry.version is not None}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_moves_its_own_numbers(name, tmp_path, one_thread):
    method = build_method(name, settings_of(name))
    result = train(tiny.llava(), paired(), method, QUICK, tmp_path, probe_examples=tiny.probe()[:2])
    assert result.stopped == "finished"
    rows = metrics(tmp_path)
    for number, sign in MOVES.get(name, {"loss": -1}).items():
        early, late = rows[0][number], rows[-1][number]
        assert sign * (late - early) > 0.01 * abs(early), (number, early, late)


@pytest.mark.parametrize("name", ["textual-unlearning", "dpo", "circuit-breaker", "task-vector"])
def test_a_method_survives_a_kill(name, tmp_path, one_thread):
    """One of each kind: roles alone, pairs, hidden states, and an adapter that is saved negated."""
    method, whole, cut = build_method(name, settings_of(name)), tmp_path / "whole", tmp_path / "cut"
    train(tiny.llava(), paired(), method, QUICK, whole, probe_examples=tiny.probe()[:2])

    def stop(step, _steps, _row):
        if step == 3:
            raise StopError

    with pytest.raises(StopError):
        train(tiny.llava(), paired(), method, QUICK, cut, probe_examples=tiny.probe()[:2], progress=stop)
    train(tiny.llava(), paired(), method, QUICK, cut, probe_examples=tiny.probe()[:2])
    assert adapter_bytes(cut) == adapter_bytes(whole)
    assert metrics(cut) == metrics(whole)


# --------------------------------------------------------------------------------------------------------- task vectors


def forget_losses(vlm):
    """Cross-entropy of each harmful answer, by way of the suite's own measure."""
    from unsay.records import Kind, Modality, Prompt

    prompts = [
        Prompt(id=row.id, suite="toy", kind=Kind.UTILITY, modality=Modality.TEXT, prompt=row.prompt,
               request=row.prompt, group=row.id, reference=row.answer)
        for row in paired() if row.role is Role.FORGET
    ]  # fmt: skip
    return sum(answer_losses(vlm, prompts)[0])


def lora_b(vlm):
    return {name: p.detach().clone() for name, p in vlm.model.named_parameters() if "lora_B" in name}


def test_the_saved_task_vector_takes_away_what_was_learnt(tmp_path):
    before = forget_losses(tiny.llava())
    learnt = train(tiny.llava(), paired(), build_method("task-vector"), QUICK, tmp_path)
    rows = metrics(tmp_path)
    assert rows[-1]["forget_ce"] < rows[0]["forget_ce"]  # it learned to say it ...
    assert forget_losses(learnt.vlm) > before + 0.1  # ... and then the opposite is used
    saved = load_adapter(tiny.llava(), tmp_path / "adapter")
    assert forget_losses(saved) == pytest.approx(forget_losses(learnt.vlm))
    state = torch.load(sorted((tmp_path / "train/checkpoints").glob("*.pt"))[-1], weights_only=True)["adapter"]
    assert all(torch.equal(-state[name], value) for name, value in lora_b(saved).items())  # checkpoints are as trained


def test_the_scale_multiplies_the_task_vector(tmp_path):
    settings = QUICK.model_copy(update={"steps": 2})
    whole = train(tiny.llava(), paired(), build_method("task-vector"), settings, tmp_path / "1")
    half = train(tiny.llava(), paired(), build_method("task-vector", {"scale": 0.5}), settings, tmp_path / "2")
    for name, value in lora_b(half.vlm).items():
        assert torch.equal(value, 0.5 * lora_b(whole.vlm)[name])


def test_the_probe_watches_the_adapter_that_will_be_used(tmp_path, monkeypatch):
    """A probe on the unused sign would see no collapse where there is one."""
    signs, look = [], trainer.role_views

    def watched(vlm, batch, needs, *more):
        signs.append((needs is trainer.PROBE_NEEDS, {k: v for k, v in lora_b(vlm).items() if v.abs().sum() > 0}))
        return look(vlm, batch, needs, *more)

    monkeypatch.setattr(trainer, "role_views", watched)
    settings = QUICK.model_copy(update={"steps": 3, "checkpoint_every": 2})
    train(tiny.llava(), paired(), build_method("task-vector"), settings, tmp_path, probe_examples=tiny.probe()[:2])
    looks = [(before, now) for before, now in pairwise(signs) if before[0] and not now[0]]
    assert looks
    for (_, probed), (_, trained) in looks:
        assert probed.keys() == trained.keys() != set()
        assert all(torch.equal(probed[name], -trained[name]) for name in trained)


def test_multiplying_for_a_while_leaves_every_bit_as_it_was(tiny_vlm):
    vlm = trained_looking(tiny_vlm)
    parameters = {name: p for name, p in vlm.model.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    with scaled_adapter(parameters, -0.3):
        for name, p in parameters.items():
            factor = -0.3 if "lora_B" in name else 1.0
            torch.testing.assert_close(p.detach(), factor * before[name])
    assert all(torch.equal(p, before[name]) for name, p in parameters.items())
    scale_adapter(parameters, 1.0)
    assert all(torch.equal(p, before[name]) for name, p in parameters.items())
