"""Several images, each measured by an operator of its own."""

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from operators.base import Operator
from utils.tensors import pack, unpack


class Stacked(Operator):
    """Measure M images that lie one after the other: A x = (A_1 x_1, ..., A_M x_M).

    Images and measurements may differ in size; each side has one dtype.

    Args:
        operators: A_1 to A_M.
    """

    def __init__(self, operators: Sequence[Operator]) -> None:
        super().__init__(
            (sum(math.prod(A.in_shape) for A in operators),),
            (sum(math.prod(A.out_shape) for A in operators),),
        )
        self.operators = nn.ModuleList(operators)

    def forward(self, x: Tensor) -> Tensor:
        """Compute A x.

        Args:
            x: (B, n), all entries of x_1, then those of x_2, and so on.

        Returns:
            (B, m), likewise.
        """
        self.check_image(x)
        return self._each(x, [A.in_shape for A in self.operators], lambda A: A)

    def adjoint(self, y: Tensor) -> Tensor:
        """Compute A^H y, (B, n); only if all of A_1 to A_M have an adjoint."""
        self.check_measurement(y)
        return self._each(y, [A.out_shape for A in self.operators], lambda A: A.adjoint)

    def pinv(self, y: Tensor) -> Tensor:
        """Return each operator's direct reconstruction, (B, n)."""
        self.check_measurement(y)
        return self._each(y, [A.out_shape for A in self.operators], lambda A: A.pinv)

    def _each(
        self,
        packed: Tensor,
        shapes: list[tuple[int, ...]],
        action: Callable[[Operator], Callable[[Tensor], Tensor]],
    ) -> Tensor:
        parts = unpack(packed, shapes)
        return pack([action(A)(part) for A, part in zip(self.operators, parts, strict=True)])
