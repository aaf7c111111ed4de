"""Study how few updates reach the image that aSeqDIP's paper setting ends with.

Each item is reconstructed with the paper's setting (N 2, Adam at 1e-4, 4000 updates) and with each
variant below, of a quarter of its updates. The figure of merit: the first update whose image is as
good as the last of the paper's setting, by the truth. Each run's curve is kept below --out, and not
made again.

    python -m studies.schedule_study mri=brain.npy ct=slice.dcm denoising=photo.png --resize 128
"""

import csv
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from tqdm import tqdm

from scripts.bench import parts_of
from scripts.tasks import SCRIPTS, build, tasks_and_files
from utils.errors import exit_status
from utils.files import file_hash
from utils.flags import cli
from utils.graphs import Graphed
from utils.optim import Output
from utils.problem import Problem
from utils.tables import markdown_table

EVERY = 20  # updates between two figures
HEAD = ("item", "variant", "updates to the paper setting's last PSNR", "last", "best")


@dataclass
class Variant:
    """A schedule of `updates` weight updates, N for each input, Adam at lr.

        z <- (1 - damping) z + damping f(z),    x_hat = z

    Args:
        first: updates for z_0, N if less.
        cosine: the learning rate falls to 0 along half a cosine.
        consistent: z <- f(z) + pinv(y - A f(z)) instead, data consistency in the input update,
            and x_hat = f(z).
    """

    N: int = 2
    lr: float = 1e-4
    updates: int = 1000
    damping: float = 1.0
    first: int = 0
    cosine: bool = False
    consistent: bool = False


VARIANTS = {
    "paper": Variant(updates=4000),
    "lr 3e-4": Variant(lr=3e-4),
    "lr 1e-3": Variant(lr=1e-3),
    "N 10, lr 3e-4": Variant(N=10, lr=3e-4),
    "N 10, lr 5e-4": Variant(N=10, lr=5e-4),
    "N 10, lr 1e-3": Variant(N=10, lr=1e-3),
    "N 10, lr 1e-3, cosine": Variant(N=10, lr=1e-3, cosine=True),
    "N 10, lr 2e-3, cosine": Variant(N=10, lr=2e-3, cosine=True),
    "N 40, lr 1e-3, cosine": Variant(N=40, lr=1e-3, cosine=True),
    "damping 0.05, lr 5e-4": Variant(lr=5e-4, damping=0.05),
    "damping 0.1, lr 5e-4": Variant(lr=5e-4, damping=0.1),
    "damping 0.2, lr 5e-4": Variant(lr=5e-4, damping=0.2),
    "damping 0.1, lr 7e-4": Variant(lr=7e-4, damping=0.1),
    "damping 0.1, lr 1e-3": Variant(lr=1e-3, damping=0.1),
    "damping 0.1, lr 2e-3": Variant(lr=2e-3, damping=0.1),
    "damping 0.2, lr 1e-3": Variant(lr=1e-3, damping=0.2),
    "N 5, damping 0.2, lr 5e-4": Variant(N=5, lr=5e-4, damping=0.2),
    "damping 0.1, lr 1e-3, cosine": Variant(lr=1e-3, damping=0.1, cosine=True),
    "first 200, N 10, lr 1e-3, cosine": Variant(N=10, lr=1e-3, first=200, cosine=True),
    "consistent, N 10, lr 1e-3, cosine": Variant(N=10, lr=1e-3, consistent=True, cosine=True),
}


@dataclass
class Args:
    items: tyro.conf.Positional[tuple[str, ...]]  # TASK=FILE, several
    variants: tuple[Literal[tuple(VARIANTS)], ...] = ()  # these only, beside the paper's setting
    resize: int | None = None  # side that pictures and slices are made
    width: int = 16  # channels of the U-Net
    device: str = "cpu"  # cpu, cuda or cuda:INDEX
    out: Path = Path("results")  # root of all results


def curve(
    script: Any, args: Any, problem: Problem, variant: Variant, note: str
) -> dict[int, float]:
    """Run a variant; return the PSNR of its images by their update."""
    y, A = problem.y, problem.A
    parts = parts_of(script, replace(args, lr=variant.lr, N=variant.N), y, A)
    net, update, z = parts.net, parts.update, parts.z0
    output = Output(net)
    Graphed.enabled = False  # a graph would keep the first learning rate
    found = {0: problem.score(z)["psnr"]}
    done = 0
    with tqdm(total=variant.updates, desc=note, mininterval=10) as bar:
        while done < variant.updates:
            n = min(max(variant.N, variant.first if done == 0 else 0), variant.updates - done)
            for _ in range(n):
                if variant.cosine:
                    rate = variant.lr * (1 + math.cos(math.pi * done / variant.updates)) / 2
                    update.optimizer.param_groups[0]["lr"] = rate
                update(z)
                done += 1
            image = output(z)
            z = torch.lerp(z, image, variant.damping)
            if variant.consistent:
                z = image + A.pinv(y - A(image))
            else:
                image = z
            if done // EVERY > max(found) // EVERY or done == variant.updates:
                found[done] = problem.score(image)["psnr"]
            bar.update(n)
    return found


def read_curve(path: Path) -> dict[int, float]:
    """Read the PSNR by the update."""
    with open(path, newline="") as file:
        return {int(k): float(v) for k, v in csv.reader(file)}


def study(options: Args) -> None:
    """Run what has no curve yet, and print the table."""
    folder = options.out / "schedules"
    folder.mkdir(parents=True, exist_ok=True)
    labels = options.variants or tuple(VARIANTS)
    rows = []
    for task, file in tasks_and_files(options.items):
        script, item, problem, goal = SCRIPTS[task], file.stem, None, math.inf
        args = script.Args(
            data=file, width=options.width, device=options.device, out=options.out,
            **({} if task == "mri" else {"resize": options.resize}),
        )  # fmt: skip
        for label in dict.fromkeys(("paper", *labels)):
            key = f"{task}_{item}_{file_hash(file)[:8]}_w{options.width}_r{options.resize}_{label}"
            path = folder / f"{key.replace(', ', '_').replace(' ', '')}.csv"
            if not path.exists():
                problem = problem or build(script, args)[1]
                found = curve(script, args, problem, VARIANTS[label], f"{task} {item}, {label}")
                with open(path, "w", newline="") as opened:
                    csv.writer(opened, lineterminator="\n").writerows(found.items())
            found = read_curve(path)
            last = found[max(found)]
            goal = last if label == "paper" else goal
            reached = next((str(k) for k, v in found.items() if k and v >= goal), "not reached")
            best = max(found, key=found.__getitem__)
            row = f"{task} {item}", label, reached, f"{last:.2f}", f"{found[best]:.2f} at {best}"
            rows.append(row)
    print(markdown_table(HEAD, rows), end="")


def main() -> int:
    options = cli(Args, description=__doc__)
    return exit_status(lambda: study(options))


if __name__ == "__main__":
    sys.exit(main())
