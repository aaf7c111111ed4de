"""Ref-Guided DIP: the network is fed with a reference image, which is data from elsewhere."""

from torch import Tensor, nn

from baselines.vanilla_dip import vanilla_dip
from operators.base import Operator
from utils.callback import Callback
from utils.methods import Method, Positive


def ref_guided_dip(
    y: Tensor,
    A: Operator,
    net: nn.Module,
    *,
    z0: Tensor | None = None,
    steps: int = 4000,
    lr: Positive = 1e-4,
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


METHOD = Method(
    "ref_guided_dip", "Ref-Guided DIP (prior data)", ref_guided_dip, net="unet", needs="reference"
)
