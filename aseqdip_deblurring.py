"""aSeqDIP for non-linear deblurring: undo the motion blur of one picture.

The untrained network f_phi and its input z take turns (Alkhouri et al., NeurIPS 2024, Algorithm 1):

    phi_k = argmin_phi ||A(f_phi(z_{k-1})) - y||^2 + lambda ||f_phi(z_{k-1}) - z_{k-1}||^2   (3)
    z_k   = f_{phi_k}(z_{k-1}),    z_0 = y,    x_hat = z_K                                 (4), (5)

with A a blur that is known and, but for --blur trajectory, not linear, y = A(x) or with noise, and N
Adam steps for each argmin.

    python aseqdip_deblurring.py --sigma 2.55                                  embedded photograph
    python aseqdip_deblurring.py --blur bkse --bkse-weights GOPRO_wVAE.pth     the paper's blur
    python aseqdip_deblurring.py --data photo.png --measured --kernel psf.npy  a blurred picture

Under the paper's setting the image passes the blurred one after some 300 (trajectory) to 1300
(camera) of the 4000 updates. --quick runs Split DIP instead (docs/best.md), in one to three
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
from models.unet import OffsetNet
from operators.base import Operator
from operators.blur import BKSEBlur, CameraBlur
from utils import blur_data, encoders, image_data
from utils.callback import Callback
from utils.cli import RunArgs, check_size, inputs, parse_args, set_up_device
from utils.comparison import compare
from utils.errors import Status, require
from utils.figures import side_by_side
from utils.files import file_hash
from utils.methods import ASEQDIP
from utils.metrics import image_metrics
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
    resize: int | None = None  # side in pixels of the square that the picture is made; the paper does not give it
    measured: bool = False  # the picture is blurred already, there is no truth; --kernel names the file of its kernel
    encoder: Path | None = None  # encoder that ugodit_train.py learned from other measurements, for ugodit
    # Blur
    blur: Literal["bkse", "camera", "trajectory"] | None = None  # without it bkse if its weights are given, else camera
    kernel: Path | None = None  # linear kernel as .npy or picture, or BKSE's encoded one; without it drawn from data_seed
    bkse_weights: Path | None = None  # GOPRO_wVAE.pth of Tran et al. (section 4)
    bkse_sha256: str | None = None  # what the SHA-256 of that file must be
    # Noise
    sigma: float | None = None  # standard deviation in grey levels of 255 (DPS: 6.375); without it none, or with --measured estimated
    # Method
    K: int = 2000  # input updates (section 4.1); the public code has 5000
    N: int = 2  # weight updates per input update (section 4.1)
    lr: float = 1e-4  # Adam's learning rate beta (section 4.1)
    loss: Literal["squares", "norms", "means"] = "squares"  # what eq. (3) takes of its two differences: squared norms as printed, norms, or mean squares
    lambda_ae: float = 1.0  # weight lambda of the autoencoding term (section 4.1, appendix C.4); the public code has 5
    network: Literal["unet", "shallow"] = "unet"  # of aSeqDIP: the U-Net that all tasks share, or that of the public code for this task
    width: int = 64  # channels of the U-Net at full resolution
    depth: int = 3  # poolings of the U-Net
    init_std: float = 0.02  # standard deviation of the initial weights (Algorithm 1 writes 1, the public code uses 0.02)
    ema_decay: float = 0.99  # memory of the average over iterates that is reported beside the last one
    only_aseqdip = ("lr", "loss", "lambda_ae", "network")
# fmt: on


# What --preset best changes (docs/best.md): Split DIP, with a last step; lr, loss, lambda_ae and
# ema_decay are for --method aseqdip.
BEST = dict(
    method="split_dip", K=150, N=10, finish="consistency", precision="auto",
    lr=1e-3, loss="norms", lambda_ae=0.1, ema_decay=0.8,
)  # fmt: skip
# What --preset quick changes: best with less.
QUICK = BEST | dict(sample="face", K=60, width=16)
# What --preset public changes: the authors' public script.
PUBLIC = dict(K=5000, loss="means", lambda_ae=5.0, network="shallow")
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
    net = picture_net(kind, y.shape[1], args.width, args.depth, args.init_std, weights_rng)
    if kind == "unet":  # around the mean of y: near 0 the blur leads to stripes (docs/images.md)
        net = OffsetNet(net, A.pinv(y).mean())
    if kind == "ugodit" and args.encoder is not None:
        encoders.fit(net, args.encoder, "deblurring")
    return place(net, y.device, args.precision)


def load(args: Args, path: Path | None) -> image_data.Picture:
    """Read a picture, and look at the files that say how it is blurred."""
    picture = image_data.load_picture(
        path, args.sample, args.resize, args.measured, crop=args.crop, variable=args.variable,
        unit=args.unit,
    )  # fmt: skip
    weights = args.bkse_weights
    require(
        weights is None or weights.exists(),
        f"--bkse-weights {weights}: no such file; download GOPRO_wVAE.pth from the model zoo of "
        f"{blur_data.BKSE_SOURCE}",
    )
    require(
        weights is not None or args.bkse_sha256 is None,
        "--bkse-sha256: for the file of --bkse-weights; give that, or omit both",
    )
    files = (args.kernel, weights)
    picture.beside = tuple(None if file is None else file_hash(file) for file in files)
    picture.named = frozenset({"bkse_sha256"})
    return picture


def build_problem(args: Args, picture: image_data.Picture, device: torch.device) -> Problem:
    """Blur the picture: y (1, C, H, W) float32; x_true is None for a measured one."""
    require(
        args.sigma is None or 0 <= args.sigma <= 255,
        f"--sigma {args.sigma}: expected a number of grey levels from 0 to 255",
    )
    A, blur = blur_data.make_blur(
        args.blur, args.kernel, args.bkse_weights, args.bkse_sha256, picture, args.measured,
        args.data_seed,
    )  # fmt: skip
    A = A.to(device)
    print(f"{blur}; {picture.source}: {' x '.join(map(str, picture.pixels.shape))}")
    pixels = torch.from_numpy(picture.pixels)[None].to(device)
    check_size(pixels.shape[-2:], args.depth)
    if args.measured:
        y, x_true, sigma = pixels, None, args.sigma
        if sigma is None:
            sigma = 255 * image_data.estimate_noise(picture, sharp=False)
        source = "estimated by skimage" if args.sigma is None else "given"
    else:
        x_true, sigma, source = pixels, args.sigma or 0.0, "given"
        noise = torch.randn(pixels.shape, generator=picture.rng(args.data_seed, "noise"))
        with torch.no_grad():
            y = A(pixels) + sigma / 255 * noise.to(device)
    told = f"sigma {shown(sigma, 2)}" if sigma else "no noise"
    print(f"{told} of 255 ({source})" if sigma else told)

    kernel = (A.kernels if isinstance(A, CameraBlur) else A.kernel).cpu().numpy()
    extra = None  # BKSE's is a code, not a picture
    if not isinstance(A, BKSEBlur):
        kernels = kernel.reshape(-1, *kernel.shape[-2:])
        extra = ("blur kernels", side_by_side(kernels, pixels.shape[-2:]))
    return Problem(
        y,
        A,
        x_true,
        lambda x: image_metrics(x, x_true),
        facts={
            "source": picture.source,
            "blur": blur,
            "sigma": sigma,
            "sigma_source": source,
            "measured": args.measured,
        },
        title=f"{picture.item}, {blur}" + (f", {told}" if sigma else ""),
        array=image_data.as_array,
        picture=image_data.as_picture,
        names={"truth": "sharp", "input": "blurred"},
        limits=(0, 1),
        extra=extra,
        arrays={"measurement.npy": image_data.as_array(y), "kernel.npy": kernel},
        known={"sigma": sigma / 255},
        noise_norm=image_data.noise_norm(sigma, y),
    )


def baselines(args: Args) -> dict[str, dict[str, Any]]:
    """Name the other methods of this task, with what differs here from their own defaults.

    ddnm is for linear blurs without noise: `all` leaves it out for others, where by its name it
    says why.
    """
    given_kernel = args.kernel is not None and args.bkse_weights is None
    linear = args.blur == "trajectory" or (args.blur is None and given_kernel)
    noiseless = args.sigma == 0 or (args.sigma is None and not args.measured)
    own = {"N": args.N, "lr": args.lr, "loss": args.loss, "lambda_ae": args.lambda_ae}  # aSeqDIP's
    split = {"lr": 1e-3, "members": 1 if args.preset == "quick" else 3}
    return {
        "self_guided_dip": {}, "vanilla_dip": {}, "sgld_dip": {}, "ugodit": {}, "udig_dip": own | {"noise_level": 0.03},
        "split_dip": split, "tv": {}, "dps": {},
    } | ({"ddnm": {}} if (linear and noiseless) or "ddnm" in args.method.split(",") else {})  # fmt: skip


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
                runs = [Run(args, "deblurring", method, item) for method in methods]
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
