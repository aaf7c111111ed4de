"""One reconstruction problem: what a method may know of it, and how its result is judged."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from operators.base import Operator
from utils.figures import ERROR_SCALE
from utils.optim import norm


@dataclass
class Problem:
    """What a task script builds of a scan or a picture.

    Args:
        y: measurements, (1, *A.out_shape).
        A: forward operator.
        known: what else a method may be given, by name, such as the noise's `sigma`.
        x_true: the truth on y's scale, (1, *A.in_shape), None without one. No method sees it.
        score: maps an image to its figures against the truth; without one it gives {}.
        facts: what metrics.json is to hold of the problem.
        title: what the pictures are of.
        array: makes of an image what is saved, in the units of the user's data.
        image: makes an image, (1, *A.in_shape), of what `array` has saved; None in tasks without a
            method that takes the images of others.
        picture: makes of what is saved what is shown, (H, W) or (H, W, 3).
        names: titles of `truth`, `input` and the derived images in the comparison.
        limits: values shown as black and white; None takes 0 and the truth's maximum, or without a
            truth the 99.9th percentile of the result.
        extra, error_scale, focus: as for figures.comparison.
        arrays: further arrays to save, by file name.
        derived: further images to make of the result, by name.
        noise_norm: expected ||A x_true - y||, as far as it is known without the truth; 0 for none.
        reference: for methods that use prior data: chooses the image of --reference, and says
            what metrics.json is to hold of it.
    """

    y: Tensor
    A: Operator
    x_true: Tensor | None
    score: Callable[[Tensor], dict[str, float]]
    facts: dict[str, Any]
    title: str
    array: Callable[[Tensor], np.ndarray]
    picture: Callable[[np.ndarray], np.ndarray]
    names: dict[str, str]
    image: Callable[[np.ndarray], Tensor] | None = None
    limits: tuple[float, float] | None = None
    extra: tuple[str, np.ndarray] | None = None
    error_scale: float = ERROR_SCALE
    focus: np.ndarray | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    derived: dict[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)
    noise_norm: float = 0.0
    reference: Callable[[], tuple[Tensor, dict[str, Any]]] | None = None

    def __post_init__(self) -> None:
        if self.x_true is None:
            self.score = lambda x: {}

    @torch.no_grad()
    def misfit(self, x: Tensor) -> float:
        """Return ||A(x) - y|| / ||y|| of an image, (1, *A.in_shape). It needs no truth."""
        return (norm(self.A(x), self.y) / self.y.norm()).item()

    @property
    def noise(self) -> float:
        """The misfit of the truth: noise_norm / ||y||, 0 where no noise is known."""
        return (self.noise_norm / self.y.norm()).item()
