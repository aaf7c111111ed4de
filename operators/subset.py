"""A part of another operator's measurements."""

import torch
from torch import Tensor

from operators.base import Operator


class Subset(Operator):
    """Keep some measurements of an operator and set the others to zero: B(x) = K A(x).

    A may be non-linear; its own attributes are those of `subset.A`.

    Args:
        A: operator of all measurements.
        keep: A.out_shape bool, True for the measurements that are kept.

    Raises:
        ValueError: keep is of another shape or dtype, or keeps nothing.
    """

    def __init__(self, A: Operator, keep: Tensor) -> None:
        check_selection(A, keep)
        if not keep.any():
            raise ValueError("keep is False everywhere; expected measurements that are kept")
        super().__init__(in_shape=A.in_shape, out_shape=A.out_shape)
        self.A = A
        self.register_buffer("keep", keep.to(next(A.buffers(), keep).device))

    def forward(self, x: Tensor) -> Tensor:
        """Compute K A(x).

        Args:
            x: (B, *in_shape), as A takes it.

        Returns:
            (B, *out_shape), zero where nothing is kept.
        """
        return torch.where(self.keep, self.A(x), 0)

    def adjoint(self, y: Tensor) -> Tensor:
        """Compute A^H K y; only if A has an adjoint.

        Args:
            y: (B, *out_shape); what is not kept is ignored.

        Returns:
            (B, *in_shape).
        """
        self.check_measurement(y)
        return self.A.adjoint(torch.where(self.keep, y, 0))

    def pinv(self, y: Tensor) -> Tensor:
        """Compute A's direct reconstruction of the measurements with their gaps closed.

        A gap is closed linearly between the nearest kept entries of its row, along the last axis:
        the bins of a projection, the pixels of a row. At its ends the nearest one is repeated; a
        row of which nothing is kept is zero. Approximate.

        Args:
            y: (B, *out_shape); what is not kept is ignored.

        Returns:
            (B, *in_shape).
        """
        self.check_measurement(y)
        keep, n = self.keep, y.shape[-1]
        index = torch.arange(n, device=keep.device)
        before = torch.where(keep, index, -1).cummax(dim=-1).values
        behind = torch.where(keep, index, n).flip(-1).cummin(dim=-1).values.flip(-1)
        before, behind = (  # where one side has none, the other's
            torch.where(before < 0, behind, before).clamp(max=n - 1),
            torch.where(behind == n, before, behind).clamp(min=0),
        )
        share = (index - before) / (behind - before).clamp(min=1)
        left, right = (y.gather(-1, side.expand(y.shape)) for side in (before, behind))
        closed = left + share.to(left.real.dtype) * (right - left)  # y itself where it is kept
        return self.A.pinv(torch.where(keep.any(dim=-1, keepdim=True), closed, 0))

    def norm(self) -> float:
        """Return ||A||_2, which ||K A||_2 does not exceed."""
        return self.A.norm()


def whole(A: Operator) -> Operator:
    """Return the operator that a Subset is a part of; any other operator as it is."""
    return A.A if isinstance(A, Subset) else A


def check_selection(A: Operator, selection: Tensor) -> None:
    """Raise ValueError unless a selection of A's measurements is bool of shape A.out_shape."""
    if selection.dtype != torch.bool or tuple(selection.shape) != A.out_shape:
        raise ValueError(
            f"{type(A).__name__}: expected a selection of measurements, bool of shape "
            f"{A.out_shape}, got {selection.dtype} {tuple(selection.shape)}"
        )
