"""Zero-filled MRI: what was not sampled counts as zero."""

from torch import Tensor, nn

from baselines.classical import check_problem
from operators.mri import MultiCoilMRI
from utils.callback import Callback
from utils.methods import Method


def zero_filled(
    y: Tensor,
    A: MultiCoilMRI,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by the inverse Fourier transform of zero-filled k-space: x_hat = A^H y.

    Args:
        y: k-space, (1, n_coils, H, W) complex.
        A: forward operator.
        net, z0, callback: not used.

    Returns:
        x_hat, (1, 1, H, W) complex: the coil images, combined by the sensitivity maps.

    Raises:
        ValueError: A is not MultiCoilMRI, or y does not fit it.

    Reference:
        Roemer et al., The NMR phased array, Magn. Reson. Med. 1990, for the combination. Differs
        from it: nothing, for coils of equal and uncorrelated noise and maps with
        sum_c |S_c|^2 = 1.
    """
    check_problem("zero_filled", y, A, MultiCoilMRI)
    return A.pinv(y)


METHOD = Method("zero_filled", "zero-filled", zero_filled)
