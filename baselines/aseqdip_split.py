"""The mean of aSeqDIP's image and Split DIP's."""

from torch import Tensor, nn

from operators.base import Operator
from utils.callback import Callback
from utils.methods import Method


def aseqdip_split(
    y: Tensor,
    A: Operator,
    net: nn.Module | None = None,
    *,
    images: Tensor,
    z0: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Average the images of methods whose errors differ.

        x_hat = (x_1 + x_2) / 2

    By convexity its misfit and its squared error are at most the means of theirs.

    Args:
        y, A, net, z0, callback: not used.
        images: x_1 and x_2, (2, *A.in_shape).

    Returns:
        x_hat, (1, *A.in_shape).

    Reference:
        None; docs/choices.md has what it is worth.
    """
    return images.mean(dim=0, keepdim=True)


METHOD = Method(
    "aseqdip_split", "aSeqDIP + Split DIP", aseqdip_split, takes=("images",),
    output="mean of both", parts=("aseqdip", "split_dip"),
)  # fmt: skip
