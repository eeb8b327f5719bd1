"""Graphics cards: memory and peak speed as their makers state them."""

import re
from dataclasses import dataclass

import torch

from unsay.errors import UserError


@dataclass(frozen=True)
class Gpu:
    """One kind of card.

    Attributes:
        memory_bytes: of one card.
        half: operations per second at most in bfloat16 and float16, on tensor cores, dense: sparsity is not counted.
        single: the same in float32, without TF32: PyTorch multiplies so unless it is told otherwise.
        source: where these numbers are stated.
    """

    memory_bytes: int
    half: float
    single: float
    source: str

    def peak(self, dtype: torch.dtype) -> float:
        """Operations per second at most where products are made in this precision."""
        return self.half if dtype.itemsize < torch.float32.itemsize else self.single


GB = 10**9
GIB = 2**30

GPUS: dict[str, Gpu] = {
    "H200": Gpu(141 * GB, 989e12, 67e12, "NVIDIA H200 data sheet (SXM; half precision halved from that with sparsity)"),
    "H100": Gpu(80 * GIB, 989e12, 67e12, "NVIDIA H100 data sheet (SXM; half precision halved from that with sparsity)"),
    "A100-80": Gpu(80 * GIB, 312e12, 19.5e12, "NVIDIA A100 data sheet"),
    "A100-40": Gpu(40 * GIB, 312e12, 19.5e12, "NVIDIA A100 data sheet"),
    "L40S": Gpu(48 * GIB, 362e12, 91.6e12, "NVIDIA L40S data sheet"),
    "L4": Gpu(24 * GIB, 121e12, 30.3e12, "NVIDIA L4 data sheet (half precision halved from that with sparsity)"),
    "A10G": Gpu(24 * GIB, 70e12, 35e12, "NVIDIA A10G data sheet"),
    "RTX4090": Gpu(24 * GIB, 165e12, 82.6e12, "NVIDIA Ada GPU architecture white paper (float32 accumulation)"),
}


def parse_gpus(text: str) -> tuple[int, str]:
    """`8xH100` → (8, "H100"); a bare name is one card.

    Raises:
        UserError: malformed, or a card that is not in the table.
    """
    found = re.fullmatch(r"(?:(\d{1,4})\s*x\s*)?(\S+)", text.strip(), flags=re.IGNORECASE)
    names = {name.lower(): name for name in GPUS}
    if found is None or found[2].lower() not in names or (found[1] is not None and int(found[1]) < 1):
        raise UserError(f"--gpus: '{text}' is not understood: write 1xH100 or 8xA100-80; known are {', '.join(GPUS)}")
    return int(found[1] or 1), names[found[2].lower()]
