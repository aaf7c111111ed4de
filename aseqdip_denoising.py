"""aSeqDIP for denoising: take white Gaussian noise out of one picture.

The untrained network f_phi and its input z take turns (Alkhouri et al., NeurIPS 2024, Algorithm 1):

    phi_k = argmin_phi ||A f_phi(z_{k-1}) - y||^2 + lambda ||f_phi(z_{k-1}) - z_{k-1}||^2    (3)
    z_k   = f_{phi_k}(z_{k-1}),    z_0 = y,    x_hat = z_K                                 (4), (5)

with A the identity, N Adam steps for each argmin.

    python aseqdip_denoising.py --sigma 25                                embedded photograph
    python aseqdip_denoising.py --sigma 15 --data cbsd68 --resize 512     a folder, as in the paper
    python aseqdip_denoising.py --data photo.png --measured               a picture that is noisy

Under the paper's setting the image passes the noisy one within some 700 of the 4000 updates,
peaks, and takes up noise again. --quick runs Split DIP instead (docs/best.md), in one to three
minutes on two CPU cores; --method aseqdip beside it runs this method.
"""

import utils.environment  # noqa: F401 (before torch, whose threads it sets)

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from baselines import chosen
from models.build import picture_net
from operators.base import Operator
from operators.pixels import Identity
from utils import image_data
from utils.callback import Callback
from utils.cli import RunArgs, check_size, inputs, parse_args, set_up_device
from utils.comparison import compare
from utils.errors import Status, require
from utils.methods import ASEQDIP
from utils.metrics import image_metrics
from utils.noise import estimate_correlation
from utils.optim import DISTANCES, Output, Update, adam
from utils.precision import place
from utils.problem import Problem
from utils.runs import Run, unfinished
from utils.summary import summarise
from utils.tables import shown


# fmt: off
@dataclass
class Args(RunArgs):
    # Data
    data: Path | None = None  # picture of 8 or 16 bit, RGB or grey, array as .npy, .npz or .mat, or a folder of them; without it the sample
    variable: str | None = None  # name of the array in a file of several; without it the usual name, or the only one that fits
    unit: float | None = None  # number that is white, such as 1, 255 or 4095; without it that of the file's type
    sample: Literal["astronaut", "coffee", "chelsea", "face"] = "astronaut"  # scikit-image's photograph; face is 192x192 pixels of the first
    crop: int | None = None  # side in pixels of a central square that is taken of the picture, at its own resolution
    resize: int | None = None  # side in pixels of the square that the picture is made (appendix C.6: 512)
    measured: bool = False  # the picture is noisy already, there is no truth
    # Noise
    sigma: float | None = None  # standard deviation in grey levels of 255 (section 4: 15 and 30); without it 25, or with --measured estimated
    noise: Literal["white", "correlated"] = "white"  # correlated: neighbouring pixels of a --measured picture share it, as in a camera's JPEG; sigma is then estimated from coarser detail, and Split DIP draws such noise
    clip: bool = False  # clip the noisy picture to [0, 1], as the public code does
    # Method
    K: int = 2000  # input updates (section 4.1)
    N: int = 2  # weight updates per input update (section 4.1)
    lr: float = 1e-4  # Adam's learning rate beta (section 4.1)
    loss: Literal["squares", "norms", "means"] = "squares"  # what eq. (3) takes of its two differences: squared norms as printed, norms, or mean squares
    lambda_ae: float = 1.0  # weight lambda of the autoencoding term (section 4.1, appendix C.4)
    network: Literal["unet", "shallow"] = "unet"  # of aSeqDIP: the U-Net that all tasks share, or that of the public code for this task
    width: int = 64  # channels of the U-Net at full resolution
    depth: int = 3  # poolings of the U-Net
    init_std: float = 0.02  # standard deviation of the initial weights (Algorithm 1 writes 1, the public code uses 0.02)
    ema_decay: float = 0.99  # memory of the average over iterates that is reported beside the last one
    only_aseqdip = ("lr", "loss", "lambda_ae", "network")
# fmt: on


# What --preset best changes (docs/best.md): Split DIP; lr, ema_decay, result are for --method aseqdip.
BEST = dict(
    method="split_dip", K=100, N=10, result="average", precision="auto", lr=7e-4, ema_decay=0.9,
)  # fmt: skip
# What --preset quick changes: best with less.
QUICK = BEST | dict(sample="face", K=50, width=16)
# What --preset public changes: the authors' public script.
PUBLIC = dict(loss="means", network="shallow", clip=True)
PRESETS = {"public": PUBLIC, "best": BEST, "quick": QUICK}


def aseqdip(args: Args, y: Tensor, A: Operator, run: Callback) -> Tensor:
    """Run Algorithm 1 on the measurements y and return x_hat = z_K."""
    net = make_net(args, args.network, y, A)
    distance = DISTANCES[args.loss]

    def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = net(z)
        data_term = distance(A(x), y)
        autoencoding_term = distance(x, z)
        loss = data_term + args.lambda_ae * autoencoding_term  # eq. (3)
        terms = {"loss": loss, "data_term": data_term, "autoencoding_term": autoencoding_term}
        return x, terms

    update = Update(objective, adam(net.parameters(), args.lr), graph=True)
    net_output = Output(net)
    z = run.start(A.pinv(y), net=net, update=update)  # z_0, or where a checkpoint stopped
    for k in run.outer(args.K):  # Algorithm 1
        for _ in range(args.N):
            update(z)  # one Adam update of eq. (3), z fixed
        z = net_output(z)  # eq. (4), with the updated weights
        run.record(k, z, update.terms)
    return z


