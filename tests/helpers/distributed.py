"""Training by several processes of this machine, forked from the server of `killable`."""

import os
import signal
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch.distributed as dist

from helpers import killable, tiny
from helpers.training import train
from helpers.unmeasured import unmeasured
from unsay.methods import build_method
from unsay.processes import ALONE, Processes
from unsay.training import BatchSettings, TrainSettings

SETTINGS = TrainSettings(
    steps=5, batch=BatchSettings(forget=4, refuse=4, retain=4), learning_rate=1e-2, checkpoint_every=2
)
METHODS = {  # what a random model needs: it begins at about 6 nats, and has four blocks
    "textual-unlearning": {"forget_cap": 12.0},
    "rmu": {},
    "dpo": {},
    "circuit-breaker": {},
}


class StopError(Exception):
    """Raised in place of a kill."""


def run(folder, method="textual-unlearning", processes=ALONE, stop=None, vlm=None, **more):
    """One process's part of a run on the tiny model; `stop` ends it after so many steps, as a kill would."""

    def progress(step, _steps, _row):
        if step == stop:
            raise StopError

    # Of the same requests in every role, for methods that compare answers.
    examples = [example.model_copy(update={"request": example.id.split("-")[1]}) for example in tiny.examples(8)]
    return train(
        vlm or tiny.llava(), examples, build_method(method, METHODS[method]), SETTINGS.model_copy(update=more),
        folder, probe_examples=tiny.probe(), processes=processes, progress=progress,
    )  # fmt: skip


def pipeline(folder, config, processes=ALONE):
    """One process's part of a whole run directory."""
    from unsay.config import read_config
    from unsay.judges.rules import RulesJudge
    from unsay.run.directory import Run
    from unsay.run.experiment import unlearn_run

    RulesJudge.accuracy = unmeasured
    unlearn_run(Run.open(folder, read_config(config), None, processes))


def _rank(rank, world, sharded, folder, target="run", die=None, **more):
    dist.init_process_group("gloo", init_method=f"file://{folder}.meet", rank=rank, world_size=world)
    control = dist.new_group(backend="gloo", timeout=timedelta(minutes=5))
    processes = Processes(rank, world, rank, sharded, control)
    if die is not None and rank == world - 1:
        _die_at(die)
    try:
        {"run": run, "pipeline": pipeline}[target](folder, processes=processes, **more)
    except StopError:
        processes.wait()
    dist.destroy_process_group()


def _die_at(step):
    from unsay.training import trainer

    whole = trainer.Trainer.one_step

    def one(self, examples):
        if self.step + 1 == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, examples)

    trainer.Trainer.one_step = one


def together(folder: Path, *, world=2, sharded=False, ends=None, **more):
    """Run with several processes; their exit codes, which are to be `ends`, and what each wrote of its errors."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    meeting = Path(f"{folder}.meet")
    meeting.unlink(missing_ok=True)
    errors = [folder.with_name(f"{folder.name}.{rank}.txt") for rank in range(world)]
    part = partial(_rank, **more)
    started = [killable.start(file, part, rank, world, sharded, folder) for rank, file in enumerate(errors)]
    for process in started:
        process.join(timeout=300)
    said = [file.read_text() if file.exists() else "" for file in errors]
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert codes == (ends or [0] * world), said
    return said
