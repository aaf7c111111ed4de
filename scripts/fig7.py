"""Figure 7 of the paper: an autoencoder trained on clean images as a reconstructor (appendix B).

    psi = argmin_psi  mean over clean x of ||g_psi(x) - x||^2                           (17)
    z   = argmin_z ||A g_psi(z) - y||^2 + lambda_a ||g_psi(z) - z||^2,  x_hat = g_psi(z)   (18)

psi is fixed in (18), which starts at z = pinv(y) and sees y and A alone.

    python -m scripts.fig7 --quick                                    MRI, the embedded sample
    python -m scripts.fig7 --train fastmri_train --test fastmri_val --images 8    as in the paper
    python -m scripts.fig7 --task ct --train slices --test slice.dcm

g is the task's U-Net, problems and operators are the task script's. Trained on what --train names:
fully sampled scans (of an .h5 volume its middle slice), or CT slices; the paper has 3000 scans.
Without it, MRI trains on six photographs of scikit-image with smooth random phases, as pydicom has
no second MR slice of a useful size; CT on random patches of pydicom's head slice. Tested is what
--test names, without it the embedded MR slice, or pydicom's chest slice. So without --train this
shows the form of the figure, not the paper's experiment.

Three controls that the paper does not have stand beside it: the direct reconstruction; least
squares, which is (18) with the identity for g, from the same start by the same steps; and CG-SENSE
or SART of baselines/. Without them a PSNR cannot tell what the autoencoder adds.

What the paper leaves open, and what is taken here: Adam at 1e-3 for (17), eight patches a step,
turned and mirrored, for MRI with a random constant phase; Adam at 0.01 for 1000 steps in (18); the
values of lambda_a. BatchNorm's statistics are gathered over the first half of (17) and fixed in the
second half and in (18). With an image's own statistics, which the other scripts take, g(c z) = g(z)
for every c > 0, and an autoencoder is out of its reach. The PSNR is that of the last iterate; the
best of every tenth step stands beside it as `oracle`.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

import aseqdip_ct
import aseqdip_mri
from baselines import find
from operators.base import Operator
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
from utils import ct_data, mri_data
from utils.callback import Callback
from utils.cli import RunArgs, check_method, files_of, set_up_device
from utils.errors import InputError, exit_status, require
from utils.figures import DPI
from utils.files import (
    DAMAGED,
    content_hash,
    file_hash,
    load_torch,
    reason,
    write_atomically,
)  # fmt: skip
from utils.folder import RunFolder
from utils.loop import Loop
from utils.optim import Update, adam, sqnorm
from utils.problem import Problem
from utils.randomness import stream
from utils.results import print_report
from utils.tables import Summary, mean_over_images

PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket")
RECONSTRUCTIONS = {
    "trained": "g(z)", "identity": "least squares", "cg_sense": "CG-SENSE", "sart": "SART",
}  # fmt: skip
DEFAULTS = {
    "mri": "six photographs of scikit-image with random phases",
    "ct": "pydicom's head slice",
}
# Fields of a task's Args that decide nothing here.
UNUSED = {"lambda_ae", "stop", "hold_out", "tau", "measured", "N", "ema_decay", "sigma"}
UNUSED_BY_TRAINING = UNUSED | {
    "accel", "mask", "center_fraction", "crop", "data_seed", "views", "photons", "pixel_mm",
    "window", "z0", "fbp_filter", "sample", "resize", "angles", "size",
}  # fmt: skip


@dataclass
class Args:
    task: Literal["mri", "ct"] = "mri"  # what is reconstructed
    train: Path | None = None  # clean scans or slices: a file or a folder
    test: Annotated[Path | None, tyro.conf.arg(aliases=["--data"])] = None  # a file or a folder
    images: int | None = None  # take only the first of the --test folder
    accel: float = aseqdip_mri.Args.accel  # MRI only
    views: int = aseqdip_ct.Args.views  # CT only
    side: int | None = None  # MRI: crop scans; CT: resample test slices
    lambdas: tuple[float, ...] = (0.0, 0.01, 0.1, 1.0, 10.0)  # lambda_a
    train_steps: int = 20_000  # of (17)
    train_lr: float = 1e-3  # Adam's in (17)
    patch: int = 128  # side of the patches of (17)
    batch: int = 8  # patches a step of (17)
    steps: int = 1000  # of (18)
    lr: float = 0.01  # Adam's in (18)
    width: int = aseqdip_mri.Args.width  # channels of the U-Net
    seed: int = 0  # of the weights and the patches
    device: str = "auto"  # auto, cpu, cuda or cuda:INDEX
    deterministic: bool = False  # the same bits each time on CUDA too, slower
    out: Path = Path("results")  # root of all results
    quick: bool = False  # other defaults, for two minutes on two CPU cores


# What --quick changes: these are then the defaults.
QUICK = {
    "width": 16, "patch": 64, "batch": 4, "train_steps": 500, "steps": 150,
    "lambdas": (0.0, 0.1, 1.0), "side": 128,
}  # fmt: skip


# Clean images -----------------------------------------------------------------------------------


def photographs() -> list[Tensor]:
    """Return scikit-image's photographs as complex images with smooth random phases.

    Returns:
        (1, 1, H, W) complex64 each, of maximum magnitude 1.
    """
    rng = stream(0, "phases")
    images = []
    for name in PHOTOGRAPHS:
        pixels = getattr(skimage.data, name)().astype(np.float32)
        grey = torch.from_numpy(pixels if pixels.ndim == 2 else pixels.mean(axis=2))[None, None]
        coarse = torch.randn(1, 1, 4, 4, generator=rng)  # radians
        phase = F.interpolate(coarse, grey.shape[-2:], mode="bicubic", align_corners=True)
        images.append(torch.polar(grey / grey.max(), phase))
    return images


def clean_scan(path: Path | None, args: aseqdip_mri.Args) -> Tensor:
    """Return the coil-combined image of a fully sampled scan, (1, 1, H, W), of maximum 1."""
    args = replace(args, accel=1, center_fraction=None)
    scan = aseqdip_mri.load(args, path)
    x = aseqdip_mri.build_problem(args, scan, torch.device("cpu")).x_true
    return x / x.abs().max()


def clean_slice(path: Path | None, args: aseqdip_ct.Args) -> Tensor:
    """Return a CT slice, pydicom's head without a file, (1, 1, H, W) in [0, 1]."""
    scan = aseqdip_ct.load(replace(args, sample="skull", resize=None), path)
    units = ct_data.make_units(scan, args.hu_range)
    values = torch.from_numpy(scan.values)[None, None]
    return ((values - units.low) / (units.high - units.low)).clamp(0, 1).float()


