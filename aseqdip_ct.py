"""aSeqDIP for sparse-view CT: reconstruct a slice from 18 parallel-beam views.

The untrained network f_phi and its input z take turns (Alkhouri et al., NeurIPS 2024, Algorithm 1):

    phi_k = argmin_phi ||A f_phi(z_{k-1}) - y||^2 + lambda ||f_phi(z_{k-1}) - z_{k-1}||^2    (3)
    z_k   = f_{phi_k}(z_{k-1}),    z_0 = FBP of y or A^T y,    x_hat = z_K                 (4), (5)

with A = C R (views, Radon transform in pixel units), N Adam steps for each argmin.

    python aseqdip_ct.py --views 18                                        embedded sample
    python aseqdip_ct.py --views 30 --data L067_slices --window -160 240   a folder of CT slices
    python aseqdip_ct.py --sinogram sinogram.npy --angles 30               a measured sinogram

Under the paper's setting the image passes the FBP within some 200 of the 4000 updates and goes on
rising. --quick runs Split DIP instead (docs/best.md), in one to three minutes on two CPU cores.
"""

import utils.environment  # noqa: F401 (before torch, whose threads it sets)

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from baselines import chosen
from baselines.tv import tv
from models.unet import UNet
from operators.base import Operator
from operators.radon import Radon
from utils import ct_data
from utils.callback import Callback
from utils.cli import RunArgs, check_size, inputs, parse_args, set_up_device
from utils.comparison import compare
from utils.ct_data import is_noisy
from utils.errors import Status, require
from utils.methods import ASEQDIP
from utils.metrics import attenuation_metrics, hu_metrics
from utils.noise import told_norm
from utils.optim import DISTANCES, Output, Update, adam
from utils.precision import place
from utils.problem import Problem
from utils.reference import choose_reference
from utils.runs import Run, unfinished
from utils.summary import summarise


# fmt: off
@dataclass
class Args(RunArgs):
    # Data
    data: Path | None = None  # CT slice as DICOM, .npy, .npz, .mat or .nii in HU, .png, or a folder of them; without it the sample
    variable: str | None = None  # name of the array in a file of several; without it the usual name, or the only one that fits
    axes: str | None = None  # order of the array's axes: H rows, W columns, S slices, as HWS; without it HW, or what the file says
    slice: int | None = None  # slice of a volume, from 0; without it the middle one
    unit: Literal["hu", "relative"] | None = None  # of an array: Hounsfield units, or attenuation in any unit; without it told from the values
    sample: Literal["skull", "small"] = "skull"  # pydicom's slice: 512x512 or 128x128 pixels
    resize: int | None = None  # side in pixels that the slice is resampled to
    sinogram: Path | None = None  # measured line integrals (angles, detector bins) as .npy, .npz or .mat, in place of --data
    angles: str | None = None  # of --sinogram: number of views over 180 degrees, or a file of angles in degrees
    size: int | None = None  # side of the image of --sinogram, in detector bins; without it all of them
    sigma: float | None = None  # standard deviation of the noise of --sinogram, in its unit, 0 for none; without it, it is estimated
    measured: bool = False  # there is no truth: said by --sinogram already
    reference: Path | None = None  # CT slice, or a folder of them, that ref_guided_dip may use
    # Sampling and units (of slices)
    views: int = 18  # equispaced over 180 degrees (section 4.1: 18 and 30)
    photons: float | None = None  # photons I0 sent per ray, counted with Poisson noise; without it none (section 4.1)
    pixel_mm: float | None = None  # side of a pixel of the file, before --resize, for --photons; without it the DICOM file's
    hu_range: tuple[float, float] | None = None  # HU that become 0 and 1; without it the slice's minimum and maximum, as in the public code
    window: tuple[float, float] = (-160.0, 240.0)  # HU shown as black and white, and scored beside the whole range
    # Method
    z0: Literal["fbp", "adjoint", "tv"] = "fbp"  # first input: the public code's, the text's A^T y, or the image of total variation
    fbp_filter: Literal["ramp", "shepp-logan", "cosine", "hamming", "hann"] = "ramp"  # of the FBP
    K: int = 2000  # input updates (section 4.1)
    N: int = 2  # weight updates per input update (section 4.1)
    lr: float = 1e-4  # Adam's learning rate beta (section 4.1)
    loss: Literal["squares", "norms", "means"] = "squares"  # what eq. (3) takes of its two differences: squared norms as printed, norms, or mean squares
    lambda_ae: float = 1.0  # weight lambda of the autoencoding term (section 4.1, appendix C.4)
    width: int = 64  # channels of the U-Net at full resolution
    depth: int = 3  # poolings of the U-Net
    init_std: float = 0.02  # standard deviation of the initial weights (Algorithm 1 writes 1, the public code uses 0.02)
    ema_decay: float = 0.99  # memory of the average over iterates that is reported beside the last one
    only_aseqdip = ("loss", "lambda_ae", "z0")
