"""Figure 1 of the paper: the best PSNR of Vanilla DIP against what its fixed input is.

    min_phi ||A f_phi(z) - y||^2,    z fixed:    z = x_true + delta    or    z = delta    (1)

for MRI, delta Gaussian of standard deviation sigma. **Every figure here is an oracle's**: the input
is made of the truth, and of every tenth iterate the one nearest to the truth is taken (section
3.1: "the best possible PSNR"). It is a study of the input, not a method.

    python scripts/fig1.py --quick                         the embedded sample at 128x128
    python scripts/fig1.py --data fastmri --images 8       as in the paper: 8 scans at 4x

Problem and network are those of aseqdip_mri.py, the method is baselines/vanilla_dip.py, each run
has a folder of its own below OUT/fig1 and is resumed there. What the paper leaves open, and what
is taken here: sigma is a share of the truth's largest magnitude, for the real and the imaginary
part each; the levels; Adam at 1e-4 for 4000 updates, as for Vanilla DIP in docs/methods.md; one
draw of delta for all levels, scaled. BatchNorm behind a first convolution without bias takes the
scale out of z = delta, so that curve can vary only where sigma is tiny.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

# Run from anywhere: the repository's modules can be imported only after this.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from figure_files import circumstances, each, save_figure, save_notes, save_settings, save_table
from report import write_report

from aseqdip_mri import Args, build_problem, make_net
from baselines.vanilla_dip import vanilla_dip
from utils import mri_data
from utils.cli import RunArgs, check_method, files_of, set_up_device
from utils.errors import exit_status, require
from utils.figures import DPI
from utils.precision import place
from utils.problem import Problem
from utils.randomness import stream
from utils.runs import Run
from utils.tables import mean_over_images

SUFFIXES = (".h5", ".npy", ".npz")
LEVELS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
# What --quick changes: these are then the defaults.
QUICK = {"crop": 128, "width": 16, "steps": 500, "lr": 5e-4, "levels": (0.0, 0.1, 1.0)}
KINDS = {"truth": "x_true + noise", "noise": "noise alone"}
COLOURS = {"truth": "tab:blue", "noise": "tab:red"}
# Fields of aseqdip_mri.Args that decide nothing here.
UNUSED = {"lambda_ae", "stop", "hold_out", "measured", "N"}


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


def measure(
    args: Args, scan: mri_data.Scan, problem: Problem | None, kind: str, sigma: float
) -> tuple[dict[str, Any], Problem | None]:
    """Return the figures of one run, made now unless they are there, and the problem if built."""
    run = Run(
        args, "fig1", "oracle_input", scan.item, scan.content, ignored=UNUSED,
        hyperparameters={"input": kind, "sigma": sigma},
    )  # fmt: skip
    if not run.finished():
        problem = problem or build_problem(args, scan, None, torch.device(args.device))
        y, A = problem.y, problem.A
        z = network_input(problem.x_true, kind, sigma, args.seed)
        run.open(problem.score, y, A)
        net = place(make_net(args, "unet", y, A), y.device, args.precision)
        print(f"{scan.item}: input {KINDS[kind]}, sigma {sigma:g}")
        x_hat = vanilla_dip(y, A, net, z0=z, steps=args.K, lr=args.lr, seed=args.seed, callback=run)
        run.close()
        distance = (z - problem.x_true).norm() / problem.x_true.norm()
        run.finish(
            {
                "images": ["final"],
                **{f"{name}_final": value for name, value in problem.score(x_hat).items()},
                "psnr_input": problem.score(A.pinv(y))["psnr"],
                "input": kind,
                "sigma": sigma,
                "distance": distance.item(),
            }
        )
    return json.loads((run.folder / "metrics.json").read_text()), problem


def measure_scan(args: Args, path: Path | None, levels: tuple[float, ...]) -> list[dict[str, Any]]:
    """Return the figures of all inputs of one scan."""
    scan = mri_data.load_scan(path, None)
    problem: Problem | None = None
    found = []
    for kind in KINDS:
        for sigma in levels:
            if kind == "truth" or sigma > 0:  # an input of zeros is nothing
                figures, problem = measure(args, scan, problem, kind, sigma)
                found.append(figures)
    return found


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


def main(options: argparse.Namespace) -> None:
    require(options.images is None or options.images >= 1,
            f"--images {options.images}: expected at least 1")  # fmt: skip
    require(
        options.images is None or options.data is not None,
        "--images: of use with --data FOLDER only",
    )
    levels = tuple(sorted(set(options.levels)))
    require(
        all(0 <= sigma < math.inf for sigma in levels),
        f"--levels {' '.join(map(str, options.levels))}: expected numbers of at least 0",
    )
    device = set_up_device(RunArgs(device=options.device, deterministic=options.deterministic))
    args = Args(
        accel=options.accel, crop=options.crop, K=options.steps, N=1, lr=options.lr,
        width=options.width, seed=options.seed, data_seed=options.data_seed, device=str(device),
        deterministic=options.deterministic, out=options.out, quick=options.quick,
    )  # fmt: skip
    check_method(args)
    files: list[Path | None] = [None]
    if options.data is not None:
        files = list(files_of(options.data, SUFFIXES, lambda path: False)[: options.images])
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


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="fully sampled .h5, .npy or .npz, or a folder")
    parser.add_argument("--images", type=int, help="take only the first of the folder")
    parser.add_argument("--levels", type=float, nargs="+", default=LEVELS, help="sigmas")
    parser.add_argument("--accel", type=float, default=Args.accel, help="acceleration")
    parser.add_argument("--crop", type=int, help="crop coil images to this side; 0 for none")
    parser.add_argument("--steps", type=int, default=4000, help="weight updates")
    parser.add_argument("--lr", type=float, default=Args.lr, help="Adam's learning rate")
    parser.add_argument("--width", type=int, default=Args.width, help="channels of the U-Net")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of delta")
    parser.add_argument("--data-seed", type=int, default=0, help="of mask and noise")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:INDEX")
    parser.add_argument("--deterministic", action="store_true", help="the same bits on CUDA")
    parser.add_argument("--out", type=Path, default=Path("results"), help="root of all results")
    parser.add_argument("--quick", action="store_true", help="two minutes on two CPU cores")
    if "--quick" in sys.argv[1:]:
        parser.set_defaults(**QUICK)
    return parser.parse_args()


if __name__ == "__main__":
    chosen = read_options()
    sys.exit(exit_status(lambda: main(chosen)))
