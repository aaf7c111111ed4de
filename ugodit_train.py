"""UGoDIT's training: one encoder learned from M measurements, without any clean image.

M untrained networks f_m = g_m(h(.)) have the encoder h in common and a decoder g_m each; with their
inputs z_m they take turns (Liang et al., NeurIPS 2025), as in Algorithm 1 of aSeqDIP:

    (phi, psi)_k = argmin sum_m ||A_m f_m(z_m) - y_m||^2 + lambda ||f_m(z_m) - z_m||^2
    z_m <- f_m(z_m),    z_m starts as A_m^+ y_m

over the weights phi of h and psi_m of g_m, with N Adam steps for each argmin. h is kept: with it
--method ugodit of the task's script fits a fresh decoder to another measurement.

    python ugodit_train.py superresolution                                  embedded photographs
    python ugodit_train.py deblurring --data faces --M 4 --out faces.pt     a folder of pictures
    python ugodit_train.py mri --data scans --measured                      undersampled scans

    python aseqdip_superresolution.py --method aseqdip,ugodit --encoder encoder.pt

The flags that say what is measured are those of the task's script; pictures and full scans are
only there to simulate it, and nothing else of them is used but the log. --quick takes a minute on
two CPU cores.
"""

import utils.environment  # noqa: F401 (before torch, whose threads it sets)

import os
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tyro.conf import Fixed, Positional, Suppress

import aseqdip_deblurring
import aseqdip_mri
import aseqdip_superresolution
from models.group import Group, unwrapped
from operators.stacked import Stacked
from utils import encoders, image_data, mri_data
from utils.callback import Callback
from utils.cli import altered, check_method, parse_args, set_up_device
from utils.errors import exit_status, require
from utils.figures import curves
from utils.files import file_hash, files_of, write_atomically
from utils.folder import RunFolder, git_state, versions
from utils.item import Item
from utils.loop import Loop
from utils.optim import Output, Update, adam, sqnorm
from utils.problem import Problem
from utils.randomness import stream
from utils.results import grey_limits, print_report
from utils.tensors import pack, unpack


@dataclass
class Training:
    """What training has beside or instead of the flags of the task's script."""

    # Training
    data: Path | None = None  # folder of pictures or scans; without it embedded ones
    M: int = 4  # measurements to learn from: the first files of the folder, by name
    out: Path = Path("encoder.pt")  # the file that the encoder is written to
    results: Path = Path("results")  # root of the run's folder
    # Of reconstruction only
    method: Suppress[Fixed[str]] = "ugodit_train"
    set: Suppress[Fixed[tuple[str, ...]]] = ()
    stop: Suppress[Fixed[str]] = "fixed"
    hold_out: Suppress[Fixed[float]] = 0.05
    tau: Suppress[Fixed[float]] = 1.0
    result: Suppress[Fixed[str]] = "last"
    finish: Suppress[Fixed[str]] = "none"
    loss: Suppress[Fixed[str]] = "squares"
    network: Suppress[Fixed[str]] = "unet"
    z0: Suppress[Fixed[str]] = "adjoint"
    encoder: Suppress[Fixed[None]] = None
    images: Suppress[Fixed[None]] = None
    list: Suppress[Fixed[None]] = None
    preset: Literal["paper", "quick"] = "paper"  # quick: other defaults, for a minute on a CPU


@dataclass
class MRI(Training, aseqdip_mri.Args):
    # Training
    task: Positional[Literal["mri"]] = "mri"
    maps: Suppress[Fixed[None]] = None
    sigma: Suppress[Fixed[None]] = None
    reference: Suppress[Fixed[None]] = None
    K: int = 2500  # input updates; the public code makes 5000 weight updates
    lr: float = 3e-4  # Adam's learning rate of encoder and decoders (public code)


@dataclass
class Superresolution(Training, aseqdip_superresolution.Args):
    # Training
    task: Positional[Literal["superresolution"]] = "superresolution"
    sample: Suppress[Fixed[None]] = None
    depth: Suppress[Fixed[int]] = 3  # this and the next are of aSeqDIP's U-Net
    init_std: Suppress[Fixed[float]] = 0.02
    N: int = 10  # weight updates per input update (public code)
    lr: float = 0.01  # Adam's learning rate of encoder and decoders (public code)
    lambda_ae: float = 2.0  # weight lambda of the autoencoding term (public code; docs/ugodit.md)


