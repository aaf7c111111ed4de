"""Rules that end an iterative method, or choose one image of it, without knowing the truth."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from operators.base import Operator
from operators.subset import check_selection
from utils.averages import added, average
from utils.callback import Callback
from utils.optim import norm, sqnorm


class Rule:
    """Keep the image at which a value is lowest; stop where no lower one comes any more.

    A subclass computes the value. Until it can tell one, the latest image is kept. Each image
    costs one wait for the device.

    Args:
        patience: stop after so many images in a row without a new minimum; infinity never stops.

    Attributes:
        best: the image kept, of the images' shape, dtype and device; None before the first one.
        best_step: its step.
        value: of the latest image; infinity where it cannot be told yet.
        stop: True when the rule has decided; from then on it changes no more.
    """

    state_names = ("best", "best_step", "value", "stop", "lowest", "waited")

    def __init__(self, patience: float = math.inf) -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self.patience = patience
        self.best: Tensor | None = None
        self.best_step = 0
        self.value = self.lowest = math.inf
        self.stop = False
        self.waited = 0

    def see(self, k: int, x: Tensor) -> None:
        """Take step k's image x, detached; all images have one shape and dtype."""
        if self.stop:
            return
        self.value, image = self._judge(x)
        if self.value < self.lowest:
            self.lowest, self.waited = self.value, 0
        elif self.lowest < math.inf:
            self.waited += 1
            self.stop = self.waited >= self.patience
            return
        # A copy: the method may put its next image where this one lies.
        self.best, self.best_step = image.clone(), k

    def _judge(self, x: Tensor) -> tuple[float, Tensor]:
        """Return the value after image x, and the image to keep if it is the lowest."""
        raise NotImplementedError

    def to(self, device: torch.device | str) -> None:
        """Move everything to the device of the images; a checkpoint may come from another."""
        for name in self.state_names:
            if isinstance(getattr(self, name), Tensor):
                setattr(self, name, getattr(self, name).to(device))

    def state_dict(self) -> dict[str, Any]:
        """Return all that decides what the rule does next, as tensors, numbers and None."""
        return {name: getattr(self, name) for name in self.state_names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state; the tensors stay where they are, until `to` moves them."""
        for name in self.state_names:
            value = state[name]
            setattr(self, name, value.clone() if isinstance(value, Tensor) else value)


class RunningVariance(Rule):
    """Choose the image after which the last W images differ least among themselves: ES-WMV.

        VAR_t = 1/W sum_w 1/n ||x_(t-w) - xbar_t||^2,   w = 0..W-1

    with xbar_t the mean of these W images of n entries each. While a network fits the image it
    changes much; when it begins to fit the noise it changes much again. The image kept is x_t
    itself, not the mean. The first W - 1 images have no value.

    The last W images are held, also in checkpoints. A step costs a few passes over one image: an
    image that comes for one that goes changes xbar by their difference over W, and the sum of
    squares W n VAR by

        Re <x_new - x_old, (x_new - xbar_new) + (x_old - xbar_old)>.

    All W are summed anew in each W-th step, so that rounding errors do not add up.

    Args:
        window: W, in images seen, at least 2.
        patience: stop after so many images without a new minimum.

    Reference:
        Wang et al., Early Stopping for Deep Image Prior, TMLR 2023: ES-WMV; window and patience
        are those of the authors' public code. Differs from it: the image at the minimum is kept
        and the steps end, where the code marks the minimum in a plot and goes on to its last step.
    """

    state_names = (*Rule.state_names, "images", "mean", "scatter", "n_seen")

    def __init__(self, window: int = 100, patience: float = 1000) -> None:
        super().__init__(patience)
        if window < 2:
            raise ValueError(f"window must be at least 2, got {window}")
        self.window = window
        self.images: Tensor | None = None  # (W, *x.shape), the latest in place of the oldest
        self.mean: Tensor | None = None  # x.shape, in double precision
        self.scatter = math.inf  # sum of squared distances from the mean
        self.n_seen = 0

    def _judge(self, x: Tensor) -> tuple[float, Tensor]:
        if self.images is None:
            self.images = x.new_zeros(self.window, *x.shape)
        slot = self.n_seen % self.window
        self.n_seen += 1
        if self.n_seen % self.window == 0:
            self.images[slot] = x
            self.mean = sum(map(_double, self.images)) / self.window
            self.scatter = sum(sqnorm(_double(image), self.mean) for image in self.images).item()
        else:
            if self.mean is not None:
                self._replace(_double(self.images[slot]), _double(x))
            self.images[slot] = x
        return max(self.scatter, 0.0) / (self.window * x.numel()), x

    def _replace(self, old: Tensor, new: Tensor) -> None:
        change = new - old
        distances = old - self.mean
        self.mean = self.mean + change / self.window
        distances += new - self.mean
        self.scatter += (change.conj() * distances).real.sum().item()


class ExponentialVariance(Rule):
    """Choose the image by the variance around an exponential average: ES-EMV.

        EMV_t = (1 - alpha) (EMV_(t-1) + alpha ||x_t - m_(t-1)||^2),   EMV_1 = 0
        m_t = m_(t-1) + alpha (x_t - m_(t-1)),                         m_1 = x_1

    It needs no window of images. The image kept is the average m_t, not the iterate x_t: it is
    the one that the authors plot.

    Args:
        alpha: weight of the latest image, in (0, 1).
        patience: stop after so many images without a new minimum.
        skip: updates of the average that are not judged; EMV starts at 0 and has to grow first.

    Reference:
        Wang et al., Early Stopping for Deep Image Prior, TMLR 2023: ES-EMV; the defaults are
        those of the authors' public code. Differs from it: the average is not clipped to [0, 1],
        which complex images and others have not; it is held in double precision; and as in
        RunningVariance, the steps end.
    """

    state_names = (*Rule.state_names, "average", "variance", "n_seen")

    def __init__(self, alpha: float = 0.1, patience: float = 1000, skip: int = 100) -> None:
        super().__init__(patience)
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
        if skip < 0:
            raise ValueError(f"skip must be at least 0, got {skip}")
        self.alpha = alpha
        self.skip = skip
        self.average: Tensor | None = None
        self.variance = 0.0
        self.n_seen = 0

    def _judge(self, x: Tensor) -> tuple[float, Tensor]:
        if self.average is None:
            self.average = _double(x)
        distance = sqnorm(_double(x), self.average).item()
        self.average = self.average + self.alpha * (x - self.average)
        self.variance = (1 - self.alpha) * (self.variance + self.alpha * distance)
        self.n_seen += 1
        judged = self.n_seen - 1 > self.skip  # the first image starts the average
        return self.variance if judged else math.inf, self.average.to(x.dtype)


class HeldOut(Rule):
    """Choose the image that predicts best the measurements the method has not seen.

        e_t = ||H (A x_t - y)||^2

    H picks the entries that were held out. It never stops early: the error may go up and come
    down again.

    Args:
        A: the operator of all measurements.
        y: all measurements, (1, *A.out_shape).
        held: A.out_shape bool, True for those that are held out, of utils.holdout. The method gets
            without(A, held).

    Raises:
        ValueError: held is of another shape or dtype, or holds nothing out.

    Reference:
        As zero-shot self-supervised learning stops on held-out k-space (Yaman, Hosseini,
        Akcakaya, ICLR 2022). Differs from it: it runs to the last step and goes back to the best.
    """

    def __init__(self, A: Operator, y: Tensor, held: Tensor) -> None:
        super().__init__()
        A.check_measurement(y)
        check_selection(A, held)
        if not held.any():
            raise ValueError("held is False everywhere; expected measurements that are held out")
        self.A = A
        self.places = held.to(y.device).flatten().nonzero()[:, 0]
        self.y_held = y.flatten(1)[:, self.places]

    @torch.no_grad()
    def _judge(self, x: Tensor) -> tuple[float, Tensor]:
        return sqnorm(self.A(x).flatten(1)[:, self.places], self.y_held).item(), x


class AtNoise(Rule):
    """End the steps where an image fits the measurements about as closely as the truth does.

        ||A x_t - y|| <= limit = tau noise_norm,    noise_norm the expected ||A x_true - y||

    x_t is what becomes the result: the latest image, or with a decay d the average over the images,
    sum_s d^(t-s) x_s / sum_s d^(t-s). If it fits the measurements more closely, it fits their noise. A
    good image fits a little of it, so tau may be below 1: of m measurements p parameters fit a share
    of p / m, and leave sqrt(1 - p / m) of the norm.
    The first one does not count, nor do later ones with the same misfit: some methods show their
    start until they have made an image. The rule chooses no image: `best` stays None.

    Args:
        A: the operator.
        y: the measurements, (1, *A.out_shape).
        limit: above 0.
        decay: in [0, 1), memory of the exponential average over the images; 0 judges each alone.

    Raises:
        ValueError: y does not fit A, limit is not above 0, or decay not in [0, 1).

    Reference:
        The discrepancy principle: Morozov, On the solution of functional equations by the method
        of regularization, Soviet Mathematics Doklady 1966.
    """

    state_names = ("value", "stop", "first", "total", "n_seen")

    def __init__(self, A: Operator, y: Tensor, limit: float, decay: float = 0.0) -> None:
        super().__init__()
        A.check_measurement(y)
        if not limit > 0:
            raise ValueError(f"expected a limit above 0, got {limit}")
        if not 0 <= decay < 1:
            raise ValueError(f"expected decay in [0, 1), got {decay}")
        self.A, self.y, self.limit, self.decay = A, y, limit, decay
        self.first: float | None = None  # value
        self.total: Tensor | None = None  # of the average
        self.n_seen = 0

    @torch.no_grad()
    def see(self, k: int, x: Tensor) -> None:
        """Take step k's image x, detached."""
        self.n_seen += 1
        self.total = added(self.total, x, self.decay)
        self.value = norm(self.A(average(self.total, self.decay, self.n_seen)), self.y).item()
        self.first = self.value if self.first is None else self.first
        self.stop = self.stop or self.first != self.value <= self.limit


class Stopping(Callback):
    """Show a method's images to a rule, and end the steps when it says so.

    The rule is part of the method's state, so that a resumed run decides as an undisturbed one.

    Args:
        rule: sees each recorded image; rule.best is the one it has chosen, if it chooses one.
        callback: everything is passed on to it; None for none.
    """

    def __init__(self, rule: Rule, callback: Callback | None = None) -> None:
        self.rule = rule
        self.callback = Callback() if callback is None else callback

    def start(self, z0: Tensor | None = None, **state: Any) -> Tensor | None:
        """Take the method's state back, the rule's with it."""
        x = self.callback.start(z0, **state, rule=self.rule)
        if x is not None:
            self.rule.to(x.device)
        return x

    def prepare(self, n: int, what: str) -> Iterator[int]:
        """Pass it on."""
        yield from self.callback.prepare(n, what)

    def outer(self, n: int) -> Iterator[int]:
        """Yield the steps that are left of 1..n, none after the rule has decided."""
        # The other callback is asked for one step more than is made, and then closed: so it opens
        # and ends its steps also where a run is resumed after the rule had decided.
        with contextlib.closing(self.callback.outer(n)) as steps:
            for k in steps:
                if self.rule.stop:
                    break
                yield k

    def record(self, k: int, x: Tensor, terms: dict[str, Tensor]) -> None:
        """Show the image to the rule, then pass it on: a checkpoint holds what the rule knows."""
        self.rule.see(k, x)
        self.callback.record(k, x, terms)

    def chose(self, k: int) -> None:
        """Pass it on."""
        self.callback.chose(k)


def _double(x: Tensor) -> Tensor:
    """Return x in double precision."""
    return x.to(torch.promote_types(x.dtype, torch.float64))
