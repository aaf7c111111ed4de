"""Non-local means: each pixel becomes the mean of pixels in similar surroundings."""

import torch
from skimage.restoration import denoise_nl_means
from torch import Tensor, nn

from baselines.classical import check_problem
from operators.pixels import Identity
from utils.callback import Callback
from utils.methods import Count, Method, Positive


def nlm(
    y: Tensor,
    A: Identity,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    sigma: float,
    h_per_sigma: Positive = 0.5,
    patch_size: Count = 5,
    patch_distance: Count = 11,
    callback: Callback | None = None,
) -> Tensor:
    """Denoise by non-local means.

        x_i = sum_j w_ij y_j / sum_j w_ij,   w_ij = exp(-max(d_ij^2 - 2 sigma^2, 0) / h^2)

    with d_ij^2 the mean squared difference of the patches around pixels i and j, over all channels,
    and h = h_per_sigma sigma.

    Args:
        y: noisy picture, (1, C, H, W).
        A: forward operator, the identity.
        net, z0, callback: not used.
        sigma: standard deviation of the noise in units of y.
        h_per_sigma: how unlike patches may be; more is smoother. It and patch_size were chosen by
            studies/tune.py, on the development half of data/split.txt.
        patch_size: side of a patch in pixels.
        patch_distance: how far from i pixels j are searched, in each direction.

    Returns:
        x_hat, (1, C, H, W), not clipped.

    Raises:
        ValueError: A is not Identity, y does not fit it, or a size is below 1.

    Reference:
        Buades, Coll, Morel, A non-local algorithm for image denoising, CVPR 2005;
        skimage.restoration.denoise_nl_means in its fast mode (Darbon et al., ISBI 2008), in which
        all pixels of a patch weigh the same. Differs from the paper: that, and 2 sigma^2 taken
        off the distance (Buades et al., IPOL 2011).
    """
    check_problem("nlm", y, A, Identity)
    if min(patch_size, patch_distance) < 1:
        raise ValueError(
            "nlm: expected patch_size and patch_distance of at least 1, got "
            f"{patch_size} and {patch_distance}"
        )
    grey = y.shape[1] == 1  # with an axis for its only channel scikit-image would transpose it
    x_hat = denoise_nl_means(
        (y[0, 0] if grey else y[0]).cpu().numpy(),
        patch_size=patch_size,
        patch_distance=patch_distance,
        h=h_per_sigma * sigma,
        sigma=sigma,
        preserve_range=True,
        channel_axis=None if grey else 0,
    )
    return torch.from_numpy(x_hat).reshape(y.shape).to(y)


METHOD = Method("nlm", "non-local means", nlm, takes=("sigma",))
