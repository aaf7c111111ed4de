"""Choose hyperparameters of the methods in GRIDS, on the development half of data/split.txt.

For each method and each point of a grid: the mean PSNR over some problems, in inpainting that in
the hole. The problems are built as the task scripts build them. Where the result is the image of
the last update, the number of updates is chosen with the rest, among UPDATES. Each point is written
to a log, and a point that stands there is not measured again. The winners of the classical methods
are the defaults in baselines/.

    MRI          pydicom's MR_small.dcm with air around it, simulated as the embedded sample is: 15
                 coils, 1 % noise, 4x, three draws of mask and noise; and the scans of --scans, 4x
    CT           pydicom's skull (resampled to 128x128) and CT_small.dcm (128x128), 18 and 30 views
    denoising    the centres of the pictures given, with noise of 15, 25 and 30 of 255
    inpainting   the same, with a box (10 %) and random pixels (97 %) missing
    deblurring   the same, with the camera blur and noise of 2.55 and 6.375 of 255
    superresolution  the same, each pixel the mean of 4x4

    python -m studies.tune --tasks mri ct --scans brain_t1_8coil.npy heart_6simulated_coils.npy
    python -m studies.tune --tasks denoising inpainting 0024.png 0030.png 0036.png 0042.png
    python -m studies.tune --tasks ct --methods aseqdip split_dip --steps 1000
    python -m studies.tune --scan brain_full.npy

The classical methods take about a quarter of an hour on one core; a network takes minutes for each
point and problem. docs/tuning.csv is the log so far, with each problem named: the classical methods
for pictures, and networks. Each line of a network says its --precision; for pictures they had
--crop 128, --sigmas 25, CBSD68 0024, 0030 and in denoising 0036. Its lines of inpainting have the PSNR of the
whole picture, as this script took it then, but for those named "in the hole". The classical
methods' weights for MRI and CT come from an earlier run, on MR_small, skull and small.

--scan chooses nothing. It prints what each weight of CG-SENSE gives at 4x on the embedded MRI
sample and on a fully sampled scan: the best of each is an oracle's, the sample's best is fair to
the scan.
"""

import contextlib
import csv
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
import sigpy.mri
import torch
import tyro
from pydicom.data import get_testdata_file
from torch import Tensor

import aseqdip_ct
import aseqdip_deblurring
import aseqdip_denoising
import aseqdip_inpainting
import aseqdip_mri
import aseqdip_superresolution
from baselines import find
from scripts.tasks import SCRIPTS, build
from utils import image_data, mri_data
from utils.callback import Callback
from utils.cli import set_up_device
from utils.errors import exit_status, require
from utils.flags import cli
from utils.methods import ASEQDIP
from utils.precision import Precision
from utils.problem import Problem

