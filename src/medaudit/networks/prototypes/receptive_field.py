"""Which pixels a cell of a stack of convolutions sees, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medaudit.errors import UsageError


@dataclass(frozen=True)
class ReceptiveField:
    """Cell i of a side sees the pixels from ``start + i * jump`` on, ``size`` of them; ``start`` is negative by
    padding.
    """

    size: int
    jump: int
    start: int

    def box(self, row: int, column: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return top, left, bottom, right of a cell in an image, the last two not inside; cut at the image's edge."""
        top, left = self.start + row * self.jump, self.start + column * self.jump
        return max(0, top), max(0, left), min(height, top + self.size), min(width, left + self.size)


def receptive_field(kernels: Sequence[int], strides: Sequence[int], paddings: Sequence[int]) -> ReceptiveField:
    """Return the receptive field of convolutions one after the other (square kernels, no dilation).

    Raises UsageError where the three differ in length.
    """
    if not len(kernels) == len(strides) == len(paddings):
        raise UsageError(
            f"{len(kernels)} kernels, {len(strides)} strides, {len(paddings)} paddings; expected one number"
        )
    size, jump, start = 1, 1, 0
    for kernel, stride, padding in zip(kernels, strides, paddings, strict=True):
        start -= padding * jump
        size += (kernel - 1) * jump
        jump *= stride
    return ReceptiveField(size, jump, start)