@dataclass
class Deblurring(Training, aseqdip_deblurring.Args):
    # Training
    task: Positional[Literal["deblurring"]] = "deblurring"
    sample: Suppress[Fixed[None]] = None
    depth: Suppress[Fixed[int]] = 3  # this and the next are of aSeqDIP's U-Net
    init_std: Suppress[Fixed[float]] = 0.02
    N: int = 10  # weight updates per input update (public code, super-resolution)
    lr: float = 0.01  # Adam's learning rate of encoder and decoders (as before)
    lambda_ae: float = 2.0  # weight lambda of the autoencoding term (as before)


Args = MRI | Superresolution | Deblurring
TASKS = {"mri": MRI, "superresolution": Superresolution, "deblurring": Deblurring}
SCRIPTS = {
    "mri": aseqdip_mri,
    "superresolution": aseqdip_superresolution,
    "deblurring": aseqdip_deblurring,
}
# What --preset quick changes: these are then the defaults.
QUICK = dict(K=50, N=10, width=16, ema_decay=0.8, log_every=1)
SMALL = dict(resize=96)
QUICK_TASK: dict[str, dict[str, Any]] = {
    "mri": dict(lr=5e-4), "superresolution": SMALL, "deblurring": SMALL,
}  # fmt: skip


def learn(args: Args, y: Tensor, A: Stacked, net: Group, run: Callback) -> Tensor:
    """Run Algorithm 1 on all measurements at once; return the last images, (1, n)."""

    def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = net(z)
        data_term = sqnorm(A(x), y)
        autoencoding_term = sqnorm(x, z)
        loss = data_term + args.lambda_ae * autoencoding_term
        terms = {"loss": loss, "data_term": data_term, "autoencoding_term": autoencoding_term}
        return x, terms

    update = Update(objective, adam(net.parameters(), args.lr), graph=True)
    net_output = Output(net)
    z = run.start(A.pinv(y), net=net, update=update)  # z_0, or where a checkpoint stopped
    for k in run.outer(args.K):
        for _ in range(args.N):
            update(z)
        z = net_output(z)
        run.record(k, z, update.terms)
    return z


def make_net(args: Args, problems: list[Problem]) -> Group:
    """Build a network for each measurement, of weights of its own, with one encoder."""
    nets = []
    for number, problem in enumerate(problems):
        # Not --seed itself: a decoder at test starts from that.
        seed = stream(args.seed, f"network {number}").initial_seed()
        own = altered(args, seed=seed)
        nets.append(SCRIPTS[args.task].make_net(own, "ugodit", problem.y, problem.A))
    return Group(nets, [problem.A.in_shape for problem in problems])


def choose_items(args: Args) -> list[Item]:
    """Read the measurements to learn from, or what they are simulated of."""
    mri = args.task == "mri"
    require(args.M >= 1, f"--M {args.M}: expected a whole number of at least 1")
    if mri:
        kinds = " or ".join(mri_data.PATTERNS)
        told = f"--mask {args.mask}: expected {kinds}; each measurement draws a mask of its own"
        require(args.mask in mri_data.PATTERNS, told)
    where = args.data or "the embedded data"
    if args.data is not None:
        require(args.data.exists(), f"{args.data}: no such file or folder")
        suffixes = mri_data.SUFFIXES if mri else image_data.SUFFIXES
        found: list[Any] = files_of(args.data, suffixes, also=lambda path: False)
    else:
        found = mri_data.training_scans() if mri else [*image_data.TRAINING]
    require(len(found) >= args.M, f"--M {args.M}: {where} holds only {len(found)}")
    load = SCRIPTS[args.task].load
    if args.data is not None:
        return [load(args, file) for file in found[: args.M]]
    if mri:
        load(args, None)  # refuses what describes a file
        return found[: args.M]
    return [load(altered(args, sample=name), None) for name in found[: args.M]]


def build_problem(args: Args, item: Item, number: int, device: torch.device) -> Problem:
    """Make the problem of a measurement.

    Each scan is simulated with a mask and noise of its own, other ones than the test's with the
    same --data-seed; all pictures are blurred alike, as the test's is.
    """
    if args.task == "mri":
        args = altered(args, data_seed=args.data_seed + 1 + number)
    return SCRIPTS[args.task].build_problem(args, item, device)


