"""What ends a training from outside: each in one line, with a checkpoint that is gone on from."""

import errno
import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from peft import PeftModel
from safetensors import SafetensorError

from helpers import killed_training, tiny
from helpers.training import train
from unsay import cli, preemption
from unsay.errors import UserError
from unsay.files import write_rows
from unsay.methods import build_method
from unsay.preemption import PreemptedError, raise_on_sigterm
from unsay.records import Role
from unsay.training import BatchSettings, TrainSettings, trainer
from unsay.training.settings import advice


def steps(folder):
    return [json.loads(line)["step"] for line in (folder / "train" / "metrics.jsonl").read_text().splitlines()]


def saved(folder):
    return [int(path.stem.removeprefix("step-")) for path in sorted((folder / "train/checkpoints").glob("*.pt"))]


def adapter_hash(folder):
    return hashlib.sha256((folder / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


# --------------------------------------------------------------------------------------------------------- preemption


def terminated(run, folder, at):
    """`run` while SIGTERM comes during step `at` + 1, as from a scheduler."""

    def progress(step, _steps, _row):
        if step == at:
            signal.raise_signal(signal.SIGTERM)

    with raise_on_sigterm(), pytest.raises(PreemptedError) as told:
        run(folder, progress)
    return str(told.value)


def test_sigterm_saves_the_last_step_and_the_result_is_the_same_bit_for_bit(tmp_path, one_thread):
    killed_training.run(tmp_path / "whole")
    folder = tmp_path / "stopped"
    assert terminated(killed_training.run, folder, 3) == "stopped by SIGTERM; step 3 of the training is kept"
    assert saved(folder) == [2, 3]
    assert terminated(killed_training.run, folder, 4).endswith("step 4 of the training is kept")  # its own checkpoint
    assert killed_training.run(folder).steps == 7
    assert steps(folder) == [1, 2, 3, 4, 5, 6, 7]
    assert adapter_hash(folder) == adapter_hash(tmp_path / "whole")


def test_sigterm_within_an_accumulated_step_counts_only_whole_ones(tmp_path, one_thread):
    """Under a budget of tokens the counters decide where a run ends, and its rate on the way."""
    counts = [json.loads(line) for line in run_accumulating(tmp_path / "free").read_text().splitlines()]
    limit = counts[4]["tokens"] + counts[4]["image_tokens"]
    whole = run_accumulating(tmp_path / "whole", max_tokens=limit)
    assert len(whole.read_text().splitlines()) == 5

    class Signals:
        """SIGTERM during the first of the two turns of step 3: step 2 is the last whole one."""

        def __init__(self):
            self.method, self.calls = build_method("textual-unlearning"), 0
            self.needs = self.method.needs

        def loss(self, batch):
            self.calls += 1
            if self.calls == 5:
                signal.raise_signal(signal.SIGTERM)
            return self.method.loss(batch)

    with raise_on_sigterm(), pytest.raises(PreemptedError, match="step 2 of the training is kept"):
        run_accumulating(tmp_path / "cut", Signals(), max_tokens=limit)
    again = run_accumulating(tmp_path / "cut", max_tokens=limit)
    assert metered(again) == metered(whole)
    assert adapter_hash(tmp_path / "cut") == adapter_hash(tmp_path / "whole")


def run_accumulating(folder, method=None, **more):
    """A training whose steps have two turns each; its metrics."""
    settings = killed_training.SETTINGS.model_copy(update={"accumulate": 2, "checkpoint_every": 4, **more})
    train(tiny.llava(), tiny.examples(), method or build_method("textual-unlearning"), settings, folder, key="same")
    return folder / "train" / "metrics.jsonl"


def metered(metrics):
    """Every row but for how long it took."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_sigterm_after_the_last_step_is_not_forgotten(tmp_path):
    assert terminated(killed_training.run, tmp_path, 7) == "stopped by SIGTERM"
    assert saved(tmp_path) == [6, 7]
    assert not (tmp_path / "adapter").exists()


def test_a_collapsed_step_is_not_saved_in_a_hurry(tmp_path, monkeypatch):
    """Steps are looked at when they are saved; SIGTERM must not be a way around."""
    looks = iter([0.1, 5.0])
    monkeypatch.setattr("unsay.training.trainer.Trainer._probe_kl", lambda _self: next(looks))
    assert terminated(killed_training.run, tmp_path, 3).endswith("step 2 of the training is kept")
    assert saved(tmp_path) == [2]


def test_sigterm_outside_training_ends_at_once_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(PreemptedError), raise_on_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not preemption.end_requested()


def test_the_command_exits_143_and_goes_on_when_it_is_run_again(
    tiny_folder, tmp_path, monkeypatch, capsys, unmeasured_judge
):
    write_rows(tmp_path / "examples.jsonl", tiny.examples(12))
    (tmp_path / "my.yaml").write_text(
        f"model: {tiny_folder}\ndata: {{examples: examples.jsonl, recipe: {{probe: 1}}}}\n"
        "train: {steps: 4, batch: {forget: 2, refuse: 2, retain: 2}, checkpoint_every: 3}\n"
        "evaluation: {judge: rules, suites: [answer-loss], limit: 2}\n"
    )
    out = tmp_path / "run"

    def command():
        monkeypatch.setattr("sys.argv", ["unsay", "unlearn", "--config", f"{tmp_path}/my.yaml", "--out", str(out)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code

    whole, started = trainer.Trainer.one_step, []

    def one(self, examples):
        started.append(self.step + 1)
        if len(started) == 2:
            signal.raise_signal(signal.SIGTERM)
            started.append("SIGTERM")
        return whole(self, examples)

    monkeypatch.setattr(trainer.Trainer, "one_step", one)
    assert command() == 143
    assert "step 1 of the training is kept; run the same command again to continue" in capsys.readouterr().out
    assert saved(out) == [1]
    assert command() == 0
    assert started == [1, 2, "SIGTERM", 2, 3, 4]
    assert (out / "report.html").exists()


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_shell_does_not_go_on_after_a_command_that_a_signal_has_stopped(name, status):
    """Any command, in a process of its own, whatever it was doing."""
    code = (
        "import os, signal; from unsay import cli\n"
        f"cli.app.command('stop')(lambda: os.kill(os.getpid(), signal.{name}))\n"
        "cli.main()"
    )
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" stop && echo next; echo "status $?"', sys.executable, code],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.endswith(f"status {status}\n"), done.stderr
    assert "next" not in done.stdout
    assert "run the same command again to continue" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# --------------------------------------------------------------------------------------------- memory, disk, processes


class Fails:
    """A method that raises an error in one step."""

    def __init__(self, step, error):
        self.method = build_method("textual-unlearning")
        self.needs, self.calls, self.step, self.error = self.method.needs, 0, step, error

    def loss(self, batch):
        self.calls += 1
        if self.calls == self.step:
            raise self.error
        return self.method.loss(batch)


def go(vlm, folder, method, **more):
    settings = killed_training.SETTINGS.model_copy(update=more)
    return train(vlm, tiny.examples(), method, settings, folder)


@pytest.mark.parametrize("error", tiny.OUT_OF_MEMORY.values(), ids=tiny.OUT_OF_MEMORY)
def test_out_of_memory_says_what_helps_and_what_is_kept(tiny_vlm, tmp_path, error):
    with pytest.raises(UserError) as told:
        go(tiny_vlm, tmp_path, Fails(4, error), accumulate=2, batch=BatchSettings(forget=4, refuse=4, retain=4))
    assert str(told.value).startswith("out of memory at step 2; no step is kept yet. What helps, in this order:")
    assert "train.accumulate: 4" in str(told.value)
    assert "4-bit" not in str(told.value)  # on a CPU
    with pytest.raises(UserError, match="out of memory at step 4; step 2 is kept"):
        go(tiny_vlm, tmp_path, Fails(4, error))
    assert go(tiny_vlm, tmp_path, build_method("textual-unlearning"), recompute=True).steps == 7
    assert saved(tmp_path) == [6, 7]


def test_advice_names_only_what_is_not_done_yet():
    assert "train.recompute: true" in advice(TrainSettings())
    assert "recompute" not in advice(TrainSettings(recompute=True))
    assert "head_chunk: 128" in advice(TrainSettings(head_chunk=256))
    assert "head_chunk" not in advice(TrainSettings(head_chunk=64))
    assert "4-bit" not in advice(TrainSettings(), quantisable=False)


def test_advice_offers_no_turns_into_which_the_rows_do_not_divide():
    batch = BatchSettings(forget=4, refuse=6, retain=4)
    assert "train.accumulate: 2" in advice(TrainSettings(batch=batch))
    assert "accumulate" not in advice(TrainSettings(batch=batch, accumulate=2))
    assert "train.accumulate: 4" in advice(TrainSettings(batch=batch, accumulate=2), [Role.FORGET, Role.RETAIN])
    assert "accumulate" not in advice(TrainSettings(batch=batch, accumulate=2), [Role.FORGET], processes=2)


def test_other_errors_are_not_explained_away(tiny_vlm, tmp_path):
    with pytest.raises(RuntimeError, match="a bug"):
        go(tiny_vlm, tmp_path, Fails(1, RuntimeError("a bug")))


class Full:
    """A disk that is full from the n-th file of a kind on."""

    def __init__(self, monkeypatch, ending, good):
        write, self.seen = Path.write_bytes, 0

        def limited(path, data):
            if f".{ending}." in path.name:
                self.seen += 1
                if self.seen > good:
                    raise OSError(errno.ENOSPC, "No space left on device")
            return write(path, data)

        monkeypatch.setattr(Path, "write_bytes", limited)


def test_a_full_disk_keeps_the_checkpoint_before(tiny_vlm, tmp_path, monkeypatch, one_thread):
    killed_training.run(tmp_path / "whole")
    folder = tmp_path / "full"
    with monkeypatch.context() as patch:
        Full(patch, "pt", good=1)
        with pytest.raises(UserError, match=r"disk full while writing .*step-000004.pt: free some space and run"):
            killed_training.run(folder)
    assert saved(folder) == [2]
    killed_training.run(folder)
    assert adapter_hash(folder) == adapter_hash(tmp_path / "whole")


def test_a_full_disk_at_the_end_or_before_the_start_is_one_line(tiny_vlm, tmp_path, monkeypatch):
    method = build_method("textual-unlearning")
    with monkeypatch.context() as patch:
        Full(patch, "safetensors", good=0)
        with pytest.raises(UserError, match=r"disk full while writing .*reference/.*safetensors"):
            go(tiny_vlm, tmp_path, method, reference="cached")
    with monkeypatch.context() as patch:

        def full(_self, folder, **_more):
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

        patch.setattr(PeftModel, "save_pretrained", full)
        with pytest.raises(UserError, match=r"cannot write .*adapter: .*No space left on device"):
            go(tiny_vlm, tmp_path, method)
    assert saved(tmp_path) == [6, 7]
    assert go(tiny_vlm, tmp_path, method).steps == 7
