"""Trackers: off by default, given every step, no part of any key, and never worth a run."""

import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from unsay import api
from unsay.config import RunConfig, parse_config
from unsay.errors import UserError
from unsay.files import read_json
from unsay.reports.charts import read_metrics
from unsay.run import tracker as trackers
from unsay.run.finished import portable_settings, settings_but_seed
from unsay.run.tracker import StepTracker
from unsay.training.settings import TrainSettings

pytestmark = pytest.mark.usefixtures("unmeasured_judge")


def config(model: Path, examples: Path, tracker: str = "null") -> RunConfig:
    return parse_config(
        f"model: {model}\ndata: {{examples: {examples}, recipe: {{probe: 1}}}}\n"
        f"train: {{steps: 3, batch: {{forget: 2, refuse: 2, retain: 2}}, tracker: {tracker}}}\n"
        "evaluation: {judge: rules, suites: [contrast], limit: 2, generation: {max_new_tokens: 3}}\n",
        "test",
    )


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_tensorboard_gets_every_step_and_the_keys_stay(tiny_folder: Path, examples: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    out = tmp_path / "run"
    api.unlearn(config(tiny_folder, examples, "tensorboard"), out)
    shown = curves(out / "train/tensorboard")
    rows = read_metrics(out / "train/metrics.jsonl")
    assert [step for step, _ in shown["loss"]] == [row["step"] for row in rows] == [1, 2, 3]
    for (_, value), row in zip(shown["loss"], rows, strict=True):
        assert math.isclose(value, row["loss"], rel_tol=1e-6)
    key = read_json(out / "stages/unlearn.json")["key"]
    api.unlearn(config(tiny_folder, examples), tmp_path / "plain")
    assert read_json(tmp_path / "plain/stages/unlearn.json")["key"] == key
    assert not (tmp_path / "plain/train/tensorboard").exists()
    scores = api.unlearn(config(tiny_folder, examples), out)
    assert all(row.reused for row in scores.cost), "another tracker trains nothing anew"


def test_a_tracker_decides_nothing() -> None:
    assert TrainSettings(tracker="wandb").decisive() == TrainSettings().decisive()
    one, other = RunConfig(train={"tracker": "mlflow"}), RunConfig()
    for budgets in (False, True):
        assert settings_but_seed(one, budgets) == settings_but_seed(other, budgets)
    assert portable_settings({"train": {"steps": 3, "tracker": "wandb"}}) == portable_settings({"train": {"steps": 3}})
    with pytest.raises(ValidationError):
        TrainSettings(tracker="notebook")


def test_a_missing_package_is_named_before_anything_is_done(
    tiny_folder: Path, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"pip install 'unsay\[trackio\]'"):
        api.unlearn(config(tiny_folder, examples, "trackio"), tmp_path / "run")
    assert not (tmp_path / "run/responses").exists()


class Broken:
    def __init__(self, fails_at: str) -> None:
        self.fails_at = fails_at
        self.logged: list[int] = []

    def store_init_configuration(self, values: dict[str, str]) -> None:
        assert values["train.tracker"] == "wandb"
        assert not any(name.startswith("evaluation") for name in values)
        if self.fails_at == "begin":
            raise ConnectionError("no login")

    def log(self, values: dict[str, float], step: int) -> None:
        if self.fails_at == "log" and step == 2:
            raise ConnectionError("gone")
        self.logged.append(step)

    def finish(self) -> None:
        if self.fails_at == "finish":
            raise ConnectionError("gone")


@pytest.mark.parametrize(("fails_at", "logged"), [("log", [1]), ("finish", [1, 2, 3])])
def test_a_tracker_that_breaks_costs_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str, logged: list[int]
) -> None:
    broken = Broken(fails_at)
    monkeypatch.setattr(trackers, "_begin", lambda *_: broken)
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    tracker = StepTracker(RunConfig(train={"tracker": "wandb"}), tmp_path)
    for step in (1, 2, 3):
        tracker.log(step, {"step": step, "loss": 1.0})
    tracker.finish()
    assert broken.logged == logged
    assert tracker.trouble == "tracker lost (ConnectionError)"


def test_a_tracker_that_cannot_begin_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "_begin", lambda *_: Broken("begin"))
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    with pytest.raises(UserError, match="wandb cannot begin"):
        StepTracker(RunConfig(train={"tracker": "wandb"}), tmp_path)


def test_trackio_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio")
    tracker = StepTracker(RunConfig(train={"tracker": "trackio"}), tmp_path / "my-run")
    for step in (1, 2):
        tracker.log(step, {"step": step, "loss": 1.0 / step})
    tracker.finish()
    assert tracker.trouble == ""
    assert list((tmp_path / "trackio").rglob("*.db")), "kept on this machine"
