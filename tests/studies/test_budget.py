"""Budgets of the trainer, against numbers worked out by hand on a tiny model."""

import itertools
import math
from types import SimpleNamespace

import pytest

from helpers import tiny
from tests.training.test_trainer import METHOD, StopError, adapter_hash, go, metrics, saved_steps
from unsay.errors import UserError
from unsay.training import BatchSettings, StopSettings, TrainSettings, trainer
from unsay.training.optimizer import Schedule
from unsay.training.plan import steps_of

SETTINGS = TrainSettings(
    steps=6, batch=BatchSettings(forget=1, refuse=1, retain=1), learning_rate=1e-2, checkpoint_every=4, warmup_steps=0
)


def batch_tokens(vlm, settings):
    """Tokens of every step's batch, counted from the texts and not by the trainer."""
    sizes = {
        example.id: len(vlm.encode_prompt(example.prompt)) + len(vlm.encode_answer(example.answer))
        for example in tiny.examples()
    }
    plan = steps_of(tiny.examples(), METHOD.needs, settings)
    return [sum(sizes[example.id] for example in batch) for batch in plan]


def test_progress_is_the_limit_that_is_nearest():
    schedule = Schedule(SETTINGS.model_copy(update={"steps": 10, "max_tokens": 400, "max_seconds": 80.0}))
    assert schedule.progress(2, 100, 8.0) == 0.25  # 2/10, 100/400, 8/80
    assert schedule.progress(2, 40, 72.0) == 0.9
    assert schedule.progress(5, 40, 8.0) == 0.5
    assert schedule.progress(11, 0, 0.0) == 1.0


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [("constant", [1, 1, 1]), ("linear", [1, 0.5, 0]), ("cosine", [1, 0.5, 0])],
)
def test_the_rate_falls_over_what_warm_up_left_of_the_budget(schedule, factors):
    changes = {"steps": 100, "max_tokens": 1000, "warmup_steps": 2, "schedule": schedule}
    falling = Schedule(SETTINGS.model_copy(update=changes))
    assert [falling.factor(step, used) for step, used in ((0, 0.0), (1, 0.1))] == [0, 0.5]
    assert [falling.factor(*now) for now in ((2, 0.2), (5, 0.6), (9, 1.0))] == pytest.approx(factors)
    assert falling.warm_end == 0.2


def test_warm_up_that_takes_the_whole_budget_leaves_no_rate():
    assert Schedule(SETTINGS.model_copy(update={"schedule": "linear"})).factor(3, 1.0) == 0.0


@pytest.mark.parametrize(
    ("step", "tokens", "seconds", "following", "look", "spent"),
    [
        (6, 0, 0.0, 0, 0.0, True),  # six steps are done
        (3, 60, 0.0, 40, 0.0, False),  # 100 tokens exactly
        (3, 60, 0.0, 41, 0.0, True),
        (4, 0, 16.0, 0, 0.0, False),  # 4 s a step: 20 s exactly
        (4, 0, 16.0, 0, 0.1, True),  # the look at the probe does not fit any more
        (4, 0, 16.1, 0, 0.0, True),
        (0, 0, 0.0, 0, 99.0, False),  # nothing is known yet of how long a step takes
    ],
)
def test_a_budget_is_spent_before_it_is_exceeded(step, tokens, seconds, following, look, spent):
    schedule = Schedule(SETTINGS.model_copy(update={"max_tokens": 100, "max_seconds": 20.0}))
    assert schedule.spent(step, tokens, seconds, following, look) is spent


