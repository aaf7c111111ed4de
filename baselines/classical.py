"""What the classical methods share: which problems they take."""

from torch import Tensor

from operators.base import Operator
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
