"""ES-DIP: the deep image prior, stopped by the variance of its images."""

from typing import Annotated, Literal

from torch import Tensor, nn

from baselines.vanilla_dip import vanilla_dip
from operators.base import Operator
from utils.callback import Callback
from utils.methods import Count, Method, NotNegative, Positive, Range
from utils.stopping import ExponentialVariance, Rule, RunningVariance, Stopping


def es_dip(
    y: Tensor,
    A: Operator,
    net: nn.Module,
    *,
    z0: Tensor | None = None,
    steps: int = 4000,
    lr: Positive = 0.01,
    z_scale: Positive = 0.1,
    input_noise: NotNegative = 0.0,
    variant: Literal["wmv", "emv"] = "wmv",
    window: Annotated[int, Range(2)] = 100,
    patience: Count = 1000,
    alpha: Annotated[float, Range(0, 1, above=True, below=True)] = 0.1,
    skip: Annotated[int, Range(0)] = 100,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by the deep image prior; return the image where its variance is lowest.

        x_hat = x_t*,   t* = argmin_t VAR_t

    x_t are the images of vanilla_dip. VAR_t is the variance of the last W of them (wmv), or that
    around their exponential average, which is then the result (emv). The steps end when `patience`
    of them have brought no lower variance. A minimum in the last `patience` steps stays
    unconfirmed: what is returned then is the best so far.

    Args:
        y, A, net, z0, steps, lr, z_scale, input_noise, seed: as for vanilla_dip.
        variant: wmv or emv; utils.stopping has both.
        window: W of wmv.
        patience: steps without a lower variance.
        alpha, skip: of emv.
        callback: is told each step and its image, as by vanilla_dip.

    Returns:
        x_hat, (1, *A.in_shape): the iterate at t* (wmv), or the average there (emv).

    Raises:
        ValueError: variant is not known, or a number is out of range.

    Reference:
        Wang, Li, Zhuang, Chen, Liang, Sun, Early Stopping for Deep Image Prior, TMLR 2023;
        window, patience, alpha and skip are those of the authors' public code, which denoises
        with 5000 steps and an input noise of 1/30. Differs from it: as vanilla_dip,
        RunningVariance and ExponentialVariance say.
    """
    callback = Callback() if callback is None else callback
    rule: Rule
    if variant == "wmv":
        rule = RunningVariance(window, patience)
    elif variant == "emv":
        rule = ExponentialVariance(alpha, patience, skip)
    else:
        raise ValueError(f"variant must be wmv or emv, got {variant}")
    vanilla_dip(
        y, A, net, z0=z0, steps=steps, lr=lr, z_scale=z_scale, input_noise=input_noise, seed=seed,
        callback=Stopping(rule, callback),
    )  # fmt: skip
    callback.chose(rule.best_step)
    return rule.best


METHOD = Method(
    "es_dip", "ES-DIP", es_dip, net="noise", output="iterate at the stop", own_stop=True
)
