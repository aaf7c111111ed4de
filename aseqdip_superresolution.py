"""aSeqDIP for super-resolution: make a picture of four times as many pixels each way.

The untrained network f_phi and its input z take turns (Alkhouri et al., NeurIPS 2024, Algorithm 1):

    phi_k = argmin_phi ||A f_phi(z_{k-1}) - y||^2 + lambda ||f_phi(z_{k-1}) - z_{k-1}||^2    (3)
    z_k   = f_{phi_k}(z_{k-1}),    z_0 = A^+ y,    x_hat = z_K                             (4), (5)

with A the mean over blocks of pixels, or bicubic shrinking, scaled so that ||A|| = 1, and N Adam
steps for each argmin. The task is not one of the paper's five: it is UGoDIT's (docs/ugodit.md).

    python aseqdip_superresolution.py                                     embedded photograph
    python aseqdip_superresolution.py --kernel bicubic --data ffhq        a folder of pictures
    python aseqdip_superresolution.py --data small.png --measured         a picture that is small

--quick runs Split DIP instead (docs/best.md), in one to three minutes on two CPU cores; --method
aseqdip beside it runs this method.
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
from models.unet import OffsetNet
from operators.base import Operator
from operators.downsample import Downsample
from utils import encoders, image_data
from utils.callback import Callback
from utils.cli import RunArgs, check_size, inputs, parse_args, set_up_device
from utils.comparison import compare
from utils.errors import Status
from utils.methods import ASEQDIP
from utils.metrics import image_metrics
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
    resize: int | None = None  # side in pixels of the square that the picture is made
    measured: bool = False  # the picture is the small one, there is no truth
    encoder: Path | None = None  # encoder that ugodit_train.py learned from other measurements, for ugodit
    # Shrinking
    factor: Literal[2, 3, 4] = 4  # pixels of the large picture along a side of one of the small picture
    kernel: Literal["average", "bicubic"] = "average"  # mean of a block of pixels, or Pillow's BICUBIC
    # Method
    K: int = 2000  # input updates (section 4.1)
    N: int = 2  # weight updates per input update (section 4.1)
    lr: float = 1e-4  # Adam's learning rate beta (section 4.1)
    loss: Literal["squares", "norms", "means"] = "squares"  # what eq. (3) takes of its two differences: squared norms as printed, norms, or mean squares
    lambda_ae: float = 1.0  # weight lambda of the autoencoding term (section 4.1, appendix C.4)
    width: int = 64  # channels of the U-Net at full resolution
    depth: int = 3  # poolings of the U-Net
    init_std: float = 0.02  # standard deviation of the initial weights (Algorithm 1 writes 1, the public code uses 0.02)
    ema_decay: float = 0.99  # memory of the average over iterates that is reported beside the last one
    only_aseqdip = ("lr", "loss", "lambda_ae")
# fmt: on


# What --preset best changes (docs/best.md): Split DIP, with a last step; lr and ema_decay are for
# --method aseqdip.
BEST = dict(
    method="split_dip", K=60, N=10, finish="consistency", precision="auto", lr=5e-4, ema_decay=0.8,
)  # fmt: skip
# What --preset quick changes: best with less.
QUICK = BEST | dict(sample="face", K=50, width=16)
PRESETS = {"best": BEST, "quick": QUICK}


def aseqdip(args: Args, y: Tensor, A: Operator, run: Callback) -> Tensor:
    """Run Algorithm 1 on the measurements y and return x_hat = z_K."""
    net = make_net(args, "unet", y, A)
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
    net = picture_net(kind, y.shape[1], args.width, args.depth, args.init_std, weights_rng)
    if kind == "unet":  # around the mean of y, as in deblurring (docs/images.md)
        net = OffsetNet(net, A.pinv(y).mean())
    if kind == "ugodit" and args.encoder is not None:
        encoders.fit(net, args.encoder, "superresolution")
    return place(net, y.device, args.precision)


def load(args: Args, path: Path | None) -> image_data.Picture:
    """Read a picture."""
    min_side = image_data.MIN_SIDE // (args.factor if args.measured else 1)
    return image_data.load_picture(
        path, args.sample, args.resize, args.measured, min_side, crop=args.crop,
        variable=args.variable, unit=args.unit,
    )  # fmt: skip


def build_problem(args: Args, picture: image_data.Picture, device: torch.device) -> Problem:
    """Shrink the picture: y (1, C, H/f, W/f) float32; x_true is None for a measured one.

    y is f times the small picture, as A makes it; what is saved is the small picture.
    """
    pixels = torch.from_numpy(picture.pixels)[None].to(device)
    channels, *sides = picture.pixels.shape
    if args.measured:
        height, width = (args.factor * side for side in sides)
    else:
        height, width = (side - side % args.factor for side in sides)
    check_size((height, width), args.depth)
    A = Downsample((channels, height, width), args.factor, args.kernel).to(device)
    x_true = None if args.measured else pixels[..., :height, :width]
    with torch.no_grad():
        y = args.factor * pixels if args.measured else A(x_true)
    small = image_data.as_array(y / args.factor)
    print(
        f"{picture.source}: {channels} x {height} x {width} from "
        f"{height // args.factor} x {width // args.factor}, {args.kernel}"
    )

    return Problem(
        y,
        A,
        x_true,
        lambda x: image_metrics(x, x_true),
        facts={
            "source": picture.source,
            "factor": args.factor,
            "kernel": args.kernel,
            "measured": args.measured,
        },
        title=f"{picture.item}, {args.factor}x {args.kernel}",
        array=image_data.as_array,
        picture=image_data.as_picture,
        names={"truth": "large", "input": "small"},
        limits=(0, 1),
        arrays={"measurement.npy": small},
    )


def baselines(args: Args) -> dict[str, dict[str, Any]]:
    """Name the other methods of this task, with what differs here from their own defaults."""
    zeta = 0.3 / args.factor  # of DPS' public code, whose y is the small picture, ours f times it
    return {
        "self_guided_dip": {}, "vanilla_dip": {}, "tv_dip": {}, "es_dip": {}, "sgld_dip": {},
        "ugodit": {}, "split_dip": {"members": 1 if args.preset == "quick" else 3},
        "bicubic": {}, "tv": {}, "dps": {"zeta": zeta}, "ddnm": {},
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
                runs = [Run(args, "superresolution", method, item) for method in methods]
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
