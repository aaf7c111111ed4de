"""Study what UGoDIT's encoder gives: faster, or better, than aSeqDIP at as many updates?

An encoder is learned from the files of a folder (ugodit_train.py); each test item is then
reconstructed from the same measurement by aSeqDIP at the paper's learning rate and at a raised one,
by Vanilla DIP, by UGoDIT, and by what tells where a difference comes from: UGoDIT's network without
any training, with an untrained encoder that is frozen all the same, with an encoder that may
change; with statistics of BatchNorm that are frozen too; with another lambda. PSNR against the
truth over the updates, as a table and a figure. Training and each curve are kept below --out: what
is done is not done again, and training goes on where it was interrupted.

    python -m studies.ugodit_study superresolution --train faces --test 00000.png 00001.png \\
        --resize 128 --width 16
    python -m studies.ugodit_study mri --width 16 --only UGoDIT "UGoDIT, from scratch"

Without --train and --test the embedded data are taken.
"""

import csv
import io
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor, nn
from tqdm import tqdm

import ugodit_train
from baselines import chosen
from models.group import encoder_of
from scripts.tasks import build
from ugodit_train import SCRIPTS
from utils import encoders
from utils.callback import Callback
from utils.errors import exit_status, require
from utils.figures import psnr_figure
from utils.files import file_hash, tree_hash, write_atomically
from utils.flags import cli
from utils.item import refuse_seen
from utils.problem import Problem
from utils.tables import markdown_table, mean_curve, mean_over_images

EVERY = 20  # updates between two figures
HEAD = ("item", "method", "final", "oracle, at", "aSeqDIP's best reached at", "s per 100 updates")


# Where aSeqDIP gets somewhere in a few hundred updates too. For super-resolution the best of lr 3e-4,
# 1e-3 and 3e-3 with N 2 and 10 on FFHQ 00013 at 128x128, which is no test image; the others have it.
RAISED: dict[str, dict[str, Any]] = {
    "mri": dict(lr=5e-4, N=10), "superresolution": dict(lr=1e-3, N=10),
    "deblurring": dict(lr=1e-3, N=10),
}  # fmt: skip


@dataclass
class Variant:
    """UGoDIT, or what it is compared with on its own network.

    Args:
        encoder: `frozen`: learned, as UGoDIT has it; `free`: learned, and fitted on; `untrained`:
            frozen as it was drawn; `none`: the whole network starts from scratch.
        statistics: BatchNorm of the encoder normalises by means and variances of the training.
        settings: of the method, where they differ from its own.
    """

    encoder: Literal["frozen", "free", "untrained", "none"] = "frozen"
    statistics: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "UGoDIT": Variant(),
    "UGoDIT, from scratch": Variant("none"),
    "UGoDIT, encoder untrained": Variant("untrained"),
    "UGoDIT, encoder fitted on": Variant("free"),
    "UGoDIT, lambda 0.1": Variant(settings={"lambda_ae": 0.1}),
    "UGoDIT, statistics frozen": Variant(statistics=True),
}
NAMES = ["aSeqDIP", "aSeqDIP, raised rate", "Vanilla DIP", *VARIANTS]


@dataclass
class Args:
    task: tyro.conf.Positional[Literal[tuple(SCRIPTS)]]  # what is measured
    train: Path | None = None  # folder of what the encoder is learned from
    test: tuple[Path, ...] = ()  # files that are reconstructed; without them the sample
    M: int = 4  # measurements to learn from
    train_K: int = 2000  # input updates of the training
    updates: int = 4000  # weight updates of a test
    only: tuple[str, ...] = ()  # curves besides aSeqDIP's; without it all
    resize: int | None = None  # side that pictures are made
    width: int = 64  # channels of the U-Net
    device: str = "cpu"  # cpu, cuda or cuda:INDEX
    out: Path = Path("results")  # root of all results


