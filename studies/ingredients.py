"""Leave the ingredients of Split DIP out, one at a time.

    python -m studies.ingredients mri --data heart_6simulated_coils.npy --accel 4 --width 16
    python -m studies.ingredients ct --data J2K_pixelrep_mismatch.dcm --resize 128 --width 16
    python -m studies.ingredients denoising --data FOLDER --crop 128 --width 16
    python -m studies.ingredients inpainting --data FOLDER --crop 128 --mask random --K 200
    python -m studies.ingredients deblurring --data FOLDER --crop 128 --sigma 2.55
    python -m studies.ingredients superresolution --data FOLDER --crop 128

FOLDER holds pictures of the development half, such as 0024.png and 0030.png. The flags are those of
the task's script, and --preset best is set. The figures are of the method's own image, before
--finish. Each is written to OUT/ingredients.csv at once, and what stands there is not measured
again; the means are printed at the end.
"""

import contextlib
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from baselines import chosen, split_dip
from scripts.tasks import SCRIPTS
from utils.callback import Callback
from utils.cli import altered, inputs, parse_args, set_up_device
from utils.errors import exit_status, require
from utils.files import content_hash
from utils.methods import Method
from utils.optim import sqnorm
from utils.problem import Problem
from utils.tables import markdown_table, mean_over_images

SUFFIXES = (".png", ".dcm", ".npy", ".h5")
KEY = ("task", "problem", "left_out", "run")


def direct(
    y: torch.Tensor,
    A: Any,
    max_iter: int,
    unseen: torch.Tensor | None = None,
    lambda_tv: float | None = None,
    sigma: float | None = None,
) -> torch.Tensor:
    """Reconstruct as split_dip.classical does, by the direct inversion in place of TV."""
    if isinstance(A, split_dip.PixelMask):
        return CLASSICAL(y, A, max_iter, unseen)
    if unseen is not None and isinstance(A, split_dip.Downsample):
        y = split_dip.linear(y, split_dip.PixelMask(~unseen[0], len(y[0])))
    elif unseen is not None:
        y = torch.where(unseen, 0, y)
    return A.pinv(y)


def all_of_it(y: torch.Tensor, *others: Any) -> split_dip.Part:
    """Take all measurements as they are, as the input and to be predicted."""
    return split_dip.Part(y, None, torch.zeros_like(y[0], dtype=torch.bool), y)


CLASSICAL = split_dip.classical
# What is left out -> what takes the place of a name in baselines/split_dip.py, and settings.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "held-out measurements": ({"part": all_of_it}, {"parts": 1}),
    "the classical image: the direct one": ({"classical": direct}, {}),
    "norms: their squares": ({"norm": sqnorm}, {}),
    "the average: the last image": ({"MEMORY": 1}, {}),
    "the mean of networks: one": ({}, {"members": 1}),
    "orientations": (
        {"orientations": lambda *a, all_=split_dip.orientations: [o[:1] for o in all_(*a)]}, {},
    ),
    "the lower weight of what has been seen": ({}, {"data_weight": 1.0}),
}  # fmt: skip
OF_MRI = ("the lower weight of what has been seen",)  # CT has it with noise alone
OF_NOISE = ("orientations",)  # of denoising and deblurring alone
WITHOUT = {
    "mri": OF_NOISE,
    "denoising": ("held-out measurements", "the classical image: the direct one", *OF_MRI),
    "deblurring": OF_MRI,
    "inpainting": (
        "the classical image: the direct one", "the mean of networks: one", *OF_NOISE, *OF_MRI,
    ),
}  # fmt: skip


def variants(task: str) -> list[str]:
    """List what can be left out in a task."""
    return [name for name in VARIANTS if name not in WITHOUT.get(task, OF_NOISE + OF_MRI)]


@contextlib.contextmanager
def left_out(name: str) -> Iterator[dict[str, Any]]:
    """Put the replacements of a variant in place; give its settings."""
    names, settings = VARIANTS[name]
    with contextlib.ExitStack() as stack:
        for attribute, value in names.items():
            stack.enter_context(mock.patch.object(split_dip, attribute, value))
        yield settings


def study(task: str, flags: list[str]) -> None:
    """Measure all variants on the problems that the flags name, and print the means."""
    require(task in SCRIPTS, f"{task}: expected one of {', '.join(SCRIPTS)}")
    script = SCRIPTS[task]
    args = parse_args(script.Args, script.PRESETS, __doc__, ["--preset", "best", *flags])
    device, log = set_up_device(args), args.out / "ingredients.csv"
    (method,) = chosen(altered(args, method="split_dip"), script.baselines(args))
    found: dict[tuple[str, ...], dict[str, str]] = {}
    if log.exists():
        with open(log, newline="") as file:
            reader = csv.DictReader(file)
            require(
                reader.fieldnames == [*KEY, "psnr", "ssim"],
                f"{log}: of an earlier version; move it away, or give another --out",
            )
            found = {tuple(row[k] for k in KEY): row for row in reader}
    lines = []
    problems: list[tuple[str, Problem]] = []
    for path in inputs(args, SUFFIXES):
        item = script.load(args, path)
        problem = script.build_problem(args, item, device)
        problems.append((problem.title, problem))
    for name in variants(task):
        figures = []
        for title, problem in problems:
            key = (task, title, name, described(args, method, problem))
            if key not in found:
                found[key] = dict(zip(KEY, key)) | measured(script, args, method, problem, name)
                append(log, found[key])
            figures.append((title, found[key]))
            print(f"{title}, without {name}: {float(found[key]['psnr']):.2f} dB", flush=True)
        psnr, ssim = (
            mean_over_images((title, float(row[key])) for title, row in figures)
            for key in ("psnr", "ssim")
        )
        lines.append((name, f"{psnr.mean:.2f}", f"{ssim.mean:.3f}"))
    print(markdown_table((f"{task}: left out", "PSNR", "SSIM"), lines), end="")


def described(args: Any, method: Method, problem: Problem) -> str:
    """Tell a run from others: its network, its settings and its measurements."""
    network = [f"{n} {getattr(args, n)}" for n in ("width", "depth", "init_std", "precision")]
    settings = [f"{n} {v}" for n, v in method.settings.items()]
    return ", ".join([*network, *settings, f"y {content_hash(problem.y.cpu().numpy())[:8]}"])


def measured(
    script: Any, args: Any, method: Method, problem: Problem, name: str
) -> dict[str, float]:
    """Run a variant on one problem; return its figures."""
    with left_out(name) as settings:
        method = method.with_settings(**settings)
        net = script.make_net(args, method.net, problem.y, problem.A)
        given = {k: problem.known[k] for k in method.takes if k in problem.known}
        figures = problem.score(method(problem.y, problem.A, net, Callback(), **given))
    psnr = figures.get("psnr_hole") or figures["psnr"]
    return {"psnr": psnr, "ssim": figures["ssim"]}


def append(log: Path, row: dict[str, Any]) -> None:
    """Add a row to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    new = not log.exists()
    with open(log, "a", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0
    return exit_status(lambda: study(sys.argv[1], sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
