"""The processes that train one model together: who they are, and the few values they exchange.

`accelerate launch` and `torchrun` start them and pass each its place in environment variables. What they agree on (when
to stop, what to continue from) goes over a group of its own on the CPU, with a timeout of days: the others wait there
while the first evaluates.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from unsay.errors import UserError

Value = TypeVar("Value")

PATIENCE = timedelta(days=7)
"""How long a process waits while the first one evaluates."""

LOST = ("connection closed", "connection reset", "broken pipe", "timed out", "connect failed", "nccl error", "socket")
"""Words in the errors of gloo and NCCL when a process is gone."""


@dataclass(frozen=True)
class Processes:
    """One of the processes of a run. A single process exchanges nothing and pays nothing.

    Attributes:
        rank: its number; process 0 writes all files.
        world: the number of processes.
        local: its number on its own machine, and that of its accelerator.
        sharded: whether the model's frozen layers are split over the processes.
        control: the group on the CPU; None for a single process.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    sharded: bool = False
    control: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def broadcast(self, value: Value | None) -> Value | None:
        """The first process's value, which must be picklable, on all processes; all wait for the first."""
        if self.world == 1:
            return value
        boxed: list[Any] = [value if self.first else None]
        dist.broadcast_object_list(boxed, src=0, group=self.control, device=torch.device("cpu"))
        return cast("Value | None", boxed[0])

    def from_first(self, number: float) -> float:
        """The first process's number: clocks differ, decisions must not."""
        return self.sum([number if self.first else 0.0])[0]

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """Each number summed over all processes."""
        if self.world == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(total, group=self.control)
        return cast("list[float]", total.tolist())

    def any(self, mine: bool) -> bool:
        """Whether `mine` is true in any process."""
        return self.sum([float(mine)])[0] > 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in one exchange."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.world
        for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.any(False)


ALONE = Processes()
_joined = ALONE


def join() -> Processes:
    """Join the other processes of this run, if it has several; later calls give the same answer."""
    global _joined
    if _joined.world > 1 or not launched():
        return _joined
    world = int(os.environ["WORLD_SIZE"])
    sharded = sharding_requested()
    # Otherwise transformers loads weights in the first process only and leaves the others to the launcher's wrapper.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    _joined = Processes(rank, world, local, sharded, dist.new_group(backend="gloo", timeout=PATIENCE))
    return _joined


def launched() -> bool:
    """Whether a launcher started this process with others; some clusters set only `WORLD_SIZE`, in every job."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" in os.environ


def sharding_requested() -> bool:
    """Whether the launcher is configured to split the model, as FSDP2 and DeepSpeed ZeRO-3 do.

    Raises:
        UserError: FSDP1, or a lower stage of ZeRO.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        if os.environ.get("FSDP_VERSION", "1") != "2":
            raise UserError("accelerate: FSDP version 1 is not supported: set fsdp_version: 2 in its configuration")
        return True
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        if os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2") != "3":
            raise UserError(
                "accelerate: only DeepSpeed's stage ZeRO-3 changes anything when a small adapter is trained: set "
                "zero_stage: 3, or launch without DeepSpeed"
            )
        return True
    return False


def process_lost(error: BaseException) -> bool:
    """Whether an error means that another process is gone."""
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in LOST)


def refuse_several(command: str) -> None:
    """Raise a `UserError` if a launcher started several processes: each would do the same work."""
    if launched():
        raise UserError(f"unsay {command}: runs in one process; start it without accelerate launch or torchrun")