class Watch(Callback):
    """Keep (update, PSNR, seconds) of every EVERY updates; figures cost no seconds.

    The seconds are those of the processor, all threads together, so that what else a machine does
    does not count; on another device those of the clock.

    Args:
        score: gives an image's figures.
        inner: updates in a step.
        device: that the updates run on.
        note: names the run in its progress bar.
    """

    def __init__(self, score: Any, inner: int, device: torch.device, note: str) -> None:
        self.score, self.inner, self.note = score, inner, note
        self.clock = time.process_time if device.type == "cpu" else time.perf_counter
        self.rows: list[tuple[int, float, float]] = []
        self.begun = 0.0

    def outer(self, n: int) -> Iterator[int]:
        self.begun = self.clock()
        yield from tqdm(range(1, n + 1), desc=self.note, mininterval=10)

    def record(self, k: int, x: Tensor, terms: dict[str, Tensor]) -> None:
        update = k * self.inner
        if update % EVERY == 0:
            terms["loss"].item()  # waits for the device
            before = self.clock()
            self.rows.append((update, self.score(x)["psnr"], before - self.begun))
            self.begun += self.clock() - before


@torch.no_grad()
def freeze_statistics(net: nn.Module, images: list[Tensor]) -> None:
    """Let the encoder's BatchNorm normalise by its mean statistics over images, whatever z is."""
    layers = [m for m in encoder_of(net).modules() if isinstance(m, nn.BatchNorm2d)]
    seen: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}

    def see(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        (x,) = inputs
        seen[layer].append((x.mean(dim=(0, 2, 3)), x.square().mean(dim=(0, 2, 3))))

    hooks = [layer.register_forward_pre_hook(see) for layer in layers]
    for image in images:
        net(image)
    for hook in hooks:
        hook.remove()
    for layer, pairs in seen.items():
        mean, square = (torch.stack(values).mean(dim=0) for values in zip(*pairs, strict=True))
        layer.running_mean, layer.running_var = mean, square - mean**2
        layer.eval()


def curve(
    args: Any, task: str, name: str, problem: Problem, train_args: Any, note: str
) -> list[tuple[int, float, float]]:
    """Reconstruct by a method or a variant; return its updates, PSNR and seconds."""
    script, y, A = SCRIPTS[task], problem.y, problem.A
    if name == "input":
        return [(0, problem.score(A.pinv(y))["psnr"], 0.0)]
    if name == "aSeqDIP, raised rate":
        updates = args.K * args.N
        args = replace(args, **RAISED[task], K=updates // RAISED[task]["N"])
    inner = args.N if name.startswith("aSeqDIP") else 1
    watch = Watch(problem.score, inner, y.device, note)
    if name.startswith("aSeqDIP"):
        script.aseqdip(args, y, A, watch)
        return watch.rows
    asked = "vanilla_dip" if name == "Vanilla DIP" else "ugodit"
    (method,) = chosen(replace(args, method=asked), script.baselines(args))
    if name == "Vanilla DIP":
        method(y, A, script.make_net(args, method.net, y, A), watch)
        return watch.rows
    variant = VARIANTS[name]
    learned = variant.encoder in ("frozen", "free")
    net = script.make_net(args if learned else replace(args, encoder=None), method.net, y, A)
    encoder_of(net).requires_grad_(variant.encoder in ("free", "none"))
    if variant.statistics:
        items = ugodit_train.choose_items(train_args)
        problems = [
            ugodit_train.build_problem(train_args, item, number, y.device)
            for number, item in enumerate(items)
        ]
        freeze_statistics(net, [p.A.pinv(p.y) for p in problems])
    method.with_settings(**variant.settings)(y, A, net, watch)
    return watch.rows


def read_curve(path: Path) -> list[tuple[int, float, float]]:
    """Read what write_curve wrote."""
    with open(path, newline="") as file:
        return [(int(u), float(p), float(s)) for u, p, s in csv.reader(file)]


def write_curve(path: Path, rows: list[tuple[int, float, float]]) -> None:
    """Write (update, PSNR, seconds), whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def figures(rows: list[tuple[int, float, float]], goal: float) -> list[float]:
    """Return final and best PSNR, the best one's update, the update of goal, seconds for 100."""
    best = max(rows, key=lambda row: row[1])
    reached = next((row[0] for row in rows if row[1] >= goal), math.inf)
    updates, psnr, seconds = rows[-1]
    return [psnr, best[1], best[0], reached, 100 * seconds / updates]


def table(found: dict[str, dict[str, list[tuple[int, float, float]]]]) -> str:
    """Write the figures of items and methods, and their means per method, as Markdown."""
    rows: list[tuple[str, ...]] = []
    values: dict[str, dict[str, list[float]]] = {}
    for item, curves in found.items():
        at_best = [rows for name, rows in curves.items() if name.startswith("aSeqDIP")]
        goal = max(psnr for rows in at_best for _, psnr, _ in rows)
        for name, points in curves.items():
            mine = [points[0][1]] if name == "input" else figures(points, goal)
            values.setdefault(name, {})[item] = mine
            rows.append((item, name, *_cells(mine, "never")))
    if len(found) > 1:
        for name, of_items in values.items():
            columns = zip(*of_items.values())
            means = [mean_over_images(zip(of_items, column)).mean for column in columns]
            rows.append((f"mean of {len(found)}", name, *_cells(means, "not by all")))
    return markdown_table(HEAD, rows)


def _cells(values: list[float], missing: str) -> tuple[str, ...]:
    if len(values) == 1:
        return f"{values[0]:.2f}", "", "", ""
    final, best, at, reached, seconds = values
    told = missing if math.isinf(reached) else f"{reached:.0f}"
    return f"{final:.2f}", f"{best:.2f}, {at:.0f}", told, f"{seconds:.1f}"


def study(options: Args) -> None:
    """Train, measure the curves that are not there yet, and print table and figure."""
    task, script = options.task, SCRIPTS[options.task]
    sized = {} if task == "mri" else {"resize": options.resize}
    common = dict(width=options.width, device=options.device, **sized)
    unknown = set(options.only) - set(NAMES)
    require(not unknown, f"--only: expected some of {'; '.join(NAMES)}; got {'; '.join(unknown)}")
    require(
        options.updates >= EVERY and options.updates % EVERY == 0,
        f"--updates {options.updates}: expected a multiple of {EVERY}",
    )
    folder = options.out / "ugodit_study"
    folder.mkdir(parents=True, exist_ok=True)
    trained_on = options.train.name if options.train else "embedded"
    size = "" if task == "mri" else f"_r{options.resize}"
    key = f"{task}_{trained_on}_M{options.M}_K{options.train_K}_w{options.width}{size}"
    train_args = replace(
        ugodit_train.TASKS[task](), data=options.train, M=options.M, K=options.train_K,
        out=folder / f"{key}.pt", results=options.out, **common,
    )  # fmt: skip
    ugodit_train.train(train_args)
    trained = tree_hash(train_args.out)[:8]
    asked = (NAMES[0], *options.only) if options.only else NAMES
    names = ["input", *(name for name in NAMES if name in asked)]
    found: dict[str, dict[str, list[tuple[int, float, float]]]] = {}
    encoder = encoders.read(train_args.out, task)
    for file in options.test or (None,):
        item, kept = "sample", "sample"
        if file is not None:
            require(file.is_file(), f"--test {file}: no such file")
            kept = f"{file_hash(file)[:8]}_{file.stem}"  # two files may have one name
            item = kept if file.stem in found else file.stem
        args = script.Args(
            data=file, K=options.updates // 2, N=2, out=options.out, encoder=train_args.out,
            method="ugodit", **common,
        )  # fmt: skip
        if file is not None:
            refuse_seen(script.load(args, file), encoder["items"], "encoder")
        problem = None
        for name in names:
            label = name.replace(", ", "_").replace(" ", "_")
            path = folder / f"{key}_{trained}_test{options.updates}_{kept}_{label}.csv"
            if not path.exists():
                problem = problem or build(script, args)[1]
                learned_by = replace(train_args, out=options.out)  # `out` as build_problem means it
                write_curve(path, curve(args, task, name, problem, learned_by, f"{item}, {name}"))
            found.setdefault(item, {})[name] = read_curve(path)
    print(table(found), end="")
    figure = folder / f"{key}_{trained}_test{options.updates}.png"
    curves = {
        name: mean_curve((item, {u: p for u, p, _ in of[name]}) for item, of in found.items())
        for name in names
    }
    level = curves.pop("input").mean[0]
    title = f"{task}, mean of {len(found)}: PSNR over the updates"
    drawn = psnr_figure({title: curves}, {}, levels={"direct reconstruction": level})
    write_atomically(figure, lambda file: drawn.savefig(file, format="png"))
    print(f"  {figure}")


def main() -> int:
    options = cli(Args, description=__doc__)
    return exit_status(lambda: study(options))


if __name__ == "__main__":
    sys.exit(main())
