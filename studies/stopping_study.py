"""Measure how far from the best iterate each stopping rule ends, for aSeqDIP and Vanilla DIP.

Every item is reconstructed twice by each method: from all measurements, where the fixed number of
updates, the running variance (es_wmv) and the oracle watch the same iterates, and from the
measurements that --stop holdout leaves. PSNR in dB against the truth; a loss is that to the oracle
of the run from all measurements, so that it includes what the held-out measurements would have
given. Each item's figures are kept below --out, and not measured again.

    python -m studies.stopping_study denoising=0010.png ct=slice.dcm mri=brain_full.npy --resize 128
"""

import csv
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from baselines import chosen
from operators.base import Operator
from scripts.tasks import SCRIPTS, build, tasks_and_files
from utils.callback import Callback
from utils.errors import exit_status, require
from utils.files import file_hash
from utils.flags import cli
from utils.holdout import hold_out, without
from utils.randomness import stream
from utils.runs import running_variance
from utils.stopping import HeldOut, Rule
from utils.tables import markdown_table, mean_over_images

RULES = ("fixed", "es_wmv", "holdout")
METHODS = ("aseqdip", "vanilla_dip")
EVERY = 20  # updates between two looks at the truth
COLUMNS = (
    "task", "item", "method", "oracle", "oracle_step", "fixed", "es_wmv", "es_wmv_step", "holdout",
    "holdout_step", "holdout_fixed", "sha256",
)  # fmt: skip


@dataclass
class Args:
    items: tyro.conf.Positional[tuple[str, ...]]  # TASK=FILE, several
    resize: int | None = None  # side that pictures and slices are made
    K: int = 2000  # input updates, of two weight updates
    width: int = 16  # channels of the U-Net
    device: str = "cpu"  # cpu, cuda or cuda:INDEX
    out: Path = Path("results")  # root of all results


class Watch(Callback):
    """Let a rule see every iterate without ending the steps, and keep the oracle's figures."""

    def __init__(
        self, rule: Rule, score: Callable[[Tensor], dict[str, float]], every: int, note: str
    ) -> None:
        self.rule, self.score, self.every, self.note = rule, score, every, note
        self.oracle, self.oracle_step = -math.inf, 0
        self.last: Tensor | None = None

    def outer(self, n: int) -> Iterator[int]:
        yield from tqdm(range(1, n + 1), desc=self.note, mininterval=10)

    def record(self, k: int, x: Tensor, terms: dict[str, Tensor]) -> None:
        self.rule.see(k, x)
        if k % self.every == 0:
            psnr = self.score(x)["psnr"]
            if psnr > self.oracle:
                self.oracle, self.oracle_step = psnr, k
        self.last = x


def reconstruct(script: Any, name: str, args: Any, y: Tensor, A: Operator, watch: Watch) -> None:
    """Reconstruct y by one method."""
    (method,) = chosen(replace(args, method=name), script.baselines(args))
    if name == "aseqdip":
        script.aseqdip(args, y, A, watch)
    else:
        method(y, A, script.make_net(args, method.net, y, A), watch)


def measure(task: str, file: Path, name: str, options: Args) -> dict[str, Any]:
    """Return one row of the table."""
    script = SCRIPTS[task]
    args = script.Args(
        data=file, K=options.K, width=options.width, device=options.device, out=options.out,
        **({} if task == "mri" else {"resize": options.resize}),
    )  # fmt: skip
    _, problem = build(script, args)
    y, A = problem.y, problem.A
    inner = args.N if name == "aseqdip" else 1
    wmv = running_variance(inner)
    note = f"{task} {file.stem} {name}"
    whole = Watch(wmv, problem.score, EVERY // inner, note)
    reconstruct(script, name, args, y, A, whole)
    held = hold_out(A, args.hold_out, stream(args.data_seed, "held out")).to(y.device)
    rule = HeldOut(A, y, held)
    part = Watch(rule, problem.score, EVERY // inner, f"{note}, held out")
    reconstruct(script, name, args, torch.where(held, 0, y), without(A, held), part)
    return {
        "task": task,
        "item": file.stem,
        "sha256": file_hash(file),
        "method": name,
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
        at = f" at {row[f'{rule}_step']}" if f"{rule}_step" in row else ""
        return f"{loss(row, rule):+.2f}{at}"

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


def study(options: Args) -> None:
    """Measure what is not measured yet, and print the table."""
    folder = options.out / "stopping"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"K{options.K}_width{options.width}_resize{options.resize}.csv"
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    if path.exists():
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            require(
                reader.fieldnames == [*COLUMNS],
                f"{path}: of an earlier version; move it away, or give another --out",
            )
            rows = {(r["task"], r["sha256"], r["method"]): r for r in reader}
    asked = []
    for task, data in tasks_and_files(options.items):
        for name in METHODS:
            key = (task, file_hash(data), name)
            asked.append(key)
            if key in rows:
                continue
            rows[key] = measure(task, data, name, options)
            with open(path, "w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows.values())
    print(table([rows[key] for key in asked]), end="")


def main() -> int:
    options = cli(Args, description=__doc__)
    return exit_status(lambda: study(options))


if __name__ == "__main__":
    sys.exit(main())
