"""E2E-VarNet: unrolled networks trained on fully sampled scans. Needs the package fastmri."""

import torch
from torch import Tensor, nn

from baselines.classical import check_problem
from operators.mri import MultiCoilMRI
from utils.callback import Callback
from utils.errors import InputError
from utils.files import reason
from utils.methods import Method


@torch.no_grad()
def varnet(
    y: Tensor,
    A: MultiCoilMRI,
    net: nn.Module | None = None,
    *,
    z0: Tensor | None = None,
    weights: dict[str, Tensor],
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct by the end-to-end variational network.

        k <- k - eta M (k - y) - F S R(S^H F^-1 k),   x_hat = root sum of squares of F^-1 k

    for each cascade, with its own network R; the maps S are estimated by a further network.

    Args:
        y: k-space, (1, n_coils, H, W) complex.
        A: forward operator; of it the mask is used, which must choose whole columns.
        net, z0, callback: not used.
        weights: state of a network of the package, whose sizes are read off it.

    Returns:
        x_hat, (1, 1, H, W) complex: a magnitude, without phase.

    Raises:
        InputError: the package fastmri is not installed, or the weights do not fit its network.
        ValueError: A is not MultiCoilMRI, y does not fit it, or the mask is not of columns.

    Reference:
        Sriram et al., End-to-end variational networks for accelerated MRI reconstruction, MICCAI
        2020, by the authors' package. Differs from it: nothing.
    """
    check_problem("varnet", y, A, MultiCoilMRI)
    columns = A.mask.any(dim=0)
    if not (A.mask == columns).all():
        raise ValueError("varnet: expected a mask of whole columns of k-space")
    model = build(weights).to(y.device)
    kspace = torch.view_as_real(y.to(torch.complex64))
    x = model(kspace, columns[None, None, None, :, None])  # (1, H, W)
    return x[:, None].to(y.dtype)


METHOD = Method(
    "varnet", "E2E-VarNet", varnet, takes=("weights",), needs="varnet_weights", package="fastmri"
)


def build(weights: dict[str, Tensor]) -> nn.Module:
    """Build the package's network in the sizes that its weights have, and load them strictly."""
    try:
        from fastmri.models.varnet import VarNet  # not at the top: optional
    except ImportError as error:
        raise InputError(
            "varnet: the optional package fastmri is not installed; pip install -r "
            f"requirements-varnet.txt ({reason(error)})"
        ) from error

    def sizes(unet: str) -> tuple[int, int]:
        first = weights[f"{unet}.down_sample_layers.0.layers.0.weight"]
        names = (name.removeprefix(f"{unet}.down_sample_layers.") for name in weights)
        return len(first), len({name.partition(".")[0] for name in names if name[0].isdigit()})

    try:
        chans, pools = sizes("cascades.0.model.unet")
        sens_chans, sens_pools = sizes("sens_net.norm_unet.unet")
        n_cascades = sum(name.endswith(".dc_weight") for name in weights)
        model = VarNet(n_cascades, sens_chans, sens_pools, chans, pools)
        model.load_state_dict(weights)
    except (KeyError, RuntimeError, AttributeError) as error:
        raise InputError(
            f"varnet: the weights are not those of fastmri's VarNet ({reason(error)})"
        ) from error
    return model.eval()