CPU = torch.device("cpu")
TIE = 0.02  # dB
UPDATES = (50, 100, 150, 200, 300, 400, 600, 800, 1000, 1500, 2000, 3000, 4000)
AIR = 16  # pixels around MR_small, which shows tissue up to its borders
# Of the networks on aSeqDIP's U-Net, in MRI and CT alike.
OF_SCANS: dict[str, dict[str, tuple[Any, ...]]] = {
    "aseqdip": {
        "loss": ("squares", "norms"), "lambda_ae": (1.0, 0.1, 0.01), "lr": (1e-4, 5e-4),
        "N": (2, 10),
    },
    "vanilla_dip": {"lr": (3e-4, 1e-3, 3e-3)},
    "self_guided_dip": {"lr": (3e-4, 1e-3, 3e-3)},
    "tv_dip": {"lr": (1e-3,), "lambda_tv": (1e-1, 1e-2, 1e-3, 1e-4)},
    "es_dip": {"lr": (1e-3,), "patience": (100, 300)},
    "sgld_dip": {"lr": (1e-3,), "temperature": (1.0, 0.01)},
    "split_dip": {"share": (0.1, 0.2, 0.3), "lr": (2e-4, 5e-4, 1e-3)},
}  # fmt: skip
# Of the networks in denoising, inpainting and super-resolution alike.
OF_PICTURES: dict[str, dict[str, tuple[Any, ...]]] = {
    "vanilla_dip": {"lr": (1e-3, 3e-3, 1e-2, 3e-2)},
    "self_guided_dip": {"lr": (1e-4, 3e-4, 1e-3, 3e-3)},
    "tv_dip": {"lr": (3e-3, 1e-2), "lambda_tv": (0.1, 0.03, 0.01, 0.003)},
    "es_dip": {"lr": (1e-3, 3e-3, 1e-2), "patience": (100, 300)},
    "sgld_dip": {"lr": (1e-2,), "temperature": (1.0, 0.01)},
}
# Of each task its methods, and of each of these the values of its hyperparameters. A grid begins
# with what costs less, or smooths more.
GRIDS: dict[str, dict[str, dict[str, tuple[Any, ...]]]] = {
    "mri": {
        **OF_SCANS,
        "cg_sense": {"lambda_l2": (0.1, 0.03, 0.01, 0.003, 0.001)},
        "l1_wavelet": {"lambda_l1": (0.01, 0.004, 0.002, 0.001, 0.0003)},
        "tv": {"lambda_tv": (0.01, 0.004, 0.002, 0.001, 0.0003)},
    },
    "ct": {
        **OF_SCANS,
        "fbp": {
            "filter_name": ("ramp", "shepp-logan", "cosine", "hamming", "hann"),
            "cutoff_per_view": (0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0),
        },
        "sart": {"n_iter": (1, 3, 10, 20, 30), "relaxation": (0.05, 0.15, 0.3, 0.6)},
        "tv": {"lambda_tv": (3e-4, 1e-4, 5e-5, 2e-5, 1e-5, 3e-6)},
    },
    "denoising": {
        "aseqdip": {"loss": ("squares", "norms"), "lambda_ae": (1.0, 4.0), "lr": (3e-5, 1e-4)},
        **OF_PICTURES,
        "rethinking_dip": {"lr": (0.01, 0.03, 0.1)},
        "split_dip": {"alpha": (0.25, 0.5, 1.0), "lr": (1e-3, 2e-3, 4e-3)},
        "tv": {"lambda_per_sigma": (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)},
        "nlm": {"patch_size": (1, 3, 5, 7), "h_per_sigma": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)},
        "wavelet": {
            "levels": (1, 2, 3, 4),
            "mode": ("soft", "hard"),
            "wavelet_name": ("haar", "db2", "db4", "sym4", "sym8", "coif2"),
        },
    },
    "inpainting": {
        "aseqdip": {"loss": ("squares", "norms"), "lambda_ae": (1.0, 0.1), "lr": (1e-4, 1e-3)},
        **OF_PICTURES,
        "split_dip": {"share": (0.2, 0.3, 0.5), "lr": (5e-4, 1e-3, 2e-3)},
        "tv": {"lambda_tv": (0.03, 0.01, 0.003, 0.001, 0.0003)},
    },
    "deblurring": {
        "aseqdip": {
            "loss": ("squares", "norms"), "lambda_ae": (1.0, 0.1), "lr": (1e-3,), "N": (2, 10),
        },
        "vanilla_dip": {"lr": (1e-3, 3e-3, 1e-2)},
        "self_guided_dip": {"lr": (1e-4, 3e-4, 1e-3, 3e-3)},
        "sgld_dip": {"lr": (1e-2,), "temperature": (1.0, 0.01)},
        "split_dip": {"alpha": (0.5, 1.0), "lr": (5e-4, 1e-3, 2e-3)},
        "tv": {"lambda_per_sigma": (0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05)},
    },
    "superresolution": {
        **OF_PICTURES,
        "split_dip": {"share": (0.2, 0.3, 0.5), "lr": (5e-4, 1e-3, 2e-3)},
        "tv": {"lambda_tv": (0.01, 0.003, 0.001, 0.0003, 0.0001)},
    },
}  # fmt: skip
PICTURES = ("denoising", "inpainting", "deblurring", "superresolution")
KEY = ("task", "method", "network", "settings", "problems")  # of a line of the log
SCAN_LAMBDAS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


