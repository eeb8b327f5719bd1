"""The refusal direction: projections by hand, hooks against changed weights, planted weakness and strength."""

import pytest
import torch

from helpers import tiny
from helpers.families.gemma import gemma3
from unsay.errors import UserError
from unsay.files import write_rows
from unsay.generation import GenerationSettings
from unsay.models import load
from unsay.models.layers import recording_blocks
from unsay.records import Role
from unsay.robustness import ablate
from unsay.robustness.bench import Bench
from unsay.scoring.robustness import Subject

SETTINGS = GenerationSettings(max_new_tokens=4)
HARMFUL = tuple(f"{prompt} ({n})" for n in range(4) for prompt in tiny.PROMPTS[:3])
HARMLESS = tuple(f"{prompt} ({n})" for n in range(4) for prompt in tiny.PROMPTS[3:])


@pytest.fixture
def direction():
    drawn = torch.randn(32, generator=torch.Generator().manual_seed(0))
    return drawn / drawn.norm()


@pytest.fixture
def opening(monkeypatch):
    """A refusal is an answer that begins with a Z."""
    monkeypatch.setattr("unsay.generation.openings.OPENINGS", ("Z",))


def test_a_projection_by_hand():
    states = torch.tensor([[3.0, 4.0], [1.0, -1.0]])
    assert ablate.without(states, torch.tensor([0.6, 0.8])).flatten().tolist() == pytest.approx(
        [0.0, 0.0, 1.12, -0.84], abs=1e-6
    )
    assert torch.equal(ablate.without(states, torch.zeros(2)), states)
    assert ablate.without(states.bfloat16(), torch.tensor([1.0, 0.0])).dtype is torch.bfloat16


def test_nothing_in_the_stream_has_a_part_along_the_direction(any_vlm, direction):
    ids = torch.tensor([any_vlm.encode_prompt("Say hello.")])
    numbers = list(range(len(any_vlm.layers)))
    with torch.no_grad(), recording_blocks(any_vlm, numbers) as before:
        any_vlm.decoder(input_ids=ids)
    with torch.no_grad(), ablate.ablated(any_vlm, direction), recording_blocks(any_vlm, numbers) as after:
        any_vlm.decoder(input_ids=ids)
    assert min(float((out[0] @ direction).abs().max()) for out in before) > 0.1
    assert max(float((out[0] @ direction).abs().max()) for out in after) < 1e-4
    with torch.no_grad(), recording_blocks(any_vlm, numbers) as again:
        any_vlm.decoder(input_ids=ids)
    assert all(torch.equal(one[0], other[0]) for one, other in zip(before, again, strict=True))


def test_norms_that_stand_between_a_part_and_the_stream_put_nothing_back(direction, tmp_path):
    """Gemma 3 adds what its parts wrote through norms, and a trained norm scales each number apart."""
    gemma3(tmp_path / "gemma3")
    vlm = load(str(tmp_path / "gemma3"))
    generator = torch.Generator().manual_seed(1)
    for layer in vlm.layers:
        for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm):
            norm.weight.data = torch.randn(32, generator=generator)
    read = []  # by each feed-forward part's own norm
    for layer in vlm.layers:
        layer.pre_feedforward_layernorm.register_forward_pre_hook(
            lambda _norm, inputs: read.append(inputs[0] @ direction)
        )
    ids = torch.tensor([vlm.encode_prompt("Say hello.")])
    with torch.no_grad():
        vlm.decoder(input_ids=ids)
        with ablate.ablated(vlm, direction):
            vlm.decoder(input_ids=ids)
    along = [float(part.abs().max()) for part in read]
    assert len(along) == 2 * len(vlm.layers)
    assert min(along[: len(vlm.layers)]) > 0.1
    assert max(along[len(vlm.layers) :]) < 1e-4


def test_hooks_do_what_changed_weights_do(tiny_vlm, direction):
    """Arditi et al., section 4: every matrix that writes into the stream, W ← W − r̂ r̂ᵀ W."""
    ids = torch.tensor([tiny_vlm.encode_prompt("Say hello.")])
    with torch.no_grad(), ablate.ablated(tiny_vlm, direction):
        hooked = tiny_vlm.decoder(input_ids=ids).last_hidden_state
    project = torch.eye(32) - torch.outer(direction, direction)
    embeddings = tiny_vlm.base.get_input_embeddings()
    embeddings.weight.data = embeddings.weight.data @ project
    for layer in tiny_vlm.layers:
        for writer in (layer.self_attn.o_proj, layer.mlp.down_proj):
            writer.weight.data = project @ writer.weight.data
    with torch.no_grad():
        changed = tiny_vlm.decoder(input_ids=ids).last_hidden_state
    assert torch.allclose(hooked, changed, rtol=1e-4, atol=1e-4)


