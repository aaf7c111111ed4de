"""The parts of total variation that sigpy's primal-dual solver takes."""

from collections.abc import Callable

import numpy as np
import sigpy
import torch
from torch import Tensor


def differences(shape: tuple[int, ...], dtype: np.dtype) -> sigpy.linop.Linop:
    """Return the differences to the pixels above and left, (2, C, H, W), 0 without one."""
    across = sigpy.linop.FiniteDifference(shape, axes=(-2, -1))  # over the border, too
    inside = np.ones((2, 1, *shape[-2:]), dtype=dtype)
    inside[0, :, 0, :] = inside[1, :, :, 0] = 0
    return sigpy.linop.Multiply(across.oshape, inside) * across


class TorchLinop(sigpy.linop.Linop):
    """A linear map of tensors (1, *shape) as sigpy has them: of arrays without the batch axis."""

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        adjoint: Callable[[Tensor], Tensor],
        ishape: tuple[int, ...],
        oshape: tuple[int, ...],
        device: torch.device,
    ) -> None:
        super().__init__(oshape, ishape)
        self.forward, self.backward, self.device = forward, adjoint, device

    def _apply(self, input: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(input)[None].to(self.device)
        return self.forward(tensor)[0].cpu().numpy()

    def _adjoint_linop(self) -> "TorchLinop":
        return TorchLinop(self.backward, self.forward, self.oshape, self.ishape, self.device)


class LengthSum(sigpy.prox.Prox):
    """The proximal operator of lamda sum_i sqrt(|u_1i|^2 + |u_2i|^2), u of (2, ...)."""

    def __init__(self, shape: tuple[int, ...], lamda: float) -> None:
        super().__init__(shape)
        self.lamda = lamda

    def _prox(self, alpha: float, input: np.ndarray) -> np.ndarray:
        length = np.sqrt((np.abs(input) ** 2).sum(axis=0))
        threshold = alpha * self.lamda
        removed = np.divide(threshold, length, out=np.ones_like(length), where=length > threshold)
        return (1 - removed) * input
