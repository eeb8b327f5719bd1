"""The trainer: what it changes and what it leaves alone, and that no interruption changes the result."""

import errno
import hashlib
import json
import math
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers import killable, killed_training, tiny
from helpers.training import train
from unsay.errors import UserError
from unsay.methods import LossTerms, build_method
from unsay.models import LoraSettings, detach
from unsay.records import Role
from unsay.training import BatchSettings, StopSettings, TrainSettings, checkpoint, trainer
from unsay.training.plan import steps_of

METHOD = build_method("textual-unlearning", {"forget_cap": 12.0})  # a random model begins at about 6 nats
QUICK = TrainSettings(
    steps=6, batch=BatchSettings(forget=2, refuse=2, retain=2), learning_rate=1e-2, checkpoint_every=2
)


def changed(**more):
    return QUICK.model_copy(update=more)


def go(vlm, folder, settings=QUICK, method=METHOD, **more):
    return train(vlm, more.pop("examples", tiny.examples()), method, settings, folder, **more)


def metrics(folder):
    """Rows without the one field that a clock decides."""
    rows = [json.loads(line) for line in (folder / "train" / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def adapter_hash(folder):
    return hashlib.sha256((folder / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


def weights_hash(model):
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def saved_steps(folder):
    return [int(path.stem.removeprefix("step-")) for path in sorted((folder / "train/checkpoints").glob("*.pt"))]


class Spoiled:
    """A method that gives a wrong loss from its n-th call on."""

    def __init__(self, after, spoil):
        self.needs, self.calls, self.after, self.spoil = METHOD.needs, 0, after, spoil

    def loss(self, batch):
        self.calls += 1
        terms = METHOD.loss(batch)
        return self.spoil(terms) if self.calls > self.after else terms


def not_a_number(terms):
    return LossTerms({**terms.terms, "retain": terms.terms["retain"] * math.nan}, terms.meters)


def probe_values(monkeypatch, values):
    """The probe sees these values, one after another."""
    said = iter(values)
    monkeypatch.setattr(trainer.Trainer, "_probe_kl", lambda _self: next(said))


# ---------------------------------------------------------------------------------------------------------- learning


def test_loss_goes_down_and_every_step_has_a_row(tiny_vlm, tmp_path):
    seen = []
    result = go(
        tiny_vlm, tmp_path, changed(steps=30), probe_examples=tiny.probe(),
        progress=lambda step, steps, row: seen.append((step, steps)),
    )  # fmt: skip
    rows = metrics(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert seen == [(step, 30) for step in range(1, 31)]
    assert rows[-1]["refuse_ce"] < rows[0]["refuse_ce"] - 1
    assert rows[-1]["forget_ce"] > rows[0]["forget_ce"]
    assert all(row["loss"] == pytest.approx(sum(v for k, v in row.items() if k.endswith("_loss"))) for row in rows)
    assert (result.steps, result.stopped, result.tokens) == (30, "finished", rows[-1]["tokens"])
    assert result.flops > 0
    assert [row["step"] for row in rows if "probe_kl" in row] == list(range(2, 31, 2))


def test_retain_kl_starts_at_nothing_even_where_the_model_has_dropout(tmp_path):
    """In training mode a model with dropout differs from its original before it has learnt anything."""
    go(tiny.llava(attention_dropout=0.5), tmp_path, changed(steps=1))
    assert metrics(tmp_path)[0]["retain_loss"] == pytest.approx(0, abs=1e-6)


def test_refusal_sft_trains_without_forget_examples(tiny_vlm, tmp_path):
    examples = [example for example in tiny.examples() if example.role is not Role.FORGET]
    result = go(tiny_vlm, tmp_path, changed(steps=2), build_method("refusal-sft"), examples=examples)
    assert result.steps == 2


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0, 0.5, 1, 1, 1, 1]),
        ("linear", [0, 0.5, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0, 0.5, *(0.5 + 0.5 * math.cos(math.pi * part / 4) for part in range(4))]),
    ],
)
def test_schedule_is_stepped_every_step_and_the_rate_in_the_metrics_was_used(tiny_vlm, tmp_path, schedule, rates):
    """A schedule stepped once per epoch is a bug that others shipped."""
    go(tiny_vlm, tmp_path, changed(schedule=schedule, warmup_steps=2))
    assert [row["learning_rate"] for row in metrics(tmp_path)] == pytest.approx([1e-2 * rate for rate in rates])


def test_gradients_are_clipped_and_weights_decay_as_the_settings_say(tiny_vlm, tmp_path, monkeypatch):
    used, step = [], torch.optim.AdamW.step

    def watched(optimizer, *arguments, **more):
        (group,) = optimizer.param_groups
        norm = torch.stack([p.grad.norm() for p in group["params"] if p.grad is not None]).norm()
        used.append((float(norm), group["weight_decay"]))
        return step(optimizer, *arguments, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    go(tiny_vlm, tmp_path, changed(steps=2, max_grad_norm=0.01, weight_decay=0.3))
    assert used == [(pytest.approx(0.01, rel=1e-3), 0.3)] * 2
    assert all(row["grad_norm"] > 0.02 for row in metrics(tmp_path))


# ------------------------------------------------------------------------------------------ what may and may not change


@pytest.mark.parametrize("settings", [LoraSettings(), LoraSettings(layers="upper half", modules="attention")])
def test_only_the_language_models_adapter_is_trained(any_vlm, tmp_path, settings):
    """LoRA on the vision tower, and a vision tower left trainable, are bugs that others shipped."""
    before = weights_hash(any_vlm.model)
    inside = {id(parameter) for parameter in any_vlm.decoder.parameters()}
    graded = set()

    class Watched(Spoiled):
        def loss(self, batch):
            for parameter in any_vlm.base.parameters():
                parameter.register_hook(lambda _g, p=parameter: graded.add(id(p))) if parameter.requires_grad else None
            return METHOD.loss(batch)

    result = go(any_vlm, tmp_path, changed(lora=settings, steps=3), Watched(99, None))
    trainable = {id(p): name for name, p in result.vlm.model.named_parameters() if p.requires_grad}
    assert graded == set(trainable)  # gradient checkpointing that trains on nothing is another such bug
    assert all("lora_" in name for name in trainable.values())
    inside |= {id(parameter) for parameter in result.vlm.decoder.parameters()}
    assert graded <= inside
    assert not any("lora_" in name and "vision" in name for name, _ in result.vlm.model.named_parameters())
    assert weights_hash(detach(result.vlm).model) == before


def test_adapter_on_differs_from_adapter_off(tiny_vlm, tmp_path):
    result = go(tiny_vlm, tmp_path)
    ids = torch.tensor([result.vlm.encode_prompt("Say hello.")])
    with torch.no_grad():
        on = result.vlm.model(input_ids=ids).logits
        with result.vlm.model.disable_adapter():
            off = result.vlm.model(input_ids=ids).logits
    assert (on - off).abs().max() > 0.01
    assert result.vlm.adapter_key not in (None, "untrained")


def test_a_run_that_fails_leaves_the_model_as_it_was(tiny_vlm, tmp_path):
    before = weights_hash(tiny_vlm.model)
    with pytest.raises(UserError):
        go(tiny_vlm, tmp_path, method=Spoiled(0, not_a_number))
    assert weights_hash(tiny_vlm.model) == before
    go(tiny_vlm, tmp_path)  # and it can be trained again


# ------------------------------------------------------------------------------------------------------- interruptions


def killed(folder, where):
    errors = folder.with_suffix(".txt")
    ended = killable.run(errors, killed_training.run_and_die, folder, where)
    assert ended == -signal.SIGKILL, errors.exists() and errors.read_text()[-2000:]


def test_killed_at_any_step_the_result_is_the_same_bit_for_bit(tmp_path, one_thread):
    whole = killed_training.run(tmp_path / "whole")
    folder = tmp_path / "killed"
    killed(folder, 3)  # between checkpoints
    assert saved_steps(folder) == [2]
    killed(folder, "saving")  # halfway through writing the checkpoint of step 6
    assert saved_steps(folder) == [2, 4]
    assert [row["step"] for row in metrics(folder)] == [1, 2, 3, 4, 5, 6]
    killed(folder, 6)  # right after a checkpoint
    assert saved_steps(folder) == [4, 6]
    killed(folder, "adapter")  # halfway through writing the adapter
    assert not (folder / "adapter" / "adapter_model.safetensors").exists()

    finished = killed_training.run(folder)
    assert adapter_hash(folder) == adapter_hash(tmp_path / "whole")
    assert metrics(folder) == metrics(tmp_path / "whole")
    assert finished.vlm.adapter_key == whole.vlm.adapter_key
    assert (finished.steps, finished.tokens, finished.flops) == (whole.steps, whole.tokens, whole.flops)


class StopError(Exception):
    """Raised in place of a kill, where a process of its own would be too slow."""


def interrupted(vlm, folder, at, settings=QUICK, **more):
    def progress(step, _steps, _row):
        if step == at:
            raise StopError

    with pytest.raises(StopError):
        go(vlm, folder, settings, progress=progress, **more)


def steps_done(vlm, folder, **more):
    """The steps that a run on these inputs does, those taken over from a checkpoint left out."""
    done = []
    go(vlm, folder, progress=lambda step, _steps, _row: done.append(step), **more)
    return done


@pytest.mark.parametrize("damage", ["cut", "bits", "empty"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tiny_vlm, tmp_path, one_thread, damage):
    go(tiny_vlm, tmp_path / "whole")
    detach(tiny_vlm)
    folder = tmp_path / "damaged"
    interrupted(tiny.llava(), folder, 5)
    newest = folder / "train/checkpoints/step-000004.pt"
    content = bytearray(newest.read_bytes())
    if damage == "bits":
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    newest.write_bytes({"cut": content[: len(content) // 2], "bits": content, "empty": b""}[damage])
    assert steps_done(tiny.llava(), folder) == [3, 4, 5, 6]
    assert adapter_hash(folder) == adapter_hash(tmp_path / "whole")
    assert metrics(folder) == metrics(tmp_path / "whole")


def test_with_every_checkpoint_damaged_training_starts_again(tmp_path):
    interrupted(tiny.llava(), tmp_path, 5)
    for path in (tmp_path / "train/checkpoints").glob("*.pt"):
        path.write_bytes(b"not a checkpoint")
    assert steps_done(tiny.llava(), tmp_path) == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("change", ["nothing", "settings", "examples", "probe", "key", "method", "model"])
def test_other_inputs_are_not_continued(tmp_path, change):
    more = {"probe_examples": tiny.probe()}
    interrupted(tiny.llava(), tmp_path, 4, **more)
    vlm, settings, method = tiny.llava(), QUICK, METHOD
    if change == "settings":
        settings = changed(learning_rate=2e-2)
    elif change == "examples":
        rows = tiny.examples()
        more["examples"] = [rows[0].model_copy(update={"answer": "Something else."}), *rows[1:]]
    elif change == "probe":
        more["probe_examples"] = tiny.probe()[:-1]
    elif change == "key":
        more["key"] = "another"
    elif change == "method":
        method = build_method("refusal-sft")
    elif change == "model":
        vlm.key = "another"
    expected = [5, 6] if change == "nothing" else [1, 2, 3, 4, 5, 6]
    assert steps_done(vlm, tmp_path, settings=settings, method=method, **more) == expected


def test_a_finished_run_is_not_trained_again(tmp_path):
    go(tiny.llava(), tmp_path)
    before = adapter_hash(tmp_path)
    assert steps_done(tiny.llava(), tmp_path) == []
    assert adapter_hash(tmp_path) == before


def test_only_the_newest_checkpoints_are_kept(tiny_vlm, tmp_path):
    go(tiny_vlm, tmp_path, changed(checkpoint_every=1))
    assert saved_steps(tmp_path) == [5, 6]
    assert len(saved_steps(tmp_path)) == checkpoint.KEEP


def test_a_torn_last_row_of_metrics_is_dropped(tmp_path):
    interrupted(tiny.llava(), tmp_path, 5)
    with (tmp_path / "train/metrics.jsonl").open("a") as handle:
        handle.write('{"step": 6, "tok')
    go(tiny.llava(), tmp_path)
    assert [row["step"] for row in metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_full_disk_is_one_line(tiny_vlm, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"disk full while writing .*step-000002.pt") as caught:
        go(tiny_vlm, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "train/checkpoints").iterdir())


# ------------------------------------------------------------------------------------------------------------- stopping


def parameters_of(vlm):
    return {name: p.detach().clone() for name, p in vlm.model.named_parameters() if "lora_" in name}


@pytest.mark.parametrize("bad", [4, 5], ids=["at the step after a checkpoint's", "at a checkpoint's own step"])
def test_nan_stops_at_the_last_good_checkpoint(tmp_path, bad):
    result = go(tiny.llava(), tmp_path / "nan", method=Spoiled(bad, not_a_number))
    assert result.stopped == f"the loss or its gradient was not a number at step {bad + 1}; kept step 4"
    assert result.steps == 4
    assert [row["step"] for row in metrics(tmp_path / "nan")] == [1, 2, 3, 4]
    assert saved_steps(tmp_path / "nan") == [2, 4]
    clean = checkpoint.latest_checkpoint(tmp_path / "nan/train/checkpoints", _key_of(tmp_path / "nan"))
    for name, parameter in parameters_of(result.vlm).items():
        assert torch.equal(parameter, clean.adapter[name])
        assert torch.isfinite(parameter).all()
    saved = load_file(tmp_path / "nan/adapter/adapter_model.safetensors")
    assert all(torch.equal(saved[name.replace(".default", "")], p) for name, p in parameters_of(result.vlm).items())


def _key_of(folder):
    newest = sorted((folder / "train/checkpoints").glob("*.pt"))[-1]
    return torch.load(newest, weights_only=True)["key"]


def test_an_infinite_gradient_counts_as_nan(tmp_path):
    def infinite(terms):
        return LossTerms({**terms.terms, "odd": (terms.terms["refuse"] - terms.terms["refuse"].detach()).sqrt()}, {})

    result = go(tiny.llava(), tmp_path, method=Spoiled(3, infinite))
    assert result.stopped.startswith("the loss or its gradient was not a number at step 4")
    assert result.steps == 2


def test_nan_before_the_first_checkpoint_is_an_error(tiny_vlm, tmp_path):
    with pytest.raises(UserError, match="at step 2; no earlier checkpoint") as caught:
        go(tiny_vlm, tmp_path, method=Spoiled(1, not_a_number))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "adapter").exists()


def test_collapse_at_a_checkpoints_own_step_is_never_kept(tmp_path, monkeypatch):
    """The early stop that never fires is a bug that others shipped; so is a collapsed state to fall back to."""
    probe_values(monkeypatch, [0.1, 5.0])  # looked at in steps 2 and 4, both of which write a checkpoint
    result = go(tiny.llava(), tmp_path, probe_examples=tiny.probe())
    assert result.steps == 2
    assert result.stopped == (
        "collapse at step 4: KL on held-out normal answers is 5.00 nats per token, the limit is 1.0 "
        "(train.stop.max_probe_kl); kept step 2"
    )
    assert saved_steps(tmp_path) == [2]
    assert [row["step"] for row in metrics(tmp_path)] == [1, 2]
    straight = go(tiny.llava(), tmp_path / "two", changed(steps=6), method=Spoiled(2, not_a_number))
    for name, parameter in parameters_of(straight.vlm).items():
        assert torch.equal(parameter, parameters_of(result.vlm)[name])


def test_no_checkpoint_is_written_without_a_look_at_the_probe(tmp_path, monkeypatch):
    """Were the probe due only every 5 steps, steps 2 and 4 could be saved collapsed and step 5 fall back to them."""
    probe_values(monkeypatch, [0.1, 5.0])
    stop = StopSettings(probe_every=5)
    result = go(tiny.llava(), tmp_path, changed(stop=stop), probe_examples=tiny.probe())
    assert result.stopped.startswith("collapse at step 4")
    assert saved_steps(tmp_path) == [2]


def test_collapse_between_checkpoints_falls_back(tmp_path, monkeypatch):
    probe_values(monkeypatch, [0.1, 0.2, math.nan])
    settings = changed(stop=StopSettings(probe_every=1), checkpoint_every=2)
    result = go(tiny.llava(), tmp_path, settings, probe_examples=tiny.probe())
    assert result.stopped.startswith("collapse at step 3")
    assert result.steps == 2
    assert [row["step"] for row in metrics(tmp_path)] == [1, 2]


def test_collapse_before_the_first_checkpoint_is_an_error(tiny_vlm, tmp_path, monkeypatch):
    probe_values(monkeypatch, [5.0])
    with pytest.raises(UserError, match=r"collapse at step 2.*no earlier checkpoint"):
        go(tiny_vlm, tmp_path, probe_examples=tiny.probe())


def test_a_probe_at_the_limit_is_not_a_collapse(tmp_path, monkeypatch):
    probe_values(monkeypatch, [1.0, 1.0, 1.0])
    assert go(tiny.llava(), tmp_path, probe_examples=tiny.probe()).stopped == "finished"


@pytest.mark.parametrize(("value", "stopped"), [(50.0, "finished"), (math.inf, "collapse at step 4")])
def test_without_a_limit_only_a_number_that_is_none_stops(tmp_path, monkeypatch, value, stopped):
    probe_values(monkeypatch, [0.1, value, value])
    settings = changed(stop=StopSettings(max_probe_kl=None))
    assert go(tiny.llava(), tmp_path, settings, probe_examples=tiny.probe()).stopped.startswith(stopped)


def test_raw_ascent_really_collapses_and_is_stopped(tmp_path):
    """No monkeypatching: the paper's unbounded form at a high rate, watched by the probe."""
    method = build_method("textual-unlearning", {"forget_cap": None, "forget_weight": 20.0, "retain_weight": 0.0})
    settings = changed(steps=40, learning_rate=5e-2, warmup_steps=10, checkpoint_every=1)
    result = go(tiny.llava(), tmp_path, settings, method, probe_examples=tiny.probe())
    assert result.stopped.startswith("collapse at step")
    assert 0 < result.steps < 40
    assert max(row["probe_kl"] for row in metrics(tmp_path)) <= 1.0
    assert result.tokens > metrics(tmp_path)[-1]["tokens"]  # what was given up has been paid for


# ----------------------------------------------------------------------------------------------------------------- data


def test_batches_are_the_same_in_every_process_and_use_all_before_any_twice():
    settings = changed(steps=4, batch=BatchSettings(forget=1, refuse=2, retain=3))
    examples = tiny.examples(4)
    plan = steps_of(examples, METHOD.needs, settings)
    assert plan == steps_of(list(reversed(examples)), METHOD.needs, settings)
    assert [[example.role for example in batch] for batch in plan] == [
        [Role.FORGET, *[Role.REFUSE] * 2, *[Role.RETAIN] * 3]
    ] * 4
    retain = [example.id for batch in plan for example in batch if example.role is Role.RETAIN]
    for start in (0, 4, 8):
        assert len(set(retain[start : start + 4])) == 4
    assert plan != steps_of(examples, METHOD.needs, settings.model_copy(update={"seed": 1}))


def test_retain_mix_sets_the_shares_of_sources():
    retain = [
        example.model_copy(update={"source": "rare" if index == 0 else "common"})
        for index, example in enumerate(example for example in tiny.examples(6) if example.role is Role.RETAIN)
    ]
    others = [example for example in tiny.examples(6) if example.role is not Role.RETAIN]
    settings = changed(steps=200, retain_mix={"rare": 3.0, "common": 1.0})
    drawn = [e.source for batch in steps_of([*others, *retain], METHOD.needs, settings) for e in batch if e in retain]
    assert 0.68 < drawn.count("rare") / len(drawn) < 0.82  # 400 draws, 3 in 4: four standard errors are 0.087


@pytest.mark.parametrize(
    ("settings", "roles", "says"),
    [
        ({}, {Role.REFUSE, Role.RETAIN}, "no forget examples"),
        ({"batch": BatchSettings(refuse=0)}, set(Role), "train.batch.refuse"),
        ({"retain_mix": {"nowhere": 1.0}}, set(Role), "no retain examples from 'nowhere'"),
        ({"retain_mix": {"toy": 0.0}}, set(Role), "every share is 0"),
    ],
)
def test_data_that_does_not_fit_the_method_is_one_line(tiny_vlm, tmp_path, settings, roles, says):
    examples = [example for example in tiny.examples() if example.role in roles]
    with pytest.raises(UserError, match=says) as caught:
        go(tiny_vlm, tmp_path, changed(**settings), examples=examples)
    assert "\n" not in str(caught.value)


def test_repeated_ids_are_refused(tiny_vlm, tmp_path):
    rows = tiny.examples()
    with pytest.raises(UserError, match="two examples have the id retain-0"):
        go(tiny_vlm, tmp_path, examples=rows, probe_examples=[rows[-4]])