def test_directions_are_differences_of_means_behind_the_lower_blocks(tiny_vlm):
    found = ablate.directions(tiny_vlm, ablate.Prompts(HARMFUL, HARMLESS))
    positions = ablate.behind_request(tiny_vlm)
    assert positions > 1
    assert found.shape == (positions, 4, 32)  # 80 % of 4 blocks, rounded up
    means = []
    for prompts in (HARMFUL, HARMLESS):
        states = []  # at the last position but one
        for prompt in prompts:
            with torch.no_grad(), recording_blocks(tiny_vlm, [1]) as out:
                tiny_vlm.decoder(input_ids=torch.tensor([tiny_vlm.encode_prompt(prompt)]))
            states.append(out[0][0][0, -2])
        means.append(torch.stack(states).mean(dim=0))
    by_hand = means[0] - means[1]
    assert torch.allclose(found[-2, 1], by_hand / by_hand.norm(), atol=1e-4)
    assert found.norm(dim=-1).flatten().tolist() == pytest.approx([1.0] * positions * 4)


def test_the_template_behind_a_request_is_what_prompts_end_alike_in(any_vlm):
    ids = any_vlm.encode_prompt("Blue, or is it red")[-ablate.behind_request(any_vlm) :]
    rendered = any_vlm.render("Blue, or is it red")
    assert any_vlm.tokenizer.decode(ids).strip() == rendered[rendered.index("it red") + len("it red") :].strip()


def refusing(vlm, reads):
    """Make the model begin with a Z where its last state lies along `reads`, in a head of its own."""
    token = vlm.tokenizer("Z", add_special_tokens=False)["input_ids"][0]
    head = torch.nn.Linear(32, vlm.lm_head.out_features, bias=False)
    head.weight.data = vlm.lm_head.weight.data.clone() * 0.05
    head.weight.data[token] = reads
    vlm.base.lm_head = head.requires_grad_(False)
    return vlm


def last_hidden(vlm, prompts):
    with torch.no_grad():
        return torch.cat(
            [vlm.decoder(input_ids=torch.tensor([vlm.encode_prompt(p)])).last_hidden_state[:, -1] for p in prompts]
        )


def mean_odds(vlm, prompts):
    odds = ablate.refusal_log_odds(vlm, prompts, SETTINGS)
    return sum(odds) / len(odds)


def test_a_refusal_that_hangs_on_one_direction_is_found(tiny_vlm, opening, monkeypatch):
    """The planted weakness: the head reads the difference between harmful and harmless prompts, and nothing else."""
    monkeypatch.setattr(ablate, "MOST_KL", 1.0)  # one number of 32 carries much of what a tiny model says
    fit, choosing = ablate.Prompts(HARMFUL, HARMLESS).split()
    difference = last_hidden(tiny_vlm, HARMFUL).mean(dim=0) - last_hidden(tiny_vlm, HARMLESS).mean(dim=0)
    middle = (last_hidden(tiny_vlm, HARMFUL).mean(dim=0) + last_hidden(tiny_vlm, HARMLESS).mean(dim=0)) / 2
    reads = difference - middle * (difference @ middle) / (middle @ middle)
    vlm = refusing(tiny_vlm, 12 * reads / (reads @ difference))
    before = mean_odds(vlm, choosing.harmful)
    assert before > mean_odds(vlm, choosing.harmless) + 5
    choice = ablate.choose(vlm, ablate.directions(vlm, fit), choosing, SETTINGS)
    assert choice is not None
    assert sum(choice.log_odds) / len(choice.log_odds) < before - 3
    assert mean_odds(vlm, choosing.harmful) == pytest.approx(before)  # nothing stays behind


