"""Filtered back-projection with a window that fits few views."""

from typing import Annotated, Literal

from torch import Tensor, nn

from baselines.classical import check_problem
from operators.radon import Radon, fourier_filter
from utils.callback import Callback
from utils.methods import Method, Positive, Range


def fbp(
    y: Tensor,
    A: Radon,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    filter_name: Literal["ramp", "shepp-logan", "cosine", "hamming", "hann"] = "hamming",
    cutoff: Annotated[float, Range(0, 1, above=True)] | None = None,
    cutoff_per_view: Positive = 3.2,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by filtered back-projection.

        x_hat = B F^-1 [ 2 |f| W(f / cutoff) F y ] for |f| <= cutoff / 2, f in cycles per bin

    with F the Fourier transform along the detector, W the window, which is 1 at frequency 0, and B
    the back-projection of Radon.filtered_back_projection. What lies above the cut-off is lost:
    edges become wider, by about 1 / cutoff pixels, and the streaks of few views fainter. With
    filter_name "ramp" and cutoff 1 it is A.pinv of the default operator.

    Args:
        y: sinogram, (1, 1, n_angles, n_det).
        A: forward operator; its own filter_name is for A.pinv.
        net, z0, callback: not used.
        filter_name: window; it and cutoff_per_view were chosen by studies/tune.py, on
            other slices than any that is scored, at 18 and 30 views.
        cutoff: highest frequency that passes, as a share of the Nyquist frequency, in (0, 1].
            None takes cutoff_for_views: n views resolve an object up to a frequency in proportion
            to n over its diameter.
        cutoff_per_view: of cutoff_for_views, in pixels of the image's longer side.

    Returns:
        x_hat, (1, 1, H, W).

    Raises:
        ValueError: A is not Radon, y does not fit it, or filter_name or cutoff are not as above.

    Reference:
        Kak and Slaney, Principles of Computerized Tomographic Imaging (1988), section 3.3, and
        section 5.1 for the views needed. Differs from the book: the default cut-off.
    """
    check_problem("fbp", y, A, Radon)
    if cutoff is None:
        cutoff = cutoff_for_views(A, cutoff_per_view)
    return A.filtered_back_projection(y, fourier_filter(A.out_shape[-1], filter_name, cutoff).to(y))


METHOD = Method("fbp", "FBP, tuned window", fbp)


def cutoff_for_views(A: Radon, per_view: float) -> float:
    """Return per_view n_angles / max(H, W), at most 1."""
    return min(1.0, per_view * A.out_shape[1] / max(A.in_shape))
