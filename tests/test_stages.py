"""A stage is done again exactly when something it read or wrote has changed."""

import json
import os

import pytest
import torch

from unsay.errors import UserError
from unsay.files import read_text
from unsay.stages import Silent, StageRecord, Stages

GIB = 2**30


class Listening(Silent):
    def __init__(self):
        self.said = []

    def finish(self, note):
        self.said.append(note)


class Work:
    """Writes its outputs and counts how often."""

    def __init__(self, *paths, tokens=7):
        self.paths, self.tokens, self.times = paths, tokens, 0

    def __call__(self, spent):
        self.times += 1
        for path in self.paths:
            path.write_text("made")
        spent.text_tokens, spent.image_tokens, spent.flops = self.tokens, 3, 1e9


@pytest.fixture
def once(tmp_path):
    work = Work(tmp_path / "a", tmp_path / "b")
    run(tmp_path, work)
    assert work.times == 1
    return work


def nothing():
    """What a stage without a result loads."""


def run(folder, work, inputs=("x", 1)):
    stages = Stages(folder)
    stages.run("toy", "A toy stage", inputs, list(work.paths), work, load=nothing)
    return stages.records[0][0].key, stages.records


@pytest.mark.parametrize("error", [UserError("damaged"), ValueError("rows"), KeyError("steps"), TypeError("null")])
def test_files_that_do_not_belong_together_are_made_again(once, tmp_path, error):
    def load():
        raise error

    stages = Stages(tmp_path)
    stages.run("toy", "A toy stage", ("x", 1), list(once.paths), once, load=load)
    assert once.times == 2


def test_unchanged_work_is_reused_with_what_it_had_cost(once, tmp_path):
    key, [(record, reused)] = run(tmp_path, once)
    assert once.times == 1
    assert reused
    assert (record.text_tokens, record.image_tokens, record.flops, record.key) == (7, 3, 1e9, key)
    assert record.peak_memory_bytes > 1_000_000


def test_other_inputs_make_it_anew(once, tmp_path):
    first, _ = run(tmp_path, once)
    second, [(_, reused)] = run(tmp_path, once, inputs=("x", 2))
    assert (once.times, reused) == (2, False)
    assert first != second


@pytest.mark.parametrize("harm", ["edit", "same size", "remove"])
def test_a_touched_output_is_made_again(once, tmp_path, harm):
    path = tmp_path / "b"
    if harm == "remove":
        path.unlink()
    else:
        path.write_text("something longer" if harm == "edit" else "edit")
        os.utime(path, (1, 1))
    run(tmp_path, once)
    assert once.times == 2
    assert path.read_text() == "made"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "toy"}', "\x00", '{"key": 1}'])
def test_a_damaged_record_is_redone(once, tmp_path, content):
    (tmp_path / "stages" / "toy.json").write_text(content)
    run(tmp_path, once)
    assert once.times == 2
    run(tmp_path, once)
    assert once.times == 2


def test_a_record_with_an_unknown_field_is_of_another_version(once, tmp_path):
    path = tmp_path / "stages" / "toy.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "future": 1}))
    run(tmp_path, once)
    assert once.times == 2


def test_work_that_fails_leaves_no_record(tmp_path):
    def broken(spent):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Stages(tmp_path).run("toy", "t", 1, [], broken, load=nothing)
    assert not (tmp_path / "stages" / "toy.json").exists()


def test_work_that_forgets_an_output_is_a_bug_and_not_a_finished_stage(tmp_path):
    with pytest.raises(RuntimeError, match="without writing missing"):
        Stages(tmp_path).run("toy", "t", 1, [tmp_path / "missing"], lambda spent: None, load=nothing)
    assert not (tmp_path / "stages" / "toy.json").exists()


def test_outputs_may_be_known_only_afterwards(tmp_path):
    made = []

    def work(spent):
        made.append(1)
        (tmp_path / "list").write_text("a b")
        for name in "ab":
            (tmp_path / name).write_text(name)
        return ["a", "b"]

    def load():
        return read_text(tmp_path / "list").split()

    def outputs(names):
        return [tmp_path / "list", *(tmp_path / name for name in names)]

    for expected in (1, 1):
        assert Stages(tmp_path).run("toy", "t", 1, outputs, work, load=load) == ["a", "b"]
        assert len(made) == expected
    (tmp_path / "b").unlink()
    Stages(tmp_path).run("toy", "t", 1, outputs, work, load=load)
    assert len(made) == 2
    (tmp_path / "list").unlink()  # what cannot be loaded is made again
    Stages(tmp_path).run("toy", "t", 1, outputs, work, load=load)
    assert len(made) == 3


def test_seconds_come_from_the_clock_unless_the_work_knows_better(tmp_path):
    def work(spent):
        spent.seconds = 123.4

    stages = Stages(tmp_path)
    stages.run("known", "t", 1, [], work, load=nothing)
    stages.run("clocked", "t", 1, [], lambda spent: None, load=nothing)
    assert stages.records[0][0].seconds == 123.4
    assert 0 <= stages.records[1][0].seconds < 5


def test_the_watcher_is_told_what_was_reused(tmp_path):
    heard = Listening()
    for _ in range(2):
        Stages(tmp_path, heard).run("toy", "t", 1, [], lambda spent: None, load=nothing)
    assert heard.said == ["0 s", "unchanged, reused"]


def test_the_watcher_is_told_what_came_of_it_reused_or_not(tmp_path):
    heard, made = Listening(), tmp_path / "made"
    for _ in range(2):
        Stages(tmp_path, heard).run(
            "toy",
            "t",
            1,
            [made],
            lambda spent: made.write_text("3 of 4"),
            load=lambda: 6,
            note=lambda n: f"{n // 2} of 4",
        )
    Stages(tmp_path, heard).run("quiet", "t", 1, [], lambda spent: None, load=nothing, note=lambda _: "")
    assert heard.said == ["3 of 4; 0 s", "3 of 4; unchanged, reused", "0 s"]


def test_the_accelerators_peak_is_that_of_the_stage(tmp_path, monkeypatch):
    """Two devices, on which each stage takes what its number says, in GiB."""
    peaks = {0: 7 * GIB, 1: 9 * GIB}  # what was before
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peaks.update({device: GIB}))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks[device])
    stages = Stages(tmp_path)
    for most in (5, 3):
        stages.run(
            f"toy-{most}", "t", 1, [], lambda spent, most=most: peaks.update({0: 2 * GIB, 1: most * GIB}), load=nothing
        )
    assert [record.peak_accelerator_bytes for record, _ in stages.records] == [5 * GIB, 3 * GIB]
    assert stages.records[0][0].peak_memory_bytes > 1_000_000  # the host's is kept beside it


def test_without_an_accelerator_in_use_none_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", None)
    stages = Stages(tmp_path)
    stages.run("toy", "t", 1, [], lambda spent: None, load=nothing)
    assert stages.records[0][0].peak_accelerator_bytes == 0


def test_a_run_directory_can_be_moved(once, tmp_path):
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    tmp_path.rename(moved)
    once.paths = (moved / "a", moved / "b")
    run(moved, once)
    assert once.times == 1
    record = StageRecord.model_validate_json((moved / "stages" / "toy.json").read_text())
    assert set(record.outputs) == {"a", "b"}