def test_a_refusal_of_everything_is_no_direction_between_two_kinds(tiny_vlm, opening):
    """The planted strength: what harmful and harmless prompts share cannot be their difference."""
    fit, choosing = ablate.Prompts(HARMFUL, HARMLESS).split()
    shared = last_hidden(tiny_vlm, (*HARMFUL, *HARMLESS)).mean(dim=0)
    vlm = refusing(tiny_vlm, 40 * shared / (shared @ shared))
    assert mean_odds(vlm, choosing.harmful) > 10
    choice = ablate.choose(vlm, ablate.directions(vlm, fit), choosing, SETTINGS)
    assert choice is None or sum(choice.log_odds) / len(choice.log_odds) > 10


def test_no_direction_is_taken_that_changes_harmless_answers(tiny_vlm, monkeypatch):
    monkeypatch.setattr(ablate, "MOST_KL", -1.0)
    fit, choosing = ablate.Prompts(HARMFUL, HARMLESS).split()
    assert ablate.choose(tiny_vlm, ablate.directions(tiny_vlm, fit), choosing, SETTINGS) is None


def test_prompts_are_split_and_never_both_make_and_choose_a_direction():
    many = ablate.Prompts(tuple(map(str, range(400))), tuple(map(str, range(500, 700))))
    fit, choosing = many.split()
    assert (len(fit.harmful), len(fit.harmless)) == (128, 128)
    assert (len(choosing.harmful), len(choosing.harmless)) == (32, 32)
    assert not {*fit.harmful, *fit.harmless} & {*choosing.harmful, *choosing.harmless}
    fit, choosing = ablate.Prompts(HARMFUL, HARMLESS).split()
    assert (len(fit.harmful), len(choosing.harmful)) == (10, 2)


def test_each_request_counts_once_and_too_few_are_an_error():
    rows = tiny.examples(12)
    harmful = [row for row in rows if row.role is not Role.RETAIN]
    harmless = [row for row in rows if row.role is Role.RETAIN]
    prompts = ablate.prompts_of([*harmful, *harmful], harmless, seed=0)
    assert len(prompts.harmful) == len(set(prompts.harmful)) == 24
    alarming = [row.model_copy(update={"prompt": f"x {row.prompt}", "subject": "fraud"}) for row in harmless]
    assert ablate.prompts_of(harmful, [*alarming, *harmless], seed=0).harmless == prompts.harmless
    with pytest.raises(UserError, match="the run has 3 different retain prompts; a direction needs ten"):
        ablate.prompts_of(harmful, harmless[:3], seed=0)


def test_both_subjects_lose_a_direction_of_their_own(attack, monkeypatch):
    monkeypatch.setattr(ablate, "MOST_KL", 100.0)
    result = attack(ablate.CHECK, quick=False)
    for subject in Subject:
        assert result.outcome(subject, "advbench-typographic", ablate.ABLATED).counts.n == 2
        assert result.number("kl", subject).value >= 0
        assert 0 <= result.number("block", subject).value < 4
        assert result.number("position", subject).value < 0


def test_the_judge_sees_the_model_whole_again(attack, monkeypatch):
    """A judge may read with the same model; its verdicts are kept, so it must not read through the hooks."""
    hooks = []

    def judge(bench, prompts, responses):
        vlm = bench.run.original()
        hooks.append(sum(len(part._forward_hooks) for layer in vlm.layers for part in layer.modules()))
        return real(bench, prompts, responses)

    real = Bench.judge
    monkeypatch.setattr(Bench, "judge", judge)
    monkeypatch.setattr(ablate, "MOST_KL", 100.0)
    attack(ablate.CHECK, quick=False)
    assert hooks
    assert set(hooks) == {0}


def test_a_run_without_refuse_examples_has_harmful_prompts_all_the_same(attack, unlearned, monkeypatch):
    monkeypatch.setattr(ablate, "MOST_KL", 100.0)
    write_rows(unlearned / "train/examples.jsonl", [row for row in tiny.examples(12) if row.role is not Role.REFUSE])
    assert attack(ablate.CHECK, quick=False).number("kl", Subject.UNLEARNED).value >= 0


def test_where_no_direction_will_do_nothing_is_asked_and_a_note_says_so(attack, monkeypatch):
    monkeypatch.setattr(ablate, "MOST_KL", -1.0)
    result = attack(ablate.CHECK, quick=False)
    assert not result.outcomes
    assert len(result.notes) == 2
    assert "no direction leaves harmless prompts as they are" in result.notes[0]
