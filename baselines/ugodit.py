"""UGoDIT: a decoder fitted to the measurements, on an encoder that others have trained."""

import torch
from torch import Tensor, nn

from operators.base import Operator
from utils.callback import Callback
from utils.methods import Count, Method, NotNegative, Positive
from utils.optim import Output, Update, adam, sqnorm


def ugodit(
    y: Tensor,
    A: Operator,
    net: nn.Module,
    *,
    z0: Tensor | None = None,
    steps: int = 4000,
    N: Count = 10,
    lr: Positive = 0.01,
    lambda_ae: NotNegative = 2.0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by UGoDIT: aSeqDIP's two equations, with those weights alone that may change.

        psi_k = argmin_psi ||A f(z_{k-1}) - y||^2 + lambda ||f(z_{k-1}) - z_{k-1}||^2,
        z_k = f_{psi_k}(z_{k-1}),    f = g_psi(h(z)),    z_0 = A^+ y

    with N Adam steps for each argmin. h is the encoder that ugodit_train.py made from
    measurements of other images, g a fresh decoder.

    Args:
        y: measurements, (1, *A.out_shape).
        A: forward operator.
        net: network from (1, *A.in_shape) to itself; weights without requires_grad stay as they
            are, and utils.encoders.fit makes those of the encoder such.
        z0: start of the sequence, (1, *A.in_shape); None takes A.pinv(y).
        steps: weight updates; z is updated after each N of them.
        N: weight updates for an input.
        lr: Adam's learning rate.
        lambda_ae: weight of the autoencoding term, beside a sum of squares with ||A|| = 1.
        callback: is told each step and its image: z_k after an update of z, else the network's
            output before that step.

    Returns:
        x_hat, (1, *A.in_shape): the image of the last step.

    Raises:
        ValueError: N is below 1.

    Reference:
        Liang, Alkhouri, Gautam, Qu, Ravishankar, UGoDIT, NeurIPS 2025 (arXiv 2505.11720). Its
        settings are those of the authors' public code for super-resolution; docs/ugodit.md tells
        where that code differs from what is done here.
    """
    if N < 1:
        raise ValueError(f"expected N of at least 1, got {N}")
    callback = Callback() if callback is None else callback
    z = (A.pinv(y) if z0 is None else z0).detach().clone()

    def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = net(z)
        data_term, autoencoding_term = sqnorm(A(x), y), sqnorm(x, z)
        loss = data_term + lambda_ae * autoencoding_term
        return x, {"loss": loss, "data_term": data_term, "autoencoding_term": autoencoding_term}

    free = [parameter for parameter in net.parameters() if parameter.requires_grad]
    update = Update(objective, adam(free, lr), graph=True)
    net_output = Output(net)
    x = callback.start(None, net=net, z=z, update=update)
    for step in callback.outer(steps):
        x = update(z)
        if step % N == 0:
            x = net_output(z)
            with torch.no_grad():
                z.copy_(x)  # in place: a checkpoint restores it so
        callback.record(step, x, update.terms)
    return x


METHOD = Method("ugodit", "UGoDIT (prior measurements)", ugodit, net="ugodit", needs="encoder")
