"""aSeqDIP for denoising: take white Gaussian noise out of one picture.

The untrained network f_phi and its input z take turns (Alkhouri et al., NeurIPS 2024, Algorithm 1):

    phi_k = argmin_phi ||A f_phi(z_{k-1}) - y||^2 + lambda ||f_phi(z_{k-1}) - z_{k-1}||^2    (3)
    z_k   = f_{phi_k}(z_{k-1}),    z_0 = y,    x_hat = z_K                                 (4), (5)

with A the identity, N Adam steps for each argmin.

    python aseqdip_denoising.py --sigma 25                                embedded photograph
    python aseqdip_denoising.py --sigma 15 --data cbsd68 --resize 512     a folder, as in the paper
    python aseqdip_denoising.py --data photo.png --measured               a picture that is noisy

Under the paper's setting the image passes the noisy one within some 700 of the 4000 updates, peaks,
and takes up noise again. --quick shows the method in two minutes on two CPU cores.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from skimage.restoration import estimate_sigma
from torch import Tensor

from models.unet import UNet
from operators.pixels import Identity
from utils import image_data
from utils.cli import RunArgs, check_size, parse_args, require, run_items, set_up_device
from utils.metrics import image_metrics
from utils.optim import AdamUpdate, sqnorm
from utils.results import save_results
from utils.runs import Run


@dataclass
class Args(RunArgs):
    # Data
    data: Path | None = None  # picture of 8 or 16 bit, RGB or grey, .npy, or a folder of them; without it the sample
    sample: Literal["astronaut", "coffee", "chelsea", "face"] = "astronaut"  # scikit-image's photograph; face is 192x192 pixels of the first
    resize: int | None = None  # side in pixels of the square that the picture is made (appendix C.6: 512)
    measured: bool = False  # the picture is noisy already, there is no truth
    # Noise
    sigma: float | None = None  # standard deviation in grey levels of 255 (section 4: 15 and 30); without it 25, or with --measured estimated
    clip: bool = False  # clip the noisy picture to [0, 1], as the public code does
    # Method
    K: int = 2000  # input updates (section 4.1)
    N: int = 2  # weight updates per input update (section 4.1)
    lr: float = 1e-4  # Adam's learning rate beta (section 4.1)
    lambda_ae: float = 1.0  # weight lambda of the autoencoding term (section 4.1, appendix C.4)
    width: int = 64  # channels of the U-Net at full resolution
    depth: int = 3  # poolings of the U-Net
    init_std: float = 0.02  # standard deviation of the initial weights (Algorithm 1 writes 1, the public code uses 0.02)
    ema_decay: float = 0.99  # memory of the average over iterates that is reported beside the last one


# What --quick changes: these are then the defaults. It was chosen for MRI (README).
QUICK = dict(sample="face", K=50, N=10, lr=5e-4, width=16, ema_decay=0.8, log_every=1)


def reconstruct(args: Args, path: Path | None) -> None:
    """Run aSeqDIP on one picture and fill its run folder."""
    device = set_up_device(args.device, args.deterministic)
    picture = image_data.load_picture(path, args.sample, args.resize, args.measured)
    run = Run(args, task="denoising", method="aseqdip", item=picture.item, data=(picture.pixels,))
    if run.finished():
        return
    y, A, x_true, facts = build_problem(args, picture, device)

    def score(x: Tensor) -> dict[str, float]:
        return {} if x_true is None else image_metrics(x, x_true)

    # The method
    weights_rng = torch.Generator().manual_seed(args.seed)
    channels = len(picture.pixels)
    net = UNet(channels, channels, args.width, args.depth, args.init_std, weights_rng).to(device)

    def objective(z: Tensor) -> dict[str, Tensor]:
        x = net(z)
        data_term = sqnorm(A(x), y)
        autoencoding_term = sqnorm(x, z)
        loss = data_term + args.lambda_ae * autoencoding_term  # eq. (3)
        return {"loss": loss, "data_term": data_term, "autoencoding_term": autoencoding_term}

    update = AdamUpdate(objective, net, args.lr)

    @torch.no_grad()
    def net_output(z: Tensor) -> Tensor:
        return net(z)

    z = run.start(y, net, update, score, y, A)  # z_0, or where a checkpoint stopped
    for k in run.outer(args.K):  # Algorithm 1
        for _ in range(args.N):
            update(z)  # one Adam update of eq. (3), z fixed
        z = net_output(z)  # eq. (4), with the updated weights
        run.record(k, z)

    # Results
    run.save_array("measurement.npy", image_data.as_array(y))
    save_results(
        run,
        {"input": A.pinv(y), "final": z, "ema": run.averaged()},
        x_true,
        score,
        facts,
        array=image_data.as_array,
        picture=image_data.as_picture,
        names={"truth": "clean", "input": "noisy"},
        limits=(0, 1),
        title=f"aSeqDIP, {picture.item}, sigma {facts['sigma']:.1f}",
    )


def build_problem(
    args: Args, picture: image_data.Picture, device: torch.device
) -> tuple[Tensor, Identity, Tensor | None, dict[str, Any]]:
    """Make the noisy picture; x_true is None for a measured one.

    Returns:
        y (1, C, H, W) float32, A, x_true (1, C, H, W) in [0, 1], facts for metrics.json.
    """
    pixels = torch.from_numpy(picture.pixels)[None]
    check_size(pixels.shape[-2:], args.depth)
    require(
        args.sigma is None or 0 < args.sigma <= 255,
        f"--sigma {args.sigma}: expected a number of grey levels above 0, at most 255",
    )
    if args.measured:
        require(not args.clip, "--clip: a measured picture is taken as it is")
        y, x_true, sigma = pixels, None, args.sigma
        if sigma is None:
            sigma = 255 * estimate_sigma(picture.pixels, channel_axis=0, average_sigmas=True)
        source = "estimated by skimage" if args.sigma is None else "given"
    else:
        sigma, source = 25.0 if args.sigma is None else args.sigma, "given"
        # Far from the weights' seeds: of one seed, noise and weights would be the same numbers.
        data_rng = torch.Generator().manual_seed(2**31 + args.data_seed)
        noise = torch.randn(pixels.shape, generator=data_rng)
        y, x_true = pixels + sigma / 255 * noise, pixels.to(device)
        y = y.clamp(0, 1) if args.clip else y
    print(f"{picture.source}: {' x '.join(map(str, picture.pixels.shape))}")
    print(f"noise of standard deviation {sigma:.1f} of 255 ({source}); aSeqDIP does not use it")
    A = Identity(tuple(pixels.shape[1:])).to(device)
    facts = {
        "source": picture.source,
        "sigma": sigma,
        "sigma_source": source,
        "measured": args.measured,
    }
    return y.to(device), A, x_true, facts


def main() -> int:
    args = parse_args(Args, QUICK, description=__doc__)
    return run_items(args, image_data.SUFFIXES, reconstruct)


if __name__ == "__main__":
    sys.exit(main())
