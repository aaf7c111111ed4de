"""aSeqDIP for multi-coil MRI: reconstruct an image from a quarter of its k-space.

The untrained network f_phi and its input z take turns (Alkhouri et al., NeurIPS 2024, Algorithm 1):

    phi_k = argmin_phi ||A f_phi(z_{k-1}) - y||^2 + lambda ||f_phi(z_{k-1}) - z_{k-1}||^2    (3)
    z_k   = f_{phi_k}(z_{k-1}),    z_0 = A^H y,    x_hat = z_K                             (4), (5)

with A = M F S (sampling, Fourier transform, coil sensitivities), N Adam steps for each argmin.

    python aseqdip_mri.py --accel 4                                      embedded sample
    python aseqdip_mri.py --accel 8 --data file1000001.h5 --slice 15     fastMRI multi-coil file
    python aseqdip_mri.py --data scan.npy --measured                     a scan that is undersampled

Under the paper's setting the image first falls below the zero-filled one; on the sample it takes
2100 of the 4000 updates to rise above it. --quick runs Split DIP instead (docs/best.md), in one to
three minutes on two CPU cores; --method aseqdip beside it runs this method.
"""

import utils.environment  # noqa: F401 (before torch, whose threads it sets)

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from baselines import chosen
from baselines.tv import LAMBDA_TV, tv
from models.unet import ComplexNet, UNet
from operators.base import Operator
from operators.mri import MultiCoilMRI
from utils import encoders, mri_data
from utils.callback import Callback
from utils.cli import RunArgs, check_size, inputs, parse_args, set_up_device
from utils.comparison import compare
from utils.errors import Status, require
from utils.methods import ASEQDIP
from utils.metrics import magnitude_metrics
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
    data: Path | None = None  # fastMRI .h5, complex k-space (coils, H, W) as .npy, .npz, .mat, .nii or .cfl, or a folder of them; without it the embedded sample
    variable: str | None = None  # name of the array in a file of several; without it the usual name, or the only one that fits
    axes: str | None = None  # order of the array's axes: C coils, H readout, W phase encoding, S slices, as HWC; without it CHW, SCHW, or what the file says
    slice: int | None = None  # slice of a volume, from 0; without it the middle one
    crop: int | None = None  # crop coil images to this side, 0 for none; without it 320 for fastMRI files (section 4.1)
    maps: Path | None = None  # file with complex sensitivity maps (coils, H, W); without it ESPIRiT on the calibration lines
    measured: bool = False  # the scan really was undersampled: its non-zero points are the mask, there is no truth
    sigma: float | None = None  # standard deviation of the complex noise in a point of k-space (sqrt(2) times that of its real part), in its unit, 0 for none; without it, it is estimated
    reference: Path | None = None  # fully sampled scan, or a folder of them, that ref_guided_dip may use
    encoder: Path | None = None  # encoder that ugodit_train.py learned from other measurements, for ugodit
    varnet_weights: Path | None = None  # state of fastMRI's VarNet, trained on fully sampled scans, for varnet
    # Sampling (not with --measured)
    accel: float = 4.0  # acceleration: acquired columns per sampled column (section 4.1: 4 and 8)
    mask: str = "random"  # columns outside the centre: random or equispaced; or a file of zeros and ones, of columns (W,), rows (H, 1) or points (H, W)
    center_fraction: float | None = None  # share of calibration columns; without it 0.32/accel: 0.08 at 4x, 0.04 at 8x
    # Method
    z0: Literal["adjoint", "tv"] = "adjoint"  # first input: the paper's A^H y, or the image of total variation
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


# What --preset best changes (docs/best.md): Split DIP, made consistent; the last line, and result, are
# for --method aseqdip.
BEST = dict(
    method="split_dip", K=70, N=10, result="average", finish="consistency", precision="auto",
    z0="tv", lr=5e-4, loss="norms", lambda_ae=0.1, ema_decay=0.9,
)  # fmt: skip
# What --preset quick changes: best with less.
QUICK = BEST | dict(K=40, width=16)
# What --preset public changes: the authors' public script. Its transform is not normalised: there
# lambda 1 weighs about 1/488 as much as here.
PUBLIC = dict(K=6000, N=10, loss="norms", lambda_ae=0.002)
PRESETS = {"public": PUBLIC, "best": BEST, "quick": QUICK}


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
    z0 = tv(y, A) if args.z0 == "tv" else A.adjoint(y)
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
    channels = 32 if kind == "noise" else 2
    net = ComplexNet(UNet(channels, 2, args.width, args.depth, args.init_std, weights_rng))
    if kind == "ugodit" and args.encoder is not None:
        encoders.fit(net, args.encoder, "mri")
    return place(net, y.device, args.precision)


