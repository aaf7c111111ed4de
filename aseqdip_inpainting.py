"""aSeqDIP for inpainting: fill the hole of a picture, or its missing pixels.

The untrained network f_phi and its input z take turns (Alkhouri et al., NeurIPS 2024, Algorithm 1):

    phi_k = argmin_phi ||A f_phi(z_{k-1}) - y||^2 + lambda ||f_phi(z_{k-1}) - z_{k-1}||^2    (3)
    z_k   = f_{phi_k}(z_{k-1}),    z_0 = y,    x_hat = z_K                                 (4), (5)

with A = M, the mask of known pixels, N Adam steps for each argmin.

    python aseqdip_inpainting.py --hiar 0.1                                    embedded photograph
    python aseqdip_inpainting.py --mask random --missing 0.97 --data ffhq      as in appendix C.3
    python aseqdip_inpainting.py --data photo.png --measured --mask known.png  a damaged picture

Under the paper's setting the image passes the masked one within some 100 of the 4000 updates; a
hole is filled smoothly and stays not far from the mean grey. --quick runs Vanilla DIP instead
(docs/best.md), in one to three minutes on two CPU cores; --method aseqdip beside it runs this
method.
"""

import utils.environment  # noqa: F401 (before torch, whose threads it sets)

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from baselines import chosen
from baselines.tv import LAMBDA_TV
from models.build import picture_net
from models.unet import OffsetNet
from operators.base import Operator
from operators.pixels import PixelMask
from utils import image_data
from utils.callback import Callback
from utils.cli import RunArgs, check_size, inputs, parse_args, set_up_device
from utils.comparison import compare
from utils.errors import Status, require
from utils.methods import ASEQDIP
from utils.metrics import hole_psnr, image_metrics
from utils.optim import DISTANCES, Output, Update, adam
from utils.precision import place
from utils.problem import Problem
from utils.runs import Run, unfinished
from utils.summary import summarise


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
    loss: Literal["squares", "norms", "means"] = "squares"  # what eq. (3) takes of its two differences: squared norms as printed, norms, or mean squares
    lambda_ae: float = 1.0  # weight lambda of the autoencoding term (section 4.1, appendix C.4)
    network: Literal["unet", "late_skip"] = "unet"  # of aSeqDIP: the U-Net that all tasks share, or that of the public code for this task
    width: int = 64  # channels of the U-Net at full resolution
    depth: int = 3  # poolings of the U-Net
    init_std: float = 0.02  # standard deviation of the initial weights (Algorithm 1 writes 1, the public code uses 0.02)
    ema_decay: float = 0.99  # memory of the average over iterates that is reported beside the last one
    only_aseqdip = ("lr", "loss", "lambda_ae", "hole_start", "network")
# fmt: on


# What --preset best changes (docs/best.md): three networks of Vanilla DIP, with the known pixels put
# back; lr is for --method aseqdip.
BEST = dict(
    method="vanilla_dip", K=500, result="average", finish="consistency", precision="auto", lr=1e-3
)
# What --preset quick changes: best with less.
QUICK = BEST | dict(sample="face", K=250, width=16)
# What --preset public changes: the authors' public script.
PUBLIC = dict(K=200, lr=3e-4, loss="means", network="late_skip", hole_start=0.4)
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
    z0 = torch.where(A.mask, y, args.hole_start)
    z = run.start(z0, net=net, update=update)  # z_0, or where a checkpoint stopped
    for k in run.outer(args.K):  # Algorithm 1
        for _ in range(args.N):
            update(z)  # one Adam update of eq. (3), z fixed
        z = net_output(z)  # eq. (4), with the updated weights
        run.record(k, z, update.terms)
    return z


def make_net(args: Args, kind: str, y: Tensor, A: Operator) -> nn.Module:
    """Build aSeqDIP's network, `unet`, or one that other methods bring."""
    weights_rng = torch.Generator().manual_seed(args.seed)
    net = picture_net(kind, y.shape[1], args.width, args.depth, args.init_std, weights_rng)
    if kind == "unet":  # around the mean of y: near 0 a hole would stay black (docs/images.md)
        net = OffsetNet(net, y[..., A.mask].mean())
    return place(net, y.device, args.precision)


def load(args: Args, path: Path | None) -> image_data.Picture:
    """Read a picture, and draw or read its mask."""
    picture = image_data.load_picture(
        path, args.sample, args.resize, args.measured, crop=args.crop, variable=args.variable,
        unit=args.unit,
    )  # fmt: skip
    for name, kind in (("hiar", "box"), ("missing", "random")):
        require(
            args.mask == kind or name not in args.changed,
            f"--{name}: for --mask {kind}, not {args.mask}; omit it, or give --mask {kind}",
        )
    data_rng = picture.rng(args.data_seed, "mask")
    picture.known = image_data.make_mask(
        args.mask, picture, args.measured, args.hiar, args.missing, data_rng
    )
    picture.beside = (picture.known,)
    if args.mask not in ("box", "random"):
        picture.named = frozenset({"mask"})
    return picture


def build_problem(args: Args, picture: image_data.Picture, device: torch.device) -> Problem:
    """Take missing pixels away: y (1, C, H, W) float32; x_true is None for a measured picture."""
    pixels = torch.from_numpy(picture.pixels)[None].to(device)
    check_size(pixels.shape[-2:], args.depth)
    require(
        args.network != "late_skip" or min(pixels.shape[-2:]) > 32,
        "--network late_skip: it halves a picture five times; take one of more than 32 pixels",
    )
    require(
        0 <= args.hole_start <= 1,
        f"--hole-start {args.hole_start:g}: expected a grey value from 0 to 1",
    )
    mask = picture.known
    A = PixelMask(torch.from_numpy(mask), pixels.shape[1]).to(device)
    missing = 1 - mask.mean()
    print(f"{picture.source}: {' x '.join(map(str, picture.pixels.shape))}")
    requested = {"box": f"requested {args.hiar:g}", "random": f"requested {args.missing:g}"}
    print(f"missing pixels: {requested.get(args.mask, 'as in ' + args.mask)}, true {missing:.4f}")
    y, x_true = A(pixels), None if args.measured else pixels

    return Problem(
        y,
        A,
        x_true,
        lambda x: image_metrics(x, x_true) | {"psnr_hole": hole_psnr(x, x_true, ~A.mask)},
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
        focus=~mask,
        arrays={"measurement.npy": image_data.as_array(y), "mask.npy": mask},
        derived={"composite": lambda x: torch.where(A.mask, y, x)},
    )


def baselines(args: Args) -> dict[str, dict[str, Any]]:
    """Name the other methods of this task, with what differs here from their own defaults."""
    noise = {"input_noise": 0.03}  # of Ulyanov's code for inpainting
    vanilla = noise | {"members": 3 if args.preset == "best" else 1}
    return {
        "self_guided_dip": {}, "vanilla_dip": vanilla, "tv_dip": noise, "es_dip": noise,
        "sgld_dip": noise, "split_dip": {"parts": 32, "share": 0.3, "lr": 1e-3},
        "biharmonic": {}, "linear": {}, "tv": {"lambda_tv": LAMBDA_TV[PixelMask]},
        "dps": {"zeta": 0.5}, "ddnm": {},
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
                runs = [Run(args, "inpainting", method, item) for method in methods]
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