def make_net(args: Args, kind: str, y: Tensor, A: Operator) -> nn.Module:
    """Build aSeqDIP's network, `unet`, or one that other methods bring."""
    weights_rng = torch.Generator().manual_seed(args.seed)
    net = picture_net(kind, A.in_shape[0], args.width, args.depth, args.init_std, weights_rng)
    return place(net, y.device, args.precision)


def load(args: Args, path: Path | None) -> image_data.Picture:
    """Read a picture."""
    return image_data.load_picture(
        path, args.sample, args.resize, args.measured, crop=args.crop, variable=args.variable,
        unit=args.unit,
    )  # fmt: skip


def build_problem(args: Args, picture: image_data.Picture, device: torch.device) -> Problem:
    """Make the noisy picture y, (1, C, H, W) float32; x_true is None for a measured one."""
    pixels = torch.from_numpy(picture.pixels)[None]
    check_size(pixels.shape[-2:], args.depth)
    require(
        args.sigma is None or 0 < args.sigma <= 255,
        f"--sigma {args.sigma}: expected a number of grey levels above 0, at most 255",
    )
    known = {}
    if args.measured:
        require("clip" not in args.changed, "--clip: a measured picture is taken as it is")
        y, x_true, sigma = pixels, None, args.sigma
        source, correlated = "given", args.noise == "correlated"
        if correlated:
            known["noise_filter"] = estimate_correlation(picture.pixels).to(device)
        if sigma is None:
            sigma = 255 * image_data.estimate_noise(picture, correlated=correlated)
            source = "estimated from coarser detail" if correlated else "estimated by skimage"
    else:
        require(
            args.noise == "white",
            "--noise correlated: simulated noise is white; give it with --measured, or omit it",
        )
        sigma, source = 25.0 if args.sigma is None else args.sigma, "given"
        noise = torch.randn(pixels.shape, generator=picture.rng(args.data_seed, "noise"))
        y, x_true = pixels + sigma / 255 * noise, pixels.to(device)
        y = y.clamp(0, 1) if args.clip else y
    print(f"{picture.source}: {' x '.join(map(str, picture.pixels.shape))}")
    told = shown(sigma, 1)
    print(f"noise of standard deviation {told} of 255 ({source})")

    return Problem(
        y.to(device),
        Identity(tuple(pixels.shape[1:])).to(device),
        x_true,
        lambda x: image_metrics(x, x_true),
        facts={
            "source": picture.source,
            "sigma": sigma,
            "sigma_source": source,
            "measured": args.measured,
        },
        title=f"{picture.item}, sigma {told}",
        array=image_data.as_array,
        picture=image_data.as_picture,
        names={"truth": "clean", "input": "noisy"},
        limits=(0, 1),
        arrays={"measurement.npy": image_data.as_array(y)},
        known=known | {"sigma": sigma / 255},
        noise_norm=image_data.noise_norm(sigma, y),
    )


def baselines(args: Args) -> dict[str, dict[str, Any]]:
    """Name the other methods of this task, with what differs here from their own defaults."""
    noise = {"input_noise": 1 / 30}  # of Ulyanov's code for denoising
    split = {"lr": 2e-3, "members": 1 if args.preset == "quick" else 3}
    return {
        "self_guided_dip": {}, "vanilla_dip": noise, "tv_dip": noise, "es_dip": noise,
        "sgld_dip": noise, "rethinking_dip": {}, "split_dip": split,
        "tv": {}, "nlm": {}, "wavelet": {}, "bm3d": {}, "dps": {"zeta": 1.5}, "ddnm": {},
    }  # fmt: skip


def reconstruct(run: Run, problem: Problem) -> Tensor:
    """Run aSeqDIP or another method; return x_hat, and keep nothing of its network."""
    y, A, callback = run.open(problem)
    if run.method.name in ASEQDIP:
        return aseqdip(run.args, y, A, callback)
    net = make_net(run.args, run.method.net, y, A) if run.method.net else None
    return run.method(y, A, net, callback, **run.given)


def main() -> int:
    args = parse_args(Args, PRESETS, description=__doc__, others=baselines)
    with Status() as status:
        methods, paths = chosen(args, baselines(args)), inputs(args, image_data.SUFFIXES)
        device = set_up_device(args)
        figures = []  # of all files, for the summary
        for path in paths:
            with status.each(path):  # a file that fails does not stop the others
                item, problem = load(args, path), None
                runs = [Run(args, "denoising", method, item) for method in methods]
                for run in unfinished(runs):
                    problem = problem or build_problem(args, item, device)
                    with run:  # nor does a method that fails, if there are others
                        run.save(reconstruct(run, problem))
                figures += [(run.method.name, run.metrics) for run in runs if run.metrics]
                if len(runs) > 1:
                    compare(args, runs, problem or build_problem(args, item, device))
        summarise(status, figures)
    return status.code


if __name__ == "__main__":
    sys.exit(main())
