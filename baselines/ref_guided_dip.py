"""Ref-Guided DIP: the network is fed with a reference image, which is data from elsewhere."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.vanilla_dip import vanilla_dip
from operators.base import Operator
from utils.callback import Callback


def ref_guided_dip(
    y: Tensor,
    A: Operator,
    net: nn.Module,
    *,
    z0: Tensor | None = None,
    steps: int = 4000,
    lr: float = 1e-4,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by the deep image prior, with a similar image as the network's input.

        min_phi ||A f_phi(z0) - y||^2                                                    (1)

    It needs prior data: a fully sampled image that resembles the one to be reconstructed.

    Args:
        y: measurements, (1, *A.out_shape).
        A: forward operator.
        net: untrained network from (1, *A.in_shape) to itself.
        z0: the reference image, (1, *A.in_shape), of the dtype that the network takes; required.
            nearest_reference chooses one.
        steps: weight updates (aSeqDIP, appendix C.6: 4000).
        lr: Adam's learning rate.
        callback: is told each step and its image, the network's output before that step.

    Returns:
        x_hat, (1, *A.in_shape): the image of the last step.

    Raises:
        ValueError: there is no reference.

    Reference:
        Zhao, Zhao, Gan, Reference-driven compressed sensing MR image reconstruction using deep
        convolutional neural networks without pre-training, Sensors 2020, as in eq. (1) and
        appendix C.6 of aSeqDIP (Alkhouri et al., NeurIPS 2024). Differs from aSeqDIP: nothing that
        it tells; the learning rate is that of its own method.
    """
    if z0 is None:
        raise ValueError("Ref-Guided DIP needs a reference image: expected it as z0, got None")
    return vanilla_dip(y, A, net, z0=z0, steps=steps, lr=lr, input_noise=0.0, callback=callback)


@torch.no_grad()
def nearest_reference(
    candidates: Sequence[Tensor], y: Tensor, A: Operator
) -> tuple[int, list[float]]:
    """Choose the reference image whose measurements look most like y.

        argmin_c || |pinv(A x_c)| / ||pinv(A x_c)|| - |pinv(y)| / ||pinv(y)|| ||

    A candidate goes through the measurement before it is compared, so that the artefacts are the
    same on both sides, and its scale and phase do not count. This uses prior data: candidates
    must come from other patients than y, or the comparison with other methods is not fair.

    Args:
        candidates: fully sampled images x_c, (1, *A.in_shape) each; real magnitudes or complex.
        y: measurements, (1, *A.out_shape).
        A: forward operator.

    Returns:
        Index of the nearest candidate, and the distance of each, between 0 and sqrt(2).

    Raises:
        ValueError: there is no candidate.

    Reference:
        aSeqDIP, appendix C.6: "a distance metric such as Euclidean distance". Differs from the
        paper: nothing; what is compared, and how it is scaled, is not told there.
    """
    if not candidates:
        raise ValueError("expected at least one candidate for the reference image, got none")
    target = A.pinv(y)
    measured = [A.pinv(A(x.to(target))) for x in candidates]
    distances = [(_direction(x) - _direction(target)).norm().item() for x in measured]
    return min(range(len(distances)), key=distances.__getitem__), distances


def _direction(x: Tensor) -> Tensor:
    """Return the magnitudes of x at unit norm; those of a black image stay 0."""
    return F.normalize(x.abs().flatten(), dim=0)
