"""What the classical methods share: which problems they take, and how large an operator is."""

import math

from torch import Tensor

from operators.base import Operator
from operators.mri import MultiCoilMRI
from operators.subset import Subset


def check_problem(method: str, y: Tensor, A: Operator, *kinds: type[Operator]) -> None:
    """Raise ValueError unless A is of one of these kinds, and y measures one image with it.

    Args:
        method: its name, for the message.
        y: measurements.
        A: forward operator.
        kinds: the operators that the method is for.
    """
    if not isinstance(A, kinds):
        if isinstance(A, Subset):  # of operators that cannot leave measurements out themselves
            raise ValueError(
                f"{method}: it needs all measurements in this task and got Subset, so it does not go "
                "with --stop holdout; take another --stop or another --method"
            )
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{method}: expected an operator {expected}, got {type(A).__name__}")
    A.check_measurement(y)
    if len(y) != 1:
        raise ValueError(f"{method}: expected the measurements of one image, got {len(y)}")


def operator_norm(A: Operator) -> float:
    """Return ||A||_2, or for MRI a bound that it reaches where k-space is fully sampled.

    Args:
        A: any operator. A Subset is taken as the whole. Without a norm() of its own it is taken as
            1, which PixelMask and Identity have, and a blur nearly.
    """
    A = A.A if isinstance(A, Subset) else A
    if isinstance(A, MultiCoilMRI):
        return math.sqrt(A.sens_maps.abs().square().sum(dim=0).max())
    return A.norm() if hasattr(A, "norm") else 1.0