@dataclass
class Args:
    pictures: tyro.conf.Positional[tuple[Path, ...]] = ()  # none that a table scores
    tasks: tuple[Literal[tuple(GRIDS)], ...] = tuple(GRIDS)  # which
    methods: tuple[str, ...] = ()  # which; without it those without a network
    scans: tuple[Path, ...] = ()  # fully sampled MRI scans, none that a table scores
    width: int = 16  # of the networks
    precision: Precision = "auto"  # of the networks
    steps: int = 1000  # weight updates of the networks, at most
    sigmas: tuple[float, ...] = (15.0, 25.0, 30.0)  # of 255, in denoising
    log: Path = Path("results/tuning.csv")  # every point that was measured
    blur_sigmas: tuple[float, ...] = (2.55, 6.375)  # of 255, in deblurring
    crop: int = 160  # side in pixels of a picture's centre; smaller pictures stay as they are
    cache: Path = Path("results")  # folder for cache/, the sensitivity maps
    scan: Path | None = None  # instead: CG-SENSE on the embedded MRI sample and on this scan


class Watch(Callback):
    """Score the images after UPDATES weight updates, of which each record has `every`."""

    def __init__(self, problem: Problem, every: int) -> None:
        self.problem, self.every = problem, every
        self.found: dict[int, dict[str, float]] = {}

    def record(self, k: int, x: Tensor, terms: dict[str, Tensor]) -> None:
        if k * self.every in UPDATES:
            self.found[k * self.every] = self.problem.score(x)


