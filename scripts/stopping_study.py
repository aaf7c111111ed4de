"""Measure how far from the best iterate each stopping rule ends, for aSeqDIP and Vanilla DIP.

Every item is reconstructed twice by each method: from all measurements, where the fixed number of
updates, the running variance (es_wmv) and the oracle watch the same iterates, and from the
measurements that --stop holdout leaves. PSNR in dB against the truth; a loss is that to the oracle
of the run from all measurements, so that it includes what the held-out measurements would have
given. Each item's figures are kept below --out, and not measured again.

    python scripts/stopping_study.py denoising=0010.png ct=slice.dcm mri=brain_full.npy --resize 128
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

# Run from anywhere: the repository's modules can be imported only after this.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import aseqdip_ct
import aseqdip_deblurring
import aseqdip_denoising
import aseqdip_inpainting
import aseqdip_mri
import aseqdip_superresolution
from utils import ct_data, image_data, mri_data
from utils.callback import Callback
from utils.errors import exit_status, require
from utils.methods import running_variance
from utils.precision import place
from utils.problem import Problem
from utils.randomness import stream
from utils.stopping import HeldOut
from utils.tables import markdown_table, mean_over_images

SCRIPTS = {
    "mri": aseqdip_mri,
    "ct": aseqdip_ct,
    "denoising": aseqdip_denoising,
    "inpainting": aseqdip_inpainting,
    "deblurring": aseqdip_deblurring,
    "superresolution": aseqdip_superresolution,
}
COLUMNS = (
    "task", "item", "method", "oracle", "oracle_step", "fixed", "es_wmv", "es_wmv_step", "holdout",
    "holdout_step", "holdout_fixed",
)  # fmt: skip


RULES = ("fixed", "es_wmv", "holdout")


class Watch(Callback):
    """Let rules see every iterate without ending the steps, and keep the oracle's figures."""

    def __init__(self, rules: dict[str, Any], score: Any, every: int, note: str) -> None:
        self.rules, self.score, self.every, self.note = rules, score, every, note
        self.oracle, self.oracle_step = -np.inf, 0
        self.last: Tensor | None = None

    def outer(self, n: int):
        yield from tqdm(range(1, n + 1), desc=self.note, mininterval=10)

    def record(self, k: int, x: Tensor, terms: dict[str, Tensor]) -> None:
        for rule in self.rules.values():
            rule.see(k, x)
        if k % self.every == 0:
            psnr = self.score(x)["psnr"]
            if psnr > self.oracle:
                self.oracle, self.oracle_step = psnr, k
        self.last = x


def problem_of(script: Any, task: str, file: Path | None, args: Any) -> tuple[str, Problem]:
    """Build a task's problem from a file, or its sample, with the script's own functions."""
    device = torch.device(args.device)
    if task == "mri":
        scan = mri_data.load_scan(file, None)
        return scan.item, script.build_problem(args, scan, None, device)
    if task == "ct":
        scan = ct_data.load_slice(file, args.sample, args.resize)
        return scan.item, script.build_problem(args, scan, device)
    picture = image_data.load_picture(file, args.sample, args.resize, False)
    if task == "inpainting":
        mask = script.make_mask(args, picture)
        return picture.item, script.build_problem(args, picture, mask, device)
    if task == "deblurring":
        A, blur = script.make_blur(args, picture)
        return picture.item, script.build_problem(args, picture, A.to(device), blur, device)
    return picture.item, script.build_problem(args, picture, device)


def run(script: Any, method: str, args: Any, y: Tensor, A: Any, watch: Watch) -> None:
    """Reconstruct y by one method."""
    if method == "aseqdip":
        script.aseqdip(args, y, A, watch)
        return
    baseline = script.baselines(args)[method]
    own = baseline.settings | {"steps": args.K * args.N, "seed": args.seed}
    net = place(script.make_net(args, baseline.net, y, A), y.device, args.precision)
    baseline.function(y, A, net, **own, callback=watch)


def measure(task: str, file: Path, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return one row of the table."""
    script = SCRIPTS[task]
    args = script.Args(
        data=file, K=options.K, width=options.width, device=options.device,
        out=options.out, **({} if task == "mri" else {"resize": options.resize}),
    )  # fmt: skip
    item, problem = problem_of(script, task, file, args)
    inner = args.N if method == "aseqdip" else 1
    every = 20 // inner
    y, A = problem.y, problem.A
    wmv = running_variance(inner)
    whole = Watch({"es_wmv": wmv}, problem.score, every, f"{task} {item} {method}")
    run(script, method, args, y, A, whole)
    held = A.hold_out(args.hold_out, stream(args.data_seed, "held out")).to(y.device)
    rule = HeldOut(A, y, held)
    part = Watch({"holdout": rule}, problem.score, every, f"{task} {item} {method}, held out")
    run(script, method, args, torch.where(held, 0, y), A.without(held), part)
    return {
        "task": task,
        "item": item,
        "method": method,
        "oracle": whole.oracle,
        "oracle_step": whole.oracle_step * inner,
        "fixed": problem.score(whole.last)["psnr"],
        "es_wmv": problem.score(wmv.best)["psnr"],
        "es_wmv_step": wmv.best_step * inner,
        "holdout": problem.score(rule.best)["psnr"],
        "holdout_step": rule.best_step * inner,
        "holdout_fixed": problem.score(part.last)["psnr"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Write the losses to the oracle, in dB, and their means per method, as Markdown."""

    def loss(row: dict[str, Any], rule: str) -> float:
        return float(row[rule]) - float(row["oracle"])

    def shown(row: dict[str, Any], rule: str) -> str:
        return f"{loss(row, rule):+.2f}" + (
            f" at {row[step]}" if (step := f"{rule}_step") in row else ""
        )

    lines = [
        (
            *(row[name] for name in ("task", "item", "method")),
            f"{float(row['oracle']):.2f} at {row['oracle_step']}",
            *(shown(row, rule) for rule in RULES),
        )
        for row in rows
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        means = [
            mean_over_images(((r["task"], r["item"]), loss(r, rule)) for r in mine)
            for rule in RULES
        ]
        told = [f"{mean.mean:+.2f}" for mean in means]
        lines.append((f"mean of {means[0].n}", None, method, None, *told))
    return markdown_table(("task", "item", "method", "oracle", *RULES), lines)


def main(options: argparse.Namespace) -> None:
    folder = options.out / "stopping"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"K{options.K}_width{options.width}_resize{options.resize}.csv"
    rows: list[dict[str, Any]] = []
    if path.exists():
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    asked = []
    for item in options.items:
        task, equals, name = item.partition("=")
        require(
            bool(equals) and task in SCRIPTS,
            f"{item}: expected TASK=FILE, TASK one of {', '.join(SCRIPTS)}",
        )
        for method in ("aseqdip", "vanilla_dip"):
            key = (task, Path(name).stem, method)
            asked.append(key)
            if key in {(row["task"], row["item"], row["method"]) for row in rows}:
                continue
            rows.append(measure(task, Path(name), method, options))
            with open(path, "w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    print(table([r for r in rows if (r["task"], r["item"], r["method"]) in asked]), end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("items", nargs="+", help="TASK=FILE")
    parser.add_argument("--resize", type=int, help="side that pictures and slices are made")
    parser.add_argument("--K", type=int, default=2000, help="input updates, of two weight updates")
    parser.add_argument("--width", type=int, default=16, help="channels of the U-Net")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results"))
    chosen = parser.parse_args()
    sys.exit(exit_status(lambda: main(chosen)))