# fmt: on


# What --preset best changes (docs/best.md): Split DIP, made consistent; what follows z0, and result,
# are for aSeqDIP. With noise NOISY takes the place of BEST: the mean of the images of both.
BEST = dict(
    method="split_dip", K=120, N=10, stop="noise", tau=0.95, result="average", finish="consistency",
    precision="auto", z0="tv", lr=5e-4, loss="norms", lambda_ae=0.02, ema_decay=0.9,
)  # fmt: skip
NOISY = BEST | dict(method="aseqdip,split_dip,aseqdip_split")
# What --preset quick changes: best with less.
QUICK = BEST | dict(sample="small", width=16)
# The authors' public script. Its lambda 1 is not in units of ||A||, about 120 for 30 views of 512x512.
PUBLIC = dict(N=10, lr=2e-4, loss="norms", lambda_ae=0.008)
PRESETS = {"public": PUBLIC, "best": lambda a: NOISY if is_noisy(a) else BEST, "quick": QUICK}


def aseqdip(args: Args, y: Tensor, A: Operator, run: Callback, sigma: float = 0.0) -> Tensor:
    """Run Algorithm 1 on y, whose noise has the deviation sigma, and return x_hat = z_K."""
    net = make_net(args, "unet", y, A)
    distance = DISTANCES[args.loss]
    # The gradient of a norm is as large as ||A||, about 50: so lambda weighs as in other tasks.
    weight = args.lambda_ae * (A.norm() if args.loss == "norms" else 1.0)

    def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = net(z)
        data_term = distance(A(x), y)
        autoencoding_term = distance(x, z)
        loss = data_term + weight * autoencoding_term  # eq. (3)
        terms = {"loss": loss, "data_term": data_term, "autoencoding_term": autoencoding_term}
        return x, terms

    update = Update(objective, adam(net.parameters(), args.lr), graph=True)
    net_output = Output(net)
    if args.z0 == "tv":
        require(isinstance(A, Radon), "--z0 tv: not with --stop holdout; add --z0 fbp")
        z0 = tv(y, A, sigma=sigma)
    else:
        z0 = A.pinv(y) if args.z0 == "fbp" else A.adjoint(y) / A.norm() ** 2  # as large as x
    z = run.start(z0, net=net, update=update)  # z_0, or where a checkpoint stopped
    for k in run.outer(args.K):  # Algorithm 1
        for _ in range(args.N):
            update(z)  # one Adam update of eq. (3), z fixed
        z = net_output(z)  # eq. (4), with the updated weights
        run.record(k, z, update.terms)
    return z


def make_net(args: Args, kind: str, y: Tensor, A: Operator) -> nn.Module:
    """Build a network of a kind: fed with an image, with 32 channels of `noise`."""
    weights_rng = torch.Generator().manual_seed(args.seed)
    channels = 32 if kind == "noise" else 1
    net = UNet(channels, 1, args.width, args.depth, args.init_std, weights_rng)
    return place(net, y.device, args.precision)


def load(args: Args, path: Path | None) -> ct_data.Slice | ct_data.Sinogram:
    """Read a CT slice, or the measured line integrals."""
    ct_data.check_flags(args)
    if args.sinogram is not None:
        return ct_data.load_sinogram(args.sinogram, args.angles, args.variable)
    return ct_data.load_slice(
        path, args.sample, args.resize, args.variable, args.axes, args.slice, args.unit
    )