def scores(
    task: str, problems: list[Problem], options: Args, name: str, **settings: Any
) -> dict[int, dict[str, float]]:
    """Return the mean figures of a method over some problems of a task.

    Returns:
        {updates: figures}; one entry, {0: ...} of a method without updates.
    """
    script, method, found = SCRIPTS[task], find(name), []
    args = script.Args(width=options.width, out=options.cache, precision=options.precision)
    if name in ASEQDIP:
        args = replace(args, **settings)
        require(
            options.steps % args.N == 0,
            f"--steps {options.steps}: expected a multiple of N = {args.N} for {name}",
        )
        args = replace(args, K=options.steps // args.N)
    else:
        steps = {"steps": options.steps} if method.iterative else {}
        own = {k: v for k, v in script.baselines(args)[name].items() if k in method.settings}
        method = method.with_settings(**own | steps | settings)
    last = options.steps if method.iterative else 0
    for p in problems:
        watch = Watch(p, args.N if name in ASEQDIP else 1)
        if name in ASEQDIP:
            x = script.aseqdip(args, p.y, p.A, watch)
        else:
            net = script.make_net(args, method.net, p.y, p.A) if method.net else None
            given = {known: p.known[known] for known in method.takes if known in p.known}
            x = method(p.y, p.A, net, watch, **given)
        if method.own_stop or method.own_average:
            watch.found.clear()
        found.append(watch.found | {last: p.score(x)})
    return {
        updates: {key: float(np.mean([f[updates][key] for f in found])) for key in figures}
        for updates, figures in found[0].items()
    }


def tune(
    task: str, problems: list[Problem], options: Args, name: str, grid: dict[str, tuple[Any, ...]]
) -> None:
    """Print the mean PSNR at each point of a grid, and the first within TIE of the best.

    Args:
        task, name: of the method.
        problems: what is averaged over.
        options: for the log, and what is measured how.
        grid: values of each hyperparameter.
    """
    print(f"\n{task}, {name}, mean PSNR over {len(problems)} problems")
    size, last, figure = f"crop {options.crop}", 0, "psnr"
    if task == "inpainting":
        size, figure = f"{size}, in the hole", "psnr_hole"
    if find(name).net is not None:
        last = options.steps
        size = f"width {options.width}, {options.precision}, {last} updates, {size}"
    titles = " | ".join(p.title for p in problems)
    measured, psnr = _read(options.log), {}
    for point in itertools.product(*grid.values()):
        settings = dict(zip(grid, point, strict=True))
        text = ", ".join(f"{k} {v}" for k, v in settings.items())

        def key(updates: int, text: str = text) -> tuple[str, ...]:
            return task, name, size, f"{text}, updates {updates}" if updates else text, titles

        if key(last) not in measured:
            for updates, found in scores(task, problems, options, name, **settings).items():
                measured[key(updates)] = found[figure]
                _append(options.log, key(updates), found[figure])
        for updates in (*UPDATES, last):
            if key(updates) in measured:
                psnr[(*point, updates)] = measured[key(updates)]
        best = max((p for p in psnr if p[:-1] == point), key=psnr.get)
        print("  " + "  ".join(map(str, best)), f"  {psnr[best]:.2f} dB", flush=True)
    best = next(point for point in psnr if psnr[point] > max(psnr.values()) - TIE)
    chosen = []
    for (key_, values), value in zip(grid.items(), best[:-1], strict=True):
        border = isinstance(value, (int, float)) and value in (min(values), max(values))
        chosen.append(f"{key_} {value}" + (" (the border of the grid: widen it)" if border else ""))
    chosen += [f"{best[-1]} updates"] if best[-1] else []
    print(f"  chosen: {', '.join(chosen)}, {psnr[best]:.2f} dB", flush=True)


def _read(log: Path) -> dict[tuple[str, ...], float]:
    """Return the PSNR of each point that a log holds."""
    if not log.exists():
        return {}
    with open(log, newline="") as file:
        return {tuple(row[k] for k in KEY): float(row["psnr"]) for row in csv.DictReader(file)}


def _append(log: Path, key: tuple[str, ...], psnr: float) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    new = not log.exists()
    with open(log, "a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow((*KEY, "psnr"))
        writer.writerow((*key, f"{psnr:.4f}"))


def sample_file(name: str) -> Path:
    """Return the path of a file inside pydicom."""
    path = get_testdata_file(name, download=False)
    require(path is not None, f"the installed pydicom lacks its test file {name}; reinstall it")
    return Path(path)


def mri_problems(options: Args) -> list[Problem]:
    """Simulate a scan of MR_small as utils.mri_data.load_sample does of its slice."""
    image = np.pad(pydicom.dcmread(sample_file("MR_small.dcm")).pixel_array.astype(float), AIR)
    image /= image.max()
    side = len(image)
    u, v = np.meshgrid(*[np.linspace(-1, 1, side)] * 2, indexing="ij")
    phase = 0.8 * np.pi * (0.5 * u + 0.3 * v + 0.6 * u * v - 0.5 * u**2 + 0.4 * v**2)
    coils = mri_data.SAMPLE_COILS
    maps = sigpy.mri.birdcage_maps((coils, side, side), dtype=np.complex64)
    kspace = mri_data.fft2c(maps * (image * np.exp(1j * phase)).astype(np.complex64))
    scan = mri_data.Scan("MR_small", "MR_small", kspace, noise_std=mri_data.SAMPLE_NOISE)
    args = aseqdip_mri.Args(out=options.cache)
    problems = [
        aseqdip_mri.build_problem(replace(args, data_seed=draw), scan, CPU) for draw in range(3)
    ]
    for path in options.scans:
        args = aseqdip_mri.Args(data=path, out=options.cache, device="cpu")
        problems.append(build(aseqdip_mri, args)[1])
    return problems


def ct_problems(options: Args) -> list[Problem]:
    """Simulate the sinograms of two slices."""
    slices = (dict(sample="skull", resize=128), dict(sample="small"))
    args = [
        aseqdip_ct.Args(views=views, device="cpu", **own) for own in slices for views in (18, 30)
    ]
    return [build(aseqdip_ct, a)[1] for a in args]


def denoising_problems(options: Args) -> list[Problem]:
    """Add noise to the pictures' centres."""
    problems = []
    for path in options.pictures:
        args = aseqdip_denoising.Args(data=path, device="cpu")
        picture = centre(aseqdip_denoising.load(args, path), options.crop)
        problems += [
            aseqdip_denoising.build_problem(replace(args, sigma=sigma), picture, CPU)
            for sigma in options.sigmas
        ]
    return problems


def inpainting_problems(options: Args) -> list[Problem]:
    """Take pixels of the pictures' centres away."""
    problems = []
    for path in options.pictures:
        for kind in ("box", "random"):
            args = aseqdip_inpainting.Args(data=path, mask=kind, device="cpu")
            picture = centre(aseqdip_inpainting.load(args, path), options.crop)
            rng = picture.rng(args.data_seed, "mask")
            picture.known = image_data.make_mask(kind, picture, False, args.hiar, args.missing, rng)
            problems.append(aseqdip_inpainting.build_problem(args, picture, CPU))
    return problems


def deblurring_problems(options: Args) -> list[Problem]:
    """Blur the pictures' centres, and add noise."""
    problems = []
    for path in options.pictures:
        args = aseqdip_deblurring.Args(data=path, blur="camera", device="cpu")
        picture = centre(aseqdip_deblurring.load(args, path), options.crop)
        problems += [
            aseqdip_deblurring.build_problem(replace(args, sigma=sigma), picture, CPU)
            for sigma in options.blur_sigmas
        ]
    return problems


def superresolution_problems(options: Args) -> list[Problem]:
    """Shrink the pictures' centres."""
    problems = []
    for path in options.pictures:
        args = aseqdip_superresolution.Args(data=path, device="cpu")
        picture = centre(aseqdip_superresolution.load(args, path), options.crop)
        problems.append(aseqdip_superresolution.build_problem(args, picture, CPU))
    return problems


def centre(picture: image_data.Picture, side: int) -> image_data.Picture:
    """Keep the centre of a picture: resampled it would have another grain."""
    sides = tuple(min(side, length) for length in picture.pixels.shape[1:])
    picture.pixels = np.ascontiguousarray(mri_data.center_crop(picture.pixels, sides))
    return picture


PROBLEMS: dict[str, Callable[[Args], list[Problem]]] = {
    "mri": mri_problems,
    "ct": ct_problems,
    "denoising": denoising_problems,
    "inpainting": inpainting_problems,
    "deblurring": deblurring_problems,
    "superresolution": superresolution_problems,
}


def study(options: Args) -> None:
    """Tune the methods of the tasks that were asked for."""
    known = {name for task in options.tasks for name in GRIDS[task]}
    unknown = [name for name in options.methods if name not in known]
    require(
        not unknown,
        f"--methods {' '.join(unknown)}: expected some of {', '.join(sorted(known))}",
    )
    asked = [task for task in PICTURES if task in options.tasks]
    require(
        bool(options.pictures) or not asked,
        f"{' and '.join(asked)}: name pictures, or choose other --tasks",
    )
    settled = aseqdip_denoising.Args(device="cpu", precision=options.precision)
    set_up_device(settled)
    options = replace(options, precision=settled.precision)
    for task in options.tasks:
        with contextlib.redirect_stdout(None):  # what the task scripts say of each problem
            problems = PROBLEMS[task](options)
        for name, grid in GRIDS[task].items():
            if name in options.methods or (not options.methods and find(name).net is None):
                tune(task, problems, options, name, grid)


def weights_of_cg_sense(options: Args) -> None:
    """Print what each weight gives on the embedded sample and on the user's scan."""
    for path in (None, options.scan):
        args = aseqdip_mri.Args(data=path, out=options.cache, device="cpu")
        item, problem = build(aseqdip_mri, args)
        for value in SCAN_LAMBDAS:
            found = scores("mri", [problem], options, "cg_sense", lambda_l2=value)[0]
            print(
                f"{item.item}, lambda_l2 {value:g}: PSNR {found['psnr']:.2f} dB, SSIM "
                f"{found['ssim']:.4f}",
                flush=True,
            )


def main() -> int:
    options = cli(Args, description=__doc__)
    return exit_status(lambda: (study if options.scan is None else weights_of_cg_sense)(options))


if __name__ == "__main__":
    sys.exit(main())
