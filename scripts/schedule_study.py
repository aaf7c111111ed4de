"""Study how few updates reach the image that aSeqDIP's paper setting ends with.

Each item is reconstructed with the paper's setting (N 2, Adam at 1e-4, 4000 updates) and with each
variant below, of a quarter of its updates. The figure of merit: the first update whose image is as
good as the last of the paper's setting, by the truth. Each run's curve is kept below --out, and not
made again.

    python scripts/schedule_study.py mri=brain.npy ct=slice.dcm denoising=photo.png --resize 128
"""

import argparse
import csv
import math
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

# Run from anywhere: the repository's modules can be imported only after this.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench import Parts
from stopping_study import SCRIPTS, problem_of

from utils.errors import exit_status, require
from utils.graphs import Graphed
from utils.optim import Output
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


def curve(script: Any, args: Any, problem: Any, variant: Variant, note: str) -> dict[int, float]:
    """Run a variant; return the PSNR of its images by their update."""
    y, A = problem.y, problem.A
    parts = Parts()
    with suppress(Parts.Taken):
        script.aseqdip(replace(args, lr=variant.lr, N=variant.N), y, A, parts)
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


def main(options: argparse.Namespace) -> None:
    folder = options.out / "schedules"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for text in options.items:
        task, equals, name = text.partition("=")
        require(
            bool(equals) and task in SCRIPTS,
            f"{text}: expected TASK=FILE, TASK one of {', '.join(SCRIPTS)}",
        )
        script = SCRIPTS[task]
        args = script.Args(
            data=Path(name), width=options.width, device=options.device,
            out=options.out, **({} if task == "mri" else {"resize": options.resize}),
        )  # fmt: skip
        item, problem, goal = Path(name).stem, None, math.inf
        for label in ("paper", *(options.variants or [v for v in VARIANTS if v != "paper"])):
            variant = VARIANTS[label]
            key = f"{task}_{item}_w{options.width}_r{options.resize}_{label}"
            path = folder / f"{key.replace(', ', '_').replace(' ', '')}.csv"
            if path.exists():
                with open(path, newline="") as file:
                    found = {int(k): float(v) for k, v in csv.reader(file)}
            else:
                problem = problem or problem_of(script, task, Path(name), args)[1]
                found = curve(script, args, problem, variant, f"{task} {item}, {label}")
                with open(path, "w", newline="") as file:
                    csv.writer(file, lineterminator="\n").writerows(found.items())
            last = found[max(found)]
            goal = last if label == "paper" else goal
            reached = next((str(k) for k, v in found.items() if k and v >= goal), "not reached")
            best = max(found, key=found.__getitem__)
            row = f"{task} {item}", label, reached, f"{last:.2f}", f"{found[best]:.2f} at {best}"
            rows.append(row)
    print(markdown_table(HEAD, rows), end="")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("items", nargs="+", help="TASK=FILE")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="these only", metavar="V")
    parser.add_argument("--resize", type=int, help="side that pictures and slices are made")
    parser.add_argument("--width", type=int, default=16, help="channels of the U-Net")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results"))
    return parser.parse_args()


if __name__ == "__main__":
    chosen = read_options()
    sys.exit(exit_status(lambda: main(chosen)))
