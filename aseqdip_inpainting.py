"""aSeqDIP for inpainting: fill the hole of a picture, or its missing pixels.

The untrained network f_phi and its input z take turns (Alkhouri et al., NeurIPS 2024, Algorithm 1):

    phi_k = argmin_phi ||A f_phi(z_{k-1}) - y||^2 + lambda ||f_phi(z_{k-1}) - z_{k-1}||^2    (3)
    z_k   = f_{phi_k}(z_{k-1}),    z_0 = y,    x_hat = z_K                                 (4), (5)

with A = M, the mask of known pixels, N Adam steps for each argmin.

    python aseqdip_inpainting.py --hiar 0.1                                    embedded photograph
    python aseqdip_inpainting.py --mask random --missing 0.97 --data ffhq      as in appendix C.3
    python aseqdip_inpainting.py --data photo.png --measured --mask known.png  a damaged picture

Under the paper's setting the image passes the masked one within some 100 of the 4000 updates; a
hole is filled smoothly and stays not far from the mean grey. --quick shows the method in two
minutes on two CPU cores.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from baselines.biharmonic import biharmonic
from baselines.es_dip import es_dip
from baselines.self_guided_dip import self_guided_dip
from baselines.sgld_dip import sgld_dip
from baselines.tv import LAMBDA_TV, tv
from baselines.tv_dip import tv_dip
from baselines.vanilla_dip import vanilla_dip
from models.skip import SkipNet
from models.unet import OffsetNet, UNet
from operators.pixels import PixelMask
from utils import image_data
from utils.callback import Callback
from utils.cli import RunArgs, check_size, parse_args, run_items, set_up_device
from utils.errors import require
from utils.methods import Baseline, choose, run_methods
from utils.metrics import hole_psnr, image_metrics
from utils.optim import Output, Update, adam, sqnorm
from utils.precision import place
from utils.problem import Problem


@dataclass
class Args(RunArgs):
    # Data
    data: Path | None = None  # picture of 8 or 16 bit, RGB or grey, .npy, or a folder of them; without it the sample
    sample: Literal["astronaut", "coffee", "chelsea", "face"] = "astronaut"  # scikit-image's photograph; face is 192x192 pixels of the first
    resize: int | None = None  # side in pixels of the square that the picture is made (appendix C.6: 512)
    measured: bool = False  # the picture is damaged already, there is no truth; --mask names the file of its mask
    # Mask
    mask: str = "box"  # box (central), random, or a file: white where a pixel is known, black where it is missing
    hiar: float = 0.1  # hole-to-image area ratio of the box (section 4: 0.1 and 0.25)
    missing: float = 0.97  # share of pixels that random takes away (appendix C.3: 0.97)
    hole_start: float = 0.0  # value of missing pixels in z_0: y's own 0 (section 3.2); the public code has 0.4
    # Method
    K: int = 2000  # input updates (section 4.1)
    N: int = 2  # weight updates per input update (section 4.1)
    lr: float = 1e-4  # Adam's learning rate beta (section 4.1)
    lambda_ae: float = 1.0  # weight lambda of the autoencoding term (section 4.1, appendix C.4)
    damping: float = 1.0  # share of f(z) in the input update: 1 is eq. (4)
    width: int = 64  # channels of the U-Net at full resolution
    depth: int = 3  # poolings of the U-Net
    init_std: float = 0.02  # standard deviation of the initial weights (Algorithm 1 writes 1, the public code uses 0.02)
    ema_decay: float = 0.99  # memory of the average over iterates that is reported beside the last one


# What --schedule fast changes: these are then the defaults (docs/performance.md). The damping of CT
# and denoising would hold the hole where it starts, at a flat grey.
FAST_SCHEDULE = dict(K=500, lr=1e-3)
# What --quick changes.
QUICK = FAST_SCHEDULE | dict(sample="face", width=16)


# Fields above that --method does not use for the methods below.
ONLY_ASEQDIP = ("lr", "lambda_ae", "damping", "hole_start")


def baselines(args: Args) -> dict[str, Baseline]:
    """Name the other methods of this task, with what differs here from their own defaults."""
    noise = 0.03  # on the input, of Ulyanov's code for inpainting
    return {
        "self_guided_dip": Baseline(self_guided_dip, "Self-Guided DIP", net="unet"),
        "vanilla_dip": Baseline(vanilla_dip, "Vanilla DIP", net="skip", input_noise=noise),
        "tv_dip": Baseline(tv_dip, "TV-DIP", net="skip", input_noise=noise),
        "es_dip": Baseline(
            es_dip, "ES-DIP", net="skip", input_noise=noise, output="iterate at the stop",
            own_stop=True,
        ),
        "sgld_dip": Baseline(
            sgld_dip, "SGLD-DIP", net="skip", input_noise=noise, output="posterior mean"
        ),
        "biharmonic": Baseline(biharmonic, "biharmonic"),
        "tv": Baseline(tv, "TV", lambda_tv=LAMBDA_TV[PixelMask]),
    }  # fmt: skip


def reconstruct(args: Args, path: Path | None) -> None:
    """Run the methods asked for on one picture and fill a run folder for each."""
    device = set_up_device(args)
    picture = image_data.load_picture(path, args.sample, args.resize, args.measured)
    mask = make_mask(args, picture)
    run_methods(
        args, "inpainting", picture.item, (picture.pixels, mask), path,
        build=lambda: build_problem(args, picture, mask, device), make_net=make_net,
        aseqdip=aseqdip, baselines=baselines(args), only_aseqdip=ONLY_ASEQDIP,
        ignored=set() if args.mask in ("box", "random") else {"mask"},
    )  # fmt: skip


def make_net(args: Args, kind: str, y: Tensor, A: PixelMask) -> nn.Module:
    """Build aSeqDIP's network, `unet`, or `skip` of the methods that start from noise."""
    weights_rng = torch.Generator().manual_seed(args.seed)
    channels = y.shape[1]
    if kind == "skip":  # 128 channels, fed with 32 of noise, in its paper
        return SkipNet(32, channels, 2 * args.width, generator=weights_rng)
    unet = UNet(channels, channels, args.width, args.depth, args.init_std, weights_rng)
    # Around the mean of y: from an image near 0 a hole would stay black (docs/images.md).
    return OffsetNet(unet, y[..., A.mask].mean())


