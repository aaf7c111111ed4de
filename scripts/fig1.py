"""Figure 1 of the paper: the best PSNR of Vanilla DIP against what its fixed input is.

    min_phi ||A f_phi(z) - y||^2,    z fixed:    z = x_true + delta    or    z = delta    (1)

for MRI, delta Gaussian of standard deviation sigma. **Every figure here is an oracle's**: the input
is made of the truth, and of every tenth iterate the one nearest to the truth is taken (section
3.1: "the best possible PSNR"). It is a study of the input, not a method.

    python -m scripts.fig1 --quick                         the embedded sample at 128x128
    python -m scripts.fig1 --data fastmri --images 8       as in the paper: 8 scans at 4x

Problem and network are those of aseqdip_mri.py, the method is baselines/vanilla_dip.py, each run
has a folder of its own below OUT/fig1 and is resumed there. What the paper leaves open, and what
is taken here: sigma is a share of the truth's largest magnitude, for the real and the imaginary
part each; the levels; Adam at 1e-4 for 4000 updates, as for Vanilla DIP in docs/methods.md; one
draw of delta for all levels, scaled. BatchNorm behind a first convolution without bias takes the
scale out of z = delta, so that curve can vary only where sigma is tiny.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

import aseqdip_mri
from baselines.vanilla_dip import vanilla_dip
from scripts.figure_files import (
    circumstances,
    each,
    parse_args,
    save_figure,
    save_notes,
    save_settings,
    save_table,
)
from scripts.report import write_report
from utils import mri_data
from utils.cli import RunArgs, check_method, files_of, set_up_device
from utils.errors import exit_status, require
from utils.figures import DPI
from utils.folder import RunFolder
from utils.loop import Loop
from utils.problem import Problem
from utils.randomness import stream
from utils.results import print_report
from utils.tables import mean_over_images

KINDS = {"truth": "x_true + noise", "noise": "noise alone"}
COLOURS = {"truth": "tab:blue", "noise": "tab:red"}
# Fields of aseqdip_mri.Args that decide nothing here.
UNUSED = {"lambda_ae", "stop", "hold_out", "tau", "measured", "N", "sigma"}


@dataclass
class Args:
    data: Path | None = None  # fully sampled .h5, .npy or .npz, or a folder; without it the sample
    images: int | None = None  # take only the first of the folder
    levels: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)  # sigmas
    accel: float = aseqdip_mri.Args.accel  # acceleration
    crop: int | None = None  # crop coil images to this side; 0 for none
    steps: int = 4000  # weight updates
    lr: float = aseqdip_mri.Args.lr  # Adam's learning rate
    width: int = aseqdip_mri.Args.width  # channels of the U-Net
    seed: int = 0  # of the weights and of delta
    data_seed: int = 0  # of mask and noise
    device: str = "auto"  # auto, cpu, cuda or cuda:INDEX
    deterministic: bool = False  # the same bits each time on CUDA too, slower
    out: Path = Path("results")  # root of all results
    quick: bool = False  # other defaults, for two minutes on two CPU cores


# What --quick changes: these are then the defaults.
QUICK = {"crop": 128, "width": 16, "steps": 500, "lr": 5e-4, "levels": (0.0, 0.1, 1.0)}


def network_input(x_true: Tensor, kind: str, sigma: float, seed: int) -> Tensor:
    """Make the fixed input z of a level.

    Args:
        x_true: (1, 1, H, W) complex.
        kind: `truth` for x_true + delta, `noise` for delta alone.
        sigma: standard deviation of delta's real and of its imaginary part, over max|x_true|.
        seed: of delta, the same for all levels and kinds but for its scale.

    Returns:
        (1, 1, H, W) complex.
    """
    rng = stream(seed, "input")
    parts = torch.randn(2, *x_true.shape, generator=rng).to(x_true.device)
    delta = sigma * x_true.abs().max() * torch.complex(parts[0], parts[1])
    return x_true + delta if kind == "truth" else delta


def measure_scan(
    args: aseqdip_mri.Args, path: Path | None, levels: tuple[float, ...]
) -> list[dict[str, Any]]:
    """Return the figures of all inputs of one scan; runs that are there are not made again."""
    scan, problem = aseqdip_mri.load(args, path), None
    found = []
    for kind, sigma in ((kind, sigma) for kind in KINDS for sigma in levels):
        if kind == "noise" and sigma == 0:
            continue  # an input of zeros is nothing
        folder = RunFolder(
            args, "fig1", "oracle_input", scan.item, scan.content, UNUSED,
            {"input": kind, "sigma": sigma},
        )  # fmt: skip
        figures = folder.finished()
        if figures is None:
            problem = problem or aseqdip_mri.build_problem(args, scan, torch.device(args.device))
            print(f"{scan.item}: input {KINDS[kind]}, sigma {sigma:g}")
            figures = measure(args, problem, folder, kind, sigma)
        print_report(figures, folder.path)
        found.append(figures)
    return found


def measure(
    args: aseqdip_mri.Args, problem: Problem, folder: RunFolder, kind: str, sigma: float
) -> dict[str, Any]:
    """Run Vanilla DIP on an input of a kind, and return its figures."""
    y, A = problem.y, problem.A
    z = network_input(problem.x_true, kind, sigma, args.seed)
    loop = Loop(folder, args, problem.score, y, A)
    net = aseqdip_mri.make_net(args, "unet", y, A)
    x_hat = vanilla_dip(y, A, net, z0=z, steps=args.K, lr=args.lr, seed=args.seed, callback=loop)
    loop.close()
    return folder.complete(
        {
            "images": ["final"],
            **{f"{name}_final": value for name, value in problem.score(x_hat).items()},
            "psnr_input": problem.score(A.pinv(y))["psnr"],
            "input": kind,
            "sigma": sigma,
            "distance": ((z - problem.x_true).norm() / problem.x_true.norm()).item(),
            **loop.figures(),
        }
    )


def table(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each kind and level: means over the scans."""
    rows = []
    for kind, sigma in dict.fromkeys((f["input"], f["sigma"]) for f in found):
        mine = [f for f in found if (f["input"], f["sigma"]) == (kind, sigma)]
        means = {
            name: mean_over_images((f["item"], f[name]) for f in mine)
            for name in ("distance", "psnr_oracle", "step_oracle", "psnr_final")
        }
        rows.append(
            {
                "input": KINDS[kind],
                "sigma": sigma,
                "distance / norm of x_true": means["distance"].mean,
                "best PSNR (oracle)": means["psnr_oracle"].mean,
                "std": means["psnr_oracle"].std,
                "at update": means["step_oracle"].mean,
                "last PSNR": means["psnr_final"].mean,
                "scans": means["distance"].n,
            }
        )
    return rows