def patch(image: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """Draw a square of an image, turned and mirrored, for a complex one with a constant phase.

    Args:
        image: (1, 1, H, W).
        side: of the square, at most the image's shorter one.
        rng: CPU generator.
    """
    for axis in (-2, -1):
        start = int(torch.randint(image.shape[axis] - side + 1, (), generator=rng))
        image = image.narrow(axis, start, side)
    turns, mirrored = torch.randint(4, (2,), generator=rng).tolist()
    image = torch.rot90(image, turns, (-2, -1))
    image = image.flip(-1) if mirrored % 2 else image
    if image.is_complex():
        image = image * torch.polar(torch.ones(()), 2 * math.pi * torch.rand((), generator=rng))
    return image.contiguous()


# Tasks ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What differs between MRI and CT.

    Args:
        script: the task's script.
        suffixes, also: its files.
        clean: makes a clean image of a training file.
        default: makes the training images without --train.
        classical: a method of baselines/ to compare with.
    """

    script: Any
    suffixes: tuple[str, ...]
    also: Callable[[Path], bool]
    clean: Callable[[Path | None, Any], Tensor]
    default: Callable[[Any], list[Tensor]]
    classical: str


TASKS = {
    "mri": Task(
        aseqdip_mri, mri_data.SUFFIXES, lambda path: False, clean_scan, lambda args: photographs(),
        "cg_sense",
    ),
    "ct": Task(
        aseqdip_ct, ct_data.SUFFIXES, ct_data.is_dicom, clean_slice,
        lambda args: [clean_slice(None, args)], "sart",
    ),
}  # fmt: skip


def task_args(options: Args, device: torch.device, steps: int, lr: float) -> Any:
    """Return the task script's Args for a run of so many steps."""
    if options.task == "mri":
        own = {"crop": options.side, "accel": options.accel}
    else:
        own = {"resize": options.side, "views": options.views, "sample": "small"}
    return TASKS[options.task].script.Args(
        K=steps, N=1, lr=lr, width=options.width, seed=options.seed, device=str(device),
        out=options.out, preset="quick" if options.quick else "paper", **own,
    )  # fmt: skip


# (17) and (18) ----------------------------------------------------------------------------------


def keep_statistics(net: nn.Module) -> nn.Module:
    """Let a network's BatchNorm keep running statistics, for eval() to use."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = True
            weight = module.weight
            module.register_buffer("running_mean", torch.zeros_like(weight, requires_grad=False))
            module.register_buffer("running_var", torch.ones_like(weight, requires_grad=False))
            module.register_buffer("num_batches_tracked", torch.tensor(0, device=weight.device))
    return net


def train(
    net: nn.Module, images: list[Tensor], side: int, batch: int, args: Any, run: Callback
) -> None:
    """Train a network to return clean images, eq. (17), on random patches of random images.

    Args:
        net: network from images to images, on its device.
        images: (1, 1, H, W) each, clean, on the CPU.
        side: of the patches.
        batch: patches a step.
        args: K steps of Adam at lr; seed of the patches.
        run: is told each step and its output.
    """
    device = next(net.parameters()).device
    rng = stream(args.seed, "patches")

    def objective(x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        output = net(x)
        loss = sqnorm(output, x) / batch
        return output, {"loss": loss, "autoencoding_term": loss}

    update = Update(objective, adam(net.parameters(), args.lr))
    run.start(None, net=net, update=update, patches=rng)
    for step in run.outer(args.K):
        net.train(step <= args.K // 2)  # then the statistics are fixed
        chosen = torch.randint(len(images), (batch,), generator=rng).tolist()
        x = torch.cat([patch(images[i], side, rng) for i in chosen]).to(device)
        run.record(step, update(x), update.terms)
    net.eval()


def autoencoder_reconstruction(
    y: Tensor,
    A: Operator,
    net: nn.Module,
    *,
    z0: Tensor | None = None,
    steps: int = 1000,
    lr: float = 0.01,
    lambda_a: float = 1.0,
    callback: Callback | None = None,
) -> Tensor:
    """Reconstruct over the input of a fixed autoencoder.

        min_z ||A g(z) - y||^2 + lambda_a ||g(z) - z||^2                                (18)

    Args:
        y: measurements, (1, *A.out_shape).
        A: forward operator.
        net: g, from (1, *A.in_shape) to the same; its weights are not changed.
        z0: where z starts; None takes A.pinv(y).
        steps: steps of Adam on z.
        lr: its learning rate.
        lambda_a: weight of the autoencoding term.
        callback: is told each step and its image, g(z) before that step.

    Returns:
        x_hat = g(z), (1, *A.in_shape), of the last step.

    Reference:
        aSeqDIP (Alkhouri et al., NeurIPS 2024), appendix B, eq. (18). Differs from the paper:
        nothing; the paper does not name the optimiser, its steps, nor the start.
    """
    callback = Callback() if callback is None else callback
    net.requires_grad_(False)
    z = (A.pinv(y) if z0 is None else z0).detach().clone().requires_grad_()

    def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = net(z)
        data_term = sqnorm(A(x), y)
        autoencoding_term = sqnorm(x, z)
        loss = data_term + lambda_a * autoencoding_term
        terms = {"loss": loss, "data_term": data_term, "autoencoding_term": autoencoding_term}
        return x, terms

    update = Update(objective, adam([z], lr))
    x = callback.start(None, z=z, update=update)
    for step in callback.outer(steps):
        x = update(z)
        callback.record(step, x, update.terms)
    return x


# The experiment ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learned:
    """g after (17).

    Attributes:
        weights, digest: of g, on the CPU, and their hash.
        files: SHA-256 of each file that it was trained on.
        failed: names of the files that could not be read.
    """

    weights: dict[str, Tensor]
    digest: str
    files: set[str]
    failed: list[str]


def trained_weights(options: Args, device: torch.device) -> Learned:
    """Train g, unless it is there.

    Raises:
        InputError: no training file can be used, or the weights that were kept are damaged.
    """
    task = TASKS[options.task]
    args = task_args(options, device, options.train_steps, options.train_lr)
    used: set[str] = set()
    failed: list[str] = []
    if options.train is None:
        images, name = task.default(args), "embedded"
    else:
        files = files_of(options.train, task.suffixes, task.also)
        images, name = [], options.train.stem or "data"

        def load(file: Path | None) -> list[dict[str, Any]]:
            images.append(task.clean(file, args))
            used.add(file_hash(file))
            return []

        _, failed = each(list(files), load)  # a damaged file is told and left out
    shortest = min(min(image.shape[-2:]) for image in images)
    require(
        options.patch <= shortest,
        f"--patch {options.patch}: the smallest training image has a side of {shortest} pixels",
    )
    folder = RunFolder(
        args, "fig7", f"training_{options.task}", name, tuple(x.numpy() for x in images),
        UNUSED_BY_TRAINING, {"patch": options.patch, "batch": options.batch},
    )  # fmt: skip
    path = folder.path / "weights.pt"
    if folder.finished() is None:
        net = trainable(task, args, images[0].to(device))
        loop = Loop(folder, args, lambda x: {}, torch.zeros((), device=device), nn.Identity())
        print(f"training g on {len(images)} image(s)")
        train(net, images, options.patch, options.batch, args, loop)
        loop.close()
        changes = [relative_change(net, x.to(device)) for x in images]
        weights = {name: weight.cpu() for name, weight in net.state_dict().items()}
        write_atomically(path, lambda file: torch.save(weights, file))
        facts = {"n_images": len(images), "change_of_clean": float(np.mean(changes))}
        folder.complete(facts | loop.figures())
    try:
        weights = load_torch(path)
    except DAMAGED as error:
        raise InputError(f"{path}: damaged ({reason(error)}); remove {folder.path}") from error
    digest = content_hash(*(weight.numpy() for weight in weights.values()))[:16]
    return Learned(weights, digest, used, failed)


def trainable(task: Task, args: Any, image: Tensor) -> nn.Module:
    """Build the task's U-Net for an image, untrained, for (17)."""
    return keep_statistics(task.script.make_net(args, "unet", image, None))


def relative_change(net: nn.Module, v: Tensor) -> float:
    """Compute ||g(v) - v|| / ||v||: 0 where g is the identity."""
    with torch.no_grad():
        return ((net(v) - v).norm() / v.norm()).item()


def measure_file(
    path: Path | None, learned: Learned, options: Args, device: torch.device
) -> list[dict[str, Any]]:
    """Return the figures of one test file: of each network and each lambda_a.

    Args:
        path: test file, None for the embedded one.
        learned: g trained.
        options, device: of the command line.

    Raises:
        InputError: g was trained on the file.
    """
    require(
        path is None or file_hash(path) not in learned.files,
        f"{path}: it is among the training images, so it would be no test; take another",
    )
    task = TASKS[options.task]
    args = task_args(options, device, options.steps, options.lr)
    item, problem = task.script.load(args, path), None
    found = []
    # Without g the autoencoding term is 0 whatever lambda_a is.
    kinds = [*(("trained", lambda_a) for lambda_a in options.lambdas), ("identity", 0.0)]
    for kind, lambda_a in [*kinds, (task.classical, 0.0)]:
        weights = {"weights": learned.digest} if kind == "trained" else {}
        folder = RunFolder(
            args, "fig7", f"{options.task}_{kind}", item.item, item.content, UNUSED | item.named,
            {"lambda_a": lambda_a} | weights,
        )  # fmt: skip
        figures = folder.finished()
        if figures is None:
            problem = problem or task.script.build_problem(args, item, device)
            print(f"{item.item}: {RECONSTRUCTIONS[kind]}, lambda_a {lambda_a:g}")
            figures = measure(task, args, problem, folder, learned, kind, lambda_a)
        print_report(figures, folder.path)
        found.append(figures)
    return found


def measure(
    task: Task,
    args: Any,
    problem: Problem,
    folder: RunFolder,
    learned: Learned,
    kind: str,
    lambda_a: float,
) -> dict[str, Any]:
    """Reconstruct by one of RECONSTRUCTIONS, and return the figures of its image and its g."""
    y, A = problem.y, problem.A
    direct = A.pinv(y)
    net: nn.Module = nn.Identity()
    if kind == "trained":
        net = trainable(task, args, direct).eval()
        net.load_state_dict(learned.weights)
    loop = Loop(folder, args, problem.score, y, A)
    if kind == task.classical:
        x_hat = find(kind)(y, A, None, loop)
    else:
        x_hat = autoencoder_reconstruction(
            y, A, net, steps=args.K, lr=args.lr, lambda_a=lambda_a, callback=loop
        )
    loop.close()
    noise = torch.randn(direct.shape, generator=stream(args.seed, "probe"), dtype=direct.dtype)
    probes = {"truth": problem.x_true, "input": direct, "noise": noise.to(y.device)}
    return folder.complete(
        {
            "images": ["final"],
            **{f"{name}_final": value for name, value in problem.score(x_hat).items()},
            "psnr_input": problem.score(direct)["psnr"],
            "kind": kind,
            "lambda_a": lambda_a,
            **{f"change_of_{name}": relative_change(net, v) for name, v in probes.items()},
            **loop.figures(),
        }
    )


def table(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each reconstruction and lambda_a: means over the test files."""

    def row(label: str, lambda_a: float | None, mine: list[dict], image: str) -> dict[str, Any]:
        def mean(name: str) -> Summary | None:
            return mean_over_images((f["item"], f.get(name)) for f in mine)

        psnr, ssim = mean(f"psnr_{image}"), mean(f"ssim_{image}")
        oracle, step = (
            (mean("psnr_oracle"), mean("step_oracle")) if image == "final" else (None,) * 2
        )
        return {
            "reconstruction": label,
            "lambda_a": lambda_a,
            "PSNR": psnr.mean,
            "std": psnr.std,
            "SSIM": ssim and ssim.mean,
            "oracle": oracle and oracle.mean,
            "oracle at step": step and step.mean,
            "files": psnr.n,
        }

    rows = [row("direct", None, [f for f in found if f["kind"] == "identity"], "input")]
    for kind, lambda_a in dict.fromkeys((f["kind"], f["lambda_a"]) for f in found):
        mine = [f for f in found if (f["kind"], f["lambda_a"]) == (kind, lambda_a)]
        shown = lambda_a if kind == "trained" else None
        rows.append(row(RECONSTRUCTIONS[kind], shown, mine, "final"))
    return rows


def identity_table(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how far g is from the identity, by what it is given: means over the test files."""
    mine = [f for f in found if f["kind"] == "trained"]
    probes = {"truth": "the truth", "input": "the direct reconstruction", "noise": "white noise"}
    return [
        {
            "v": label,
            "norm of g(v) - v over that of v": mean_over_images(
                (f["item"], f[f"change_of_{name}"]) for f in mine
            ).mean,
        }
        for name, label in probes.items()
    ]


def claims(rows: list[dict[str, Any]], trained_on: str) -> list[str]:
    """Return what appendix B says beside what was found.

    Args:
        rows: the table.
        trained_on: what g was trained on.
    """

    trained = max((r for r in rows if r["lambda_a"] is not None), key=lambda r: r["PSNR"])
    others = [row for row in rows if row["lambda_a"] is None]
    return [
        f"g was trained on {trained_on}; the paper's on 3000 fully sampled fastMRI scans.",
        "'A trained autoencoder effectively serves as a reconstructor': last iterate "
        f"{trained['PSNR']:.2f} dB at the best lambda_a, {trained['lambda_a']:g} (chosen by the "
        "truth); "
        + ", ".join(
            f"{trained['PSNR'] - row['PSNR']:+.2f} dB against {row['reconstruction']}"
            for row in others
        )
        + ".",
    ]


def draw_figure(rows: list[dict[str, Any]], title: str) -> Figure:
    """Draw the PSNR over lambda_a, beside that of the controls."""
    figure = Figure(figsize=(6.5, 4.5), dpi=DPI)
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    mine = [row for row in rows if row["reconstruction"] == RECONSTRUCTIONS["trained"]]
    x = [row["lambda_a"] for row in mine]
    axis.errorbar(
        x, [row["PSNR"] for row in mine], [row["std"] or 0 for row in mine], marker="o", capsize=3,
        color="tab:blue", label="g(z), last iterate",
    )  # fmt: skip
    axis.plot(x, [row["oracle"] for row in mine], ":", color="tab:blue", lw=1, label="... oracle")
    others = [row for row in rows if row["lambda_a"] is None]
    for row, style in zip(others, (":", "--", "-.")):
        axis.axhline(row["PSNR"], color="gray", ls=style, lw=1, label=row["reconstruction"])
    least = min((value for value in x if value > 0), default=1.0)
    axis.set_xscale("symlog", linthresh=least)
    axis.set_xlim(left=min(x) - least / 3)  # no decades below 0
    axis.set(xlabel="lambda_a", ylabel="PSNR (dB)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(pad=0.6)
    return figure


def draw(options: Args) -> None:
    """Train g and reconstruct, unless it is done already, and make figure and tables."""
    require(
        options.images is None or options.images >= 1,
        f"--images {options.images}: expected at least 1",
    )
    require(
        len(options.lambdas) > 0 and all(0 <= v < math.inf for v in options.lambdas),
        f"--lambdas {' '.join(map(str, options.lambdas))}: expected one or more numbers of at least 0",
    )
    require(options.batch >= 1, f"--batch {options.batch}: expected at least 1")
    lowest = 2 ** (aseqdip_mri.Args.depth + 1)
    require(options.patch >= lowest, f"--patch {options.patch}: expected at least {lowest}")
    options.lambdas = tuple(sorted(set(options.lambdas)))
    require(
        options.images is None or options.test is not None,
        "--images: of use with --test FOLDER only",
    )
    device = set_up_device(RunArgs(device=options.device, deterministic=options.deterministic))
    check_method(task_args(options, device, options.train_steps, options.train_lr))
    check_method(task_args(options, device, options.steps, options.lr))
    task = TASKS[options.task]
    files: list[Path | None] = [None]
    if options.test is not None:
        require(options.test.exists(), f"--test {options.test}: no such file or folder")
        files = list(files_of(options.test, task.suffixes, task.also)[: options.images])
    learned = trained_weights(options, device)
    found, failed = each(files, lambda file: measure_file(file, learned, options, device))
    folder = options.out / "figures" / f"fig7_{options.task}"
    save_settings(folder, options)
    rows = table(found)
    save_table(folder, "table", rows)
    save_table(folder, "identity", identity_table(found))
    trained_on = DEFAULTS[options.task]
    if options.train is not None:
        trained_on = f"{len(learned.files)} image(s) of {options.train}"
    about = circumstances(found, options.test, options.quick, 8)
    save_notes(folder, [about, *claims(rows, trained_on)])
    n = rows[0]["files"]
    title = f"{options.task.upper()}, {n} test image(s), autoencoder's input, {options.steps} steps"
    save_figure(folder, "fig7", draw_figure(rows, title))
    write_report(options.out)
    failed = [*learned.failed, *failed]
    require(not failed, f"{', '.join(failed)}: failed, as said above; the others are complete")


def main() -> int:
    options = parse_args(Args, QUICK, description=__doc__)
    return exit_status(lambda: draw(options))


if __name__ == "__main__":
    sys.exit(main())