def aseqdip(args: Args, y: Tensor, A: PixelMask, run: Callback) -> Tensor:
    """Run Algorithm 1 on the measurements y and return x_hat = z_K."""
    net = place(make_net(args, "unet", y, A), y.device, args.precision)

    def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = net(z)
        data_term = sqnorm(A(x), y)
        autoencoding_term = sqnorm(x, z)
        loss = data_term + args.lambda_ae * autoencoding_term  # eq. (3)
        terms = {"loss": loss, "data_term": data_term, "autoencoding_term": autoencoding_term}
        return x, terms

    update = Update(objective, adam(net.parameters(), args.lr), graph=True)
    net_output = Output(net)
    z0 = torch.where(A.mask, y, args.hole_start)
    z = run.start(z0, net=net, update=update)  # z_0, or where a checkpoint stopped
    for k in run.outer(args.K):  # Algorithm 1
        for _ in range(args.N):
            update(z)  # one Adam update of eq. (3), z fixed
        z = torch.lerp(z, net_output(z), args.damping)  # eq. (4), with the updated weights
        run.record(k, z, update.terms)
    return z


def make_mask(args: Args, picture: image_data.Picture) -> np.ndarray:
    """Draw or read the mask, (H, W) bool, True where a pixel is known."""
    shape = picture.pixels.shape[1:]
    if args.mask == "box":
        require(not args.measured, "--measured: name the file of the mask with --mask")
        mask = image_data.box_mask(shape, args.hiar)
    elif args.mask == "random":
        require(not args.measured, "--measured: name the file of the mask with --mask")
        data_rng = torch.Generator().manual_seed(args.data_seed)
        mask = image_data.random_mask(shape, args.missing, data_rng)
    else:
        mask = image_data.load_mask(Path(args.mask), shape)
    require(bool(mask.any()), f"--mask {args.mask}: no pixel is known; nothing can be filled in")
    require(not mask.all(), f"--mask {args.mask}: no pixel is missing; there is nothing to fill in")
    return mask


def build_problem(
    args: Args, picture: image_data.Picture, mask: np.ndarray, device: torch.device
) -> Problem:
    """Take missing pixels away: y (1, C, H, W) float32; x_true is None for a measured picture."""
    pixels = torch.from_numpy(picture.pixels)[None].to(device)
    check_size(pixels.shape[-2:], args.depth)
    require(
        0 <= args.hole_start <= 1,
        f"--hole-start {args.hole_start:g}: expected a grey value from 0 to 1",
    )
    A = PixelMask(torch.from_numpy(mask), pixels.shape[1]).to(device)
    missing = 1 - mask.mean()
    print(f"{picture.source}: {' x '.join(map(str, picture.pixels.shape))}")
    requested = {"box": f"requested {args.hiar:g}", "random": f"requested {args.missing:g}"}
    print(f"missing pixels {requested.get(args.mask, 'of ' + args.mask)}, true {missing:.4f}")
    y, x_true = A(pixels), None if args.measured else pixels

    def score(x: Tensor) -> dict[str, float]:
        if x_true is None:
            return {}
        return image_metrics(x, x_true) | {"psnr_hole": hole_psnr(x, x_true, ~A.mask)}

    return Problem(
        y,
        A,
        x_true,
        score,
        facts={
            "source": picture.source,
            "mask": args.mask,
            "missing_true": missing,
            "measured": args.measured,
        },
        title=f"{picture.item}, {missing:.2%} of the pixels missing",
        array=image_data.as_array,
        picture=image_data.as_picture,
        names={"truth": "undamaged", "input": "masked", "composite": "known pixels put back"},
        limits=(0, 1),
        extra=("known pixels", mask),
        arrays={"measurement.npy": image_data.as_array(y), "mask.npy": mask},
        derived={"composite": lambda x: torch.where(A.mask, y, x)},
    )


def main() -> int:
    args = parse_args(Args, QUICK, FAST_SCHEDULE, description=__doc__)
    return run_items(
        args, image_data.SUFFIXES, reconstruct, check=lambda a: choose(a, baselines(a))
    )


if __name__ == "__main__":
    sys.exit(main())