def load(args: Args, path: Path | None) -> mri_data.Scan:
    """Read one slice of k-space, and the maps if there are any."""
    require(
        args.maps is None or path == args.data,
        "--maps: the maps of one slice do not fit a folder of scans; give --data one file",
    )
    mri_data.check_flags(args)
    sampled = mri_data.load_mask(args)
    scan = mri_data.load_scan(path, args.slice, args.variable, args.axes)
    scan.beside = (None if args.maps is None else mri_data.load_maps(args.maps, scan),)
    if sampled is not None:
        scan.sampled, scan.named = sampled, frozenset({"mask"})
        scan.beside = (*scan.beside, sampled)
    return scan


def build_problem(args: Args, scan: mri_data.Scan, device: torch.device) -> Problem:
    """Make the measurements, scaled so that max|A^H y| = 1; x_true is None for a measured scan."""
    kspace, acquired = mri_data.crop_scan(scan, args.crop, args.measured)
    check_size(acquired.shape, args.depth)
    data_rng = torch.Generator().manual_seed(args.data_seed)
    y, mask, acceleration = mri_data.measure(
        scan, kspace, acquired, args.measured, args.accel, args.center_fraction, args.mask, data_rng
    )
    noise = mri_data.noise_norm(y, mask, args.sigma)
    A = mri_data.make_operator(scan, y, mask, args.out / "cache").to(device)
    x_true = None
    if not args.measured:
        fully_sampled = MultiCoilMRI(A.sens_maps, torch.ones_like(A.mask))
        x_true = fully_sampled.pinv(torch.from_numpy(kspace)[None].to(device))
    y = torch.from_numpy(y)[None].to(device)
    scale = 1 / A.adjoint(y).abs().max()  # known from y alone, undone in what is saved
    y = scale * y
    x_true = None if x_true is None else scale * x_true

    def as_array(x: Tensor) -> np.ndarray:  # outside the maps' support nothing was measured
        return (x * A.support / scale)[0, 0].cpu().numpy()

    return Problem(
        y,
        A,
        x_true,
        lambda x: magnitude_metrics(x, x_true, A.support),
        facts={
            "source": scan.source,
            "mask": None if args.measured else args.mask,
            "acceleration_true": acceleration,
            "noise_std": scan.noise_std,
            "rss_difference": mri_data.rss_difference(scan, kspace),
            "sens_maps": "espirit" if scan.beside[0] is None else str(args.maps or "given"),
            "measured": args.measured,
        },
        title=f"{scan.item}, {acceleration:.2f}x",
        array=as_array,
        picture=np.abs,
        names={"truth": "fully sampled", "input": "zero-filled"},
        extra=("sampled k-space", mask),
        arrays={"mask.npy": mask},
        noise_norm=float(scale) * noise,
        reference=lambda: choose_reference(
            args.reference,
            mri_data.SUFFIXES,
            lambda file: mri_data.load_magnitude(file, args, scan, mask),
            scan.path,
            y,
            A,
        ),
    )


def baselines(args: Args) -> dict[str, dict[str, Any]]:
    """Name the other methods of this task, with what differs here from their own defaults.

    Those of other papers than MRI's run on aSeqDIP's network here, so at its learning rate.
    """
    lr = {"lr": args.lr}
    quick = {"parts": 4, "start_iter": 60, "members": 1}
    split = {"data_weight": 0.3} | (quick if args.preset == "quick" else {"members": 3})
    split |= {"lr": args.lr} if "lr" in args.changed else {}
    own = {"N": args.N, "loss": args.loss, "lambda_ae": args.lambda_ae} | lr  # aSeqDIP's
    ugodit = {"N": args.N, "lr": args.lr if "lr" in args.changed else 4e-4, "lambda_ae": 1.0}
    return {
        "self_guided_dip": {}, "vanilla_dip": lr, "tv_dip": lr, "es_dip": lr, "sgld_dip": lr,
        "ref_guided_dip": lr, "ugodit": ugodit, "split_dip": split, "zero_filled": {}, "cg_sense": {},
        "l1_wavelet": {}, "tv": {"lambda_tv": LAMBDA_TV[MultiCoilMRI]},
        "udig_dip": own | {"noise_level": 0.3}, "dds": {}, "score_mri": {}, "varnet": {},
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
        methods, paths = chosen(args, baselines(args)), inputs(args, mri_data.SUFFIXES)
        device = set_up_device(args)
        figures = []  # of all files, for the summary
        for path in paths:
            with status.each(path):  # a file that fails does not stop the others
                item, problem = load(args, path), None
                runs = [Run(args, "mri", method, item) for method in methods]
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
