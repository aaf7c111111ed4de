"""Compare bf16 with fp32: the PSNR of the last image, of the same problems and seeds.

    python -m studies.precision_study mri=brain.npy ct=slice.dcm denoising=photo.png

Each TASK=FILE is reconstructed by aSeqDIP, 1000 updates at 5e-4 of a network of width 16, in both
precisions and for each seed of the weights; pictures and slices are resized to 128x128. A finished
run is not done again. The table gives bf16 minus fp32 in dB, its mean over the problems with the
standard error, and beside it what another seed changes in fp32.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from scripts.tasks import tasks_and_files
from utils.arrays import stem
from utils.errors import exit_status, require
from utils.flags import cli
from utils.folder import ROOT
from utils.tables import markdown_table, mean_over_images

PRECISIONS = ("fp32", "bf16")


@dataclass
class Args:
    problems: tyro.conf.Positional[tuple[str, ...]]  # TASK=FILE, several
    seeds: tuple[int, ...] = (0, 1)  # of the weights; the first two tell what a seed changes
    out: Path = Path("results/precision")  # where the runs lie


def psnr(task: str, file: Path, precision: str, seed: int, out: Path) -> float:
    """Make one run, unless it is finished, and return the PSNR of its last image in dB."""
    run = f"{precision}_{seed}"
    command = [
        sys.executable, f"aseqdip_{task}.py", "--data", str(file.resolve()),
        "--K", "100", "--N", "10", "--lr", "5e-4", "--width", "16", "--precision", precision,
        "--seed", str(seed),
        "--out", str(out.resolve()), "--run", run,
        *([] if task == "mri" else ["--resize", "128"]),
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    own = re.compile(re.escape(stem(file)) + r"(_slice\d+)?")  # the slice of a volume
    (path,) = (f for f in out.glob(f"{task}/aseqdip/*/{run}/metrics.json")
               if own.fullmatch(f.parts[-3]))  # fmt: skip
    return json.loads(path.read_text())["psnr_final"]


def mean_and_error(differences: list[tuple[Any, float]]) -> str:
    """Write the mean over problems, seeds of one averaged first, with its standard error."""
    found = mean_over_images(differences)
    error = "" if found.std is None else f" ({found.std / found.n**0.5:.2f})"
    return f"{found.mean:+.2f}{error} dB over {found.n} problem{'s' if found.n > 1 else ''}"


def study(args: Args) -> None:
    """Make all runs that are not there yet, and print the table."""
    require(
        len(set(args.seeds)) == len(args.seeds) >= 2,
        f"--seeds {' '.join(map(str, args.seeds))}: expected at least two, all different",
    )
    differences, of_seeds, rows = [], [], []
    for task, file in tasks_and_files(args.problems):
        name, exact = f"{task}, {file.stem}", []
        for seed in args.seeds:
            fp32, bf16 = (psnr(task, file, precision, seed, args.out) for precision in PRECISIONS)
            exact.append(fp32)
            differences.append(((task, file), bf16 - fp32))
            rows.append((name, seed, f"{fp32:.2f}", f"{bf16:.2f}", f"{bf16 - fp32:+.2f}"))
        of_seeds.append(((task, file), abs(exact[1] - exact[0])))
    print(markdown_table(("", "seed", "fp32", "bf16", "difference"), rows))
    print(f"bf16 minus fp32: {mean_and_error(differences)}")
    print(
        f"another seed, in fp32: {mean_over_images(of_seeds).mean:.2f} dB in the mean, up or down"
    )


def main() -> int:
    args = cli(Args, description=__doc__)
    return exit_status(lambda: study(args))


if __name__ == "__main__":
    sys.exit(main())
