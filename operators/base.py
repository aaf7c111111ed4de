"""What every forward operator has: checked shapes."""

from typing import ClassVar

from torch import Tensor, nn


class Operator(nn.Module):
    """A measurement operator A with its adjoint and a direct reconstruction.

    Subclasses hold masks, maps or kernels as buffers, do not change after construction, and
    define forward(x) -> A x (noiseless), adjoint(y) -> A^H y and pinv(y) -> x; and norm() where
    ||A||_2 is far from 1.

    Args:
        in_shape: shape of one image x, without the batch axis.
        out_shape: shape of one measurement y, without the batch axis.

    Attributes:
        assumes: what the user says of it that may not fit real measurements, for a warning.
    """

    assumes: ClassVar[str] = "the operator"

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.out_shape = tuple(out_shape)

    def norm(self) -> float:
        """Return ||A||_2, or what is near it."""
        return 1.0

    def check_image(self, x: Tensor) -> None:
        """Raise ValueError unless x is (B, *in_shape)."""
        self._check("image x", x, self.in_shape)

    def check_measurement(self, y: Tensor) -> None:
        """Raise ValueError unless y is (B, *out_shape)."""
        self._check("measurement y", y, self.out_shape)

    def _check(self, what: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        if tensor.ndim != len(shape) + 1 or tuple(tensor.shape[1:]) != shape:
            expected = ", ".join(["B", *map(str, shape)])
            raise ValueError(
                f"{type(self).__name__}: expected {what} of shape ({expected}), "
                f"got {tuple(tensor.shape)}"
            )