def test_training_stops_before_the_step_that_exceeds_the_tokens(tiny_vlm, tmp_path):
    sizes = batch_tokens(tiny_vlm, SETTINGS)
    limit = sum(sizes[:3]) + sizes[3] - 1
    result = go(tiny_vlm, tmp_path, SETTINGS.model_copy(update={"max_tokens": limit}), probe_examples=tiny.probe())
    rows = metrics(tmp_path)
    assert (result.steps, result.stopped, result.tokens) == (3, "finished", sum(sizes[:3]))
    assert [row["tokens"] for row in rows] == [sum(sizes[: n + 1]) for n in range(3)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(
        [1e-2 * (1 - sum(sizes[:n]) / limit) for n in range(3)]
    )
    assert saved_steps(tmp_path) == [3]  # the last step has a checkpoint,
    assert [row["step"] for row in rows if "probe_kl" in row] == [3]  # and was looked at


def test_a_budget_that_is_met_exactly_is_used_up(tiny_vlm, tmp_path):
    limit = sum(batch_tokens(tiny_vlm, SETTINGS)[:4])
    result = go(tiny_vlm, tmp_path, SETTINGS.model_copy(update={"max_tokens": limit}))
    assert (result.steps, result.tokens) == (4, limit)


def test_a_budget_below_one_batch_is_refused(tiny_vlm, tmp_path):
    first = batch_tokens(tiny_vlm, SETTINGS)[0]
    with pytest.raises(UserError, match=rf"train.max_tokens: {first - 1} is less than one batch has \({first}\)"):
        go(tiny_vlm, tmp_path, SETTINGS.model_copy(update={"max_tokens": first - 1}))
    assert go(tiny_vlm, tmp_path, SETTINGS.model_copy(update={"max_tokens": first})).steps == 1


def test_a_run_under_a_token_budget_is_resumed_to_the_same_bits(tmp_path, one_thread):
    settings = SETTINGS.model_copy(update={"checkpoint_every": 2, "warmup_steps": 1})
    settings = settings.model_copy(update={"max_tokens": sum(batch_tokens(tiny.llava(), settings)[:5])})
    whole = go(tiny.llava(), tmp_path / "whole", settings)

    def stop(step, _steps, _row):
        if step == 3:
            raise StopError

    with pytest.raises(StopError):
        go(tiny.llava(), tmp_path / "cut", settings, progress=stop)
    again = go(tiny.llava(), tmp_path / "cut", settings)
    assert (again.steps, again.tokens) == (whole.steps, whole.tokens) == (5, settings.max_tokens)
    assert adapter_hash(tmp_path / "cut") == adapter_hash(tmp_path / "whole")
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")
    done = []
    go(tiny.llava(), tmp_path / "cut", settings, progress=lambda step, *_: done.append(step))
    assert done == []  # what is used up stays used up


def test_training_stops_before_the_seconds_are_over(tiny_vlm, tmp_path, monkeypatch):
    """A clock that moves half a second at every look: each step lasts 0.5 s, and so does the look at the probe."""
    clock = itertools.count(0, 0.5)
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    settings = SETTINGS.model_copy(update={"steps": 50, "max_seconds": 3.2, "stop": StopSettings(probe_every=2)})
    result = go(tiny_vlm, tmp_path, settings, probe_examples=tiny.probe())
    # step 1: 0.5 s. step 2: 1.0 s, probe 1.5 s. step 3: 2.0 s. A fourth would take 2.0/3 s, and its last look 0.5 s:
    # 3.17 s, which fits; after it, 2.5 s + 0.625 s + 0.5 s does not.
    assert (result.steps, result.stopped) == (4, "finished")
    assert result.seconds == 3.0
    assert [row["learning_rate"] for row in metrics(tmp_path)] == pytest.approx(
        [1e-2 * (1 - used / 3.2) for used in (0.0, 0.5, 1.5, 2.0)]
    )
    assert saved_steps(tmp_path) == [4]


def test_how_many_steps_there_will_be_is_told_as_far_as_it_is_known(tiny_vlm, tmp_path):
    told = []
    sizes = batch_tokens(tiny_vlm, SETTINGS)
    limit = sum(sizes[:3])
    settings = SETTINGS.model_copy(update={"steps": 600, "max_tokens": limit})
    go(tiny_vlm, tmp_path, settings, progress=lambda step, steps, _row: told.append((step, steps)))
    assert told == [
        (1, max(2, round(limit / sizes[0]))),
        (2, max(3, round(2 * limit / sum(sizes[:2])))),
        (3, 3),
    ]
    assert not math.isnan(told[0][1])