def build_problem(
    args: Args, scan: ct_data.Slice | ct_data.Sinogram, device: torch.device
) -> Problem:
    """Make the sinogram, scaled so that the FBP's maximum is 1; x_true is None for a measured one."""
    measured = isinstance(scan, ct_data.Sinogram)
    scan = ct_data.physical(scan, args.hu_range, args.photons)
    units = ct_data.make_units(scan, args.hu_range)
    ct_data.check_window(args.window, "window" in args.changed, units)
    A = ct_data.make_operator(scan, args.views, args.size, args.fbp_filter).to(device)
    check_size(A.in_shape[-2:], args.depth)
    if measured:
        sinogram, x_true = torch.from_numpy(scan.y)[None, None].to(device), None
        estimate = ct_data.estimate_noise(sinogram)
        facts = {"noise_norm": told_norm(sinogram, args.sigma, estimate, "ray")}
    else:
        rng = torch.Generator().manual_seed(args.data_seed)
        sinogram, x_true, facts = ct_data.measure(scan, A, units, args.photons, args.pixel_mm, rng)
    scale = 1 / A.pinv(sinogram).max()  # known from y alone, undone in what is saved
    y, rays = scale * sinogram, sinogram[0, 0].cpu().numpy()
    noise = float(scale) * facts.get("noise_norm", 0.0)

    def score(x: Tensor) -> dict[str, float]:
        figures = attenuation_metrics(x / scale, x_true)
        if units.is_hu:
            figures |= hu_metrics(units.values(x / scale), units.values(x_true), args.window)
        return figures

    return Problem(
        y,
        A,
        None if x_true is None else scale * x_true,
        score,
        facts={"source": scan.source, "views": A.out_shape[1], "measured": measured, **facts},
        title=ct_data.title(scan, A, args.photons, args.window if units.is_hu else None),
        array=lambda x: units.values(x / scale)[0, 0].cpu().numpy(),
        image=lambda array: scale * torch.from_numpy(units.normalised(array)).to(y)[None, None],
        picture=lambda array: array,
        names={"truth": "the slice itself", "input": f"FBP ({args.fbp_filter})"},
        limits=args.window if units.is_hu else None,
        extra=("sinogram", rays),
        error_scale=1,  # a window is narrow already
        arrays={"sinogram.npy": rays, "angles.npy": A.angles.rad2deg().numpy()},
        known={"sigma": noise / math.sqrt(y.numel())},
        noise_norm=noise,
        reference=lambda: choose_reference(
            args.reference,
            ct_data.SUFFIXES,
            lambda file: ct_data.load_relative(file, units),
            scan.file,
            y,
            A,
            also=ct_data.is_dicom,
        ),
    )


def baselines(args: Args) -> dict[str, dict[str, Any]]:
    """Name the other methods of this task, with what differs here from their own defaults.

    Those of other papers run on aSeqDIP's network and rate here; data_weight is for noise.
    """
    lr = {"lr": args.lr}
    own = {"N": args.N, "loss": args.loss, "lambda_ae": args.lambda_ae} | lr  # aSeqDIP's
    split = {"parts": 12, "start_iter": 300, "members": 1 if args.preset == "quick" else 3}
    split |= lr if "lr" in args.changed else {}
    split |= {"data_weight": 0.3} if is_noisy(args) else {}
    if args.preset == "best" and not {"K", "N"} & {*args.changed}:
        split["steps"] = 3000  # aSeqDIP would get worse
    return {
        "self_guided_dip": {}, "vanilla_dip": lr, "tv_dip": lr, "es_dip": lr, "sgld_dip": lr,
        "ref_guided_dip": lr, "split_dip": split, "aseqdip_split": {}, "fbp": {}, "sart": {},
        "tv": {}, "udig_dip": own | {"noise_level": 0.03}, "dds": {}, "mcg": {},
    }  # fmt: skip


def reconstruct(run: Run, problem: Problem) -> Tensor:
    """Run aSeqDIP or another method; return x_hat, and keep nothing of its network."""
    y, A, callback = run.open(problem)
    if run.method.name in ASEQDIP:
        return aseqdip(run.args, y, A, callback, problem.known["sigma"])
    net = make_net(run.args, run.method.net, y, A) if run.method.net else None
    return run.method(y, A, net, callback, **run.given)


def main() -> int:
    args = parse_args(Args, PRESETS, description=__doc__, others=baselines)
    with Status() as status:
        methods = chosen(args, baselines(args))
        paths = inputs(args, ct_data.SUFFIXES, also=ct_data.is_dicom)
        device = set_up_device(args)
        figures = []  # of all files, for the summary
        for path in paths:
            with status.each(path):  # a file that fails does not stop the others
                item, problem = load(args, path), None
                runs = [Run(args, "ct", method, item) for method in methods]
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