def claims(found: list[dict[str, Any]]) -> list[str]:
    """Return what section 3.1 says beside what was found."""
    scans = {}
    for f in found:
        scans.setdefault(f["item"], {}).setdefault(f["input"], []).append(
            (f["sigma"], f["psnr_oracle"])
        )
    falling = sum(
        all(b < a for (_, a), (_, b) in zip(sorted(s["truth"]), sorted(s["truth"])[1:]))
        for s in scans.values()
    )
    drops = [sorted(s["truth"])[0][1] - sorted(s["truth"])[-1][1] for s in scans.values()]
    notes = [
        "Every figure is an oracle's: inputs are made of the truth, iterates are chosen by it.",
        "'A closer similarity of the DIP network input to x* corresponds to higher reconstruction "
        f"quality': the best PSNR falls from each level to the next in {falling} of {len(scans)} "
        f"scans, from the nearest input to the farthest by {np.mean(drops):.2f} dB in the mean.",
    ]
    noise = [[psnr for _, psnr in sorted(s["noise"])] for s in scans.values() if "noise" in s]
    if noise and len(noise[0]) > 1:
        notes.append(
            "'Larger variance corresponds to larger additive perturbations even for x* = 0' (the "
            "red curve): with noise alone the best PSNR changes from the lowest to the highest "
            f"level by {np.mean([p[-1] - p[0] for p in noise]):+.2f} dB in the mean."
        )
    return notes


def draw_figure(rows: list[dict[str, Any]], level: float, title: str) -> Figure:
    """Draw the best PSNR over sigma, with the standard deviation over the scans.

    Args:
        rows: the table.
        level: PSNR of the zero-filled image.
        title: line above.
    """
    figure = Figure(figsize=(6.5, 4.5), dpi=DPI)
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for kind, label in KINDS.items():
        mine = [row for row in rows if row["input"] == label]
        if mine:
            axis.errorbar(
                [row["sigma"] for row in mine], [row["best PSNR (oracle)"] for row in mine],
                [row["std"] or 0 for row in mine], marker="o", capsize=3, color=COLOURS[kind],
                label=f"z = {label}",
            )  # fmt: skip
    axis.axhline(level, color="gray", ls=":", lw=1, label="zero-filled")
    positive = [row["sigma"] for row in rows if row["sigma"] > 0]
    axis.set_xscale("symlog", linthresh=min(positive, default=1.0))
    axis.set(xlabel="sigma, share of max|x_true|", ylabel="best PSNR over the updates, oracle (dB)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(pad=0.6)
    return figure


def draw(options: Args) -> None:
    """Make the runs that are not there yet, and the figure of all of them."""
    require(
        options.images is None or options.images >= 1,
        f"--images {options.images}: expected at least 1",
    )
    require(
        options.images is None or options.data is not None,
        "--images: of use with --data FOLDER only",
    )
    levels = tuple(sorted(set(options.levels)))
    require(
        len(levels) > 0 and all(0 <= sigma < math.inf for sigma in levels),
        f"--levels {' '.join(map(str, options.levels))}: expected one or more numbers of at least 0",
    )
    device = set_up_device(RunArgs(device=options.device, deterministic=options.deterministic))
    args = aseqdip_mri.Args(
        accel=options.accel, crop=options.crop, K=options.steps, N=1, lr=options.lr,
        width=options.width, seed=options.seed, data_seed=options.data_seed, device=str(device),
        deterministic=options.deterministic, out=options.out,
        preset="quick" if options.quick else "paper",
    )  # fmt: skip
    check_method(args)
    files: list[Path | None] = [None]
    if options.data is not None:
        files = [*files_of(options.data, mri_data.SUFFIXES, lambda path: False)[: options.images]]
    found, failed = each(files, lambda file: measure_scan(args, file, levels))
    folder = options.out / "figures" / "fig1"
    save_settings(folder, options)
    rows = table(found)
    save_table(folder, "table", rows)
    save_notes(folder, [circumstances(found, options.data, options.quick, 8), *claims(found)])
    scans = len({f["item"] for f in found})
    title = f"Vanilla DIP, MRI {args.accel:g}x, {scans} scan(s), {args.K} updates"
    level = mean_over_images((f["item"], f["psnr_input"]) for f in found).mean
    save_figure(folder, "fig1", draw_figure(rows, level, title))
    write_report(options.out)
    require(not failed, f"{', '.join(failed)}: failed, as said above; the others are complete")


def main() -> int:
    options = parse_args(Args, QUICK, description=__doc__)
    return exit_status(lambda: draw(options))


if __name__ == "__main__":
    sys.exit(main())