def train(args: Args) -> None:
    """Train an encoder, fill the run's folder and write the encoder."""
    check_method(args)
    folder = args.out.resolve().parent
    require(
        folder.is_dir() and os.access(folder, os.W_OK) and not args.out.is_dir(),
        f"--out {args.out}: expected a file to write, in a folder that is there and not read-only",
    )
    encoder, args = args.out, altered(args, out=args.results)  # `out` as build_problem means it
    device = set_up_device(args)
    items = choose_items(args)
    facts = [item.facts for item in items]
    files = [getattr(args, name, None) for name in ("kernel", "bkse_weights")]
    hashes = (file_hash(file) for file in files if isinstance(file, Path))
    run = RunFolder(
        args, args.task, "ugodit_train", args.data.name if args.data else "embedded",
        (*(fact["sha256"] for fact in facts), *hashes),
        ignored={"bkse_sha256", *(f.name for f in fields(Training))} - {"M"},
    )  # fmt: skip
    metrics = run.finished()
    if metrics is None:
        problems = [build_problem(args, item, n, device) for n, item in enumerate(items)]
        metrics = fill(args, run, problems, facts)
    else:
        print("this run is finished already (--fresh repeats it)")
    print_report(metrics, run.path)
    trained = (run.path / "encoder.pt").read_bytes()
    write_atomically(encoder, lambda file: file.write(trained))
    print(f"  encoder, learned from {args.M} measurements: {encoder}")


def fill(
    args: Args, run: RunFolder, problems: list[Problem], facts: list[dict[str, str | None]]
) -> dict[str, Any]:
    """Train, and write the encoder and what else there is into the run's folder.

    Returns:
        What metrics.json holds.
    """
    channels = {problem.A.in_shape[0] for problem in problems}
    require(
        len(channels) == 1,
        "the pictures are of RGB and grey; an encoder is learned from one kind of them",
    )
    A = Stacked([problem.A for problem in problems])
    y = pack([problem.y for problem in problems])
    net = make_net(args, problems)
    smallest = min(min(shape[-2:]) for shape in net.shapes)
    least = 2 ** unwrapped(net.nets[0]).depth  # one pixel at the bottom cannot be reflected
    require(
        smallest > least,
        f"a picture has a side of {smallest} pixels; UGoDIT's network takes sides above {least}",
    )

    def score(x: Tensor) -> dict[str, float]:
        """Return the means over the images, {} where one has no truth."""
        images = unpack(x, net.shapes)
        figures = [problem.score(image) for problem, image in zip(problems, images, strict=True)]
        return {name: float(np.mean([f[name] for f in figures])) for name in min(figures, key=len)}

    loop = Loop(run, args, score, y, A, inner=args.N)
    last = learn(args, y, A, net, loop)
    loop.close()
    encoders.save(
        run.path / "encoder.pt", net.nets[0], args.task, facts, run.settings,
        versions=versions(), commit=git_state()["commit"],
    )  # fmt: skip
    images = unpack(last, net.shapes)
    for number, (item, problem, image) in enumerate(zip(facts, problems, images), start=1):
        array = problem.array(image)
        picture = problem.picture(array)
        name = f"reconstruction_{number}_{item['item']}"  # photo.png and photo.jpg are both photo
        run.save_array(f"{name}.npy", array)
        run.save_picture(f"{name}.png", picture, problem.limits or grey_limits({"final": picture}))
    run.save_figure("curve.png", curves(loop.rows, f"UGoDIT training, {args.task}"))
    shown = {"input": A.pinv(y), "final": last, "ema": loop.averaged()}
    scores = {f"{m}_{name}": v for name, x in shown.items() for m, v in score(x).items()}
    loop.write_log()
    record = {"images": list(shown), **scores, "items": facts, "measured": args.measured}
    return run.complete(
        {"hyperparameters": run.settings["hyperparameters"], **record, **loop.figures()}
    )


def main() -> int:
    task = sys.argv[1] if len(sys.argv) > 1 else ""
    if task in ("-h", "--help"):
        print(__doc__)
        print(f"python ugodit_train.py {{{','.join(TASKS)}}} --help lists the flags of a task")
        return 0
    if task not in TASKS:
        print(f"error: expected one of {', '.join(TASKS)} first, got {task!r}", file=sys.stderr)
        return 2
    presets = {"quick": QUICK | QUICK_TASK[task]}
    args = parse_args(TASKS[task], presets, description=__doc__)
    return exit_status(lambda: train(args))


if __name__ == "__main__":
    sys.exit(main())
