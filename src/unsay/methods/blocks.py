"""Which of a decoder's blocks a method reads, said as a number or as a share of the depth."""

from typing import Annotated

from pydantic import AfterValidator

from unsay.errors import UserError
from unsay.methods.base import Block, Blocks


def _named(block: Block) -> Block:
    if isinstance(block, float) and not 0 < block <= 1:
        raise ValueError("a share of the depth lies above 0 and at most at 1; a block's number is a whole number")
    if isinstance(block, int) and block < 0:
        raise ValueError("blocks are counted from 0")
    return block


BlockSetting = Annotated[Block, AfterValidator(_named)]
"""A setting that names a block: a whole number counts from 0, a fraction is a share of the depth."""


def block_numbers(blocks: Blocks, depth: int) -> list[int]:
    """The numbers of these blocks in a decoder that has `depth` of them, in the same order.

    Args:
        blocks: as a method declares them.
        depth: how many blocks the decoder has.

    Raises:
        UserError: a number that the decoder does not have.
    """
    if blocks == "all":
        return list(range(depth))
    numbers = [max(round(block * depth), 1) - 1 if isinstance(block, float) else block for block in blocks]
    for number in numbers:
        if number >= depth:
            raise UserError(
                f"method_settings: block {number} does not exist; this model has {depth}, counted from 0 "
                "(a fraction such as 0.5 is a share of the depth)"
            )
    return numbers
