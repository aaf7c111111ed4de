"""Train a small diffusion network on your own images: a prior for --prior of the task's script.

The network F (ADM's U-Net, few channels) learns to find the noise in crops of the images, by

    min E || eps_hat(x_0 + sigma eps, sigma) - eps ||^2 (sigma^2 + s^2) / s^2

with sigma drawn around the images' root mean square s, flips and turns of the crops, and for MRI
any phase. What is kept is the average of the weights over the last updates.

    python prior_train.py mri --data scans --out mri.pt           fully sampled multi-coil scans
    python prior_train.py ct --data slices --minutes 120          DICOM, or .npy in HU
    python prior_train.py images --data photographs --size 96     pictures of 8 or 16 bit
    python prior_train.py images                                  embedded photographs
    python prior_train.py ct --levels ve --out ct_ve.pt           for score_mri and mcg

The last file of the folder, by name, is held out: OUT.png, such as prior.pt.png, compares the
prior with non-local means on it. Of a volume .h5 the middle slice is read. To continue after a
stop, repeat the command. docs/priors.md says what a short training reaches.
"""

import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm
from tyro.conf import Positional

from baselines.nlm import nlm
from models.adm import ADM
from models.diffusion import KIND, SCHEDULES, Preconditioned, Prior
from operators.pixels import Identity
from utils import ct_data, image_data, mri_data
from utils.cli import set_up_device
from utils.errors import InputError, Interrupted, RunFailed, exit_status, require
from utils.figures import DPI
from utils.files import (
    DAMAGED,
    content_hash,
    files_of,
    load_torch,
    lock,
    reason,
    write_atomically,
)
from utils.flags import cli
from utils.folder import git_state, versions
from utils.loop import CHECKPOINT_SECONDS, duration, handled_signals
from utils.optim import adam
from utils.precision import Precision, place
from utils.randomness import stream


# fmt: off
@dataclass
class Args:
    task: Positional[Literal["mri", "ct", "images"]]
    data: Path | None = None  # folder of scans, slices or pictures; without it embedded ones
    out: Path = Path("prior.pt")  # the file that the prior is written to
    levels: Literal["vp", "ve"] = "vp"  # of the noise: variance-preserving, or variance-exploding for Score-MRI and MCG
    minutes: float = 30.0  # of training, in all
    size: int = 64  # side in pixels of the crops that are learned from, of smaller images less; best that of the images to reconstruct
    batch: int = 4  # crops in one update
    width: int = 32  # channels of the network at full resolution, a multiple of 32
    lr: float = 1e-3  # Adam's learning rate; it falls to 0 along half a cosine
    ema_decay: float = 0.999  # memory of the average over weights
    seed: int = 0  # of weights, crops and noise
    device: str = "auto"  # auto, cpu, cuda or cuda:INDEX
    precision: Precision = "auto"  # of the network: fp32; tf32 (on CUDA), bf16; auto: bf16 where it is quicker here
    deterministic: bool = False  # the same bits each time on CUDA too, slower
    fresh: bool = False  # train again, whatever there is already
# fmt: on

MULTS = (1, 1, 2, 4)  # channels of the levels in units of --width
SPREAD = 1.5  # standard deviation of log sigma around log s
MULTIPLE = 2 ** (len(MULTS) - 1)
MIN_SIZE = 32  # pixels; three levels leave 4
UNIFORM = 8  # one of so many levels is drawn from all of them alike
WARM_UP = 100  # updates until the learning rate is reached
LOG_SECONDS = 10.0  # between two looks at the loss
RANGES = {"mri": (0.0, 1.0), "ct": (0.0, 1.0), "images": (-1.0, 1.0)}
CHANNELS = {"mri": 2, "ct": 1, "images": 3}
TEST_LEVELS = (0.02, 0.05, 0.1, 0.2, 0.4)  # noise on the image held out, of the range's width
TEST_SIDE = 256  # pixels of it
DRAWN, DRAW_STEPS = 4, 50
CACHE = Path("results/cache")  # of sensitivity maps
# scikit-image's photographs that are no samples of the scripts; the last is held out.
PHOTOGRAPHS = (
    "immunohistochemistry", "hubble_deep_field", "retina", "camera", "coins", "brick", "grass",
    "gravel", "moon", "clock", "rocket",
)  # fmt: skip


# Images -------------------------------------------------------------------------------------


def read_scan(path: Path | None) -> tuple[mri_data.Scan, Tensor]:
    """Return a scan and its coil-combined image, (2, H, W), of maximum modulus 1."""
    scan = mri_data.training_scans()[0] if path is None else mri_data.load_scan(path, None)
    kspace, acquired = mri_data.crop_scan(scan, None, measured=False)
    A = mri_data.make_operator(scan, kspace, acquired, CACHE)
    x = A.pinv(torch.from_numpy(kspace)[None])[0, 0]
    return scan, torch.view_as_real(x / x.abs().max()).movedim(-1, 0)


def read_slice(path: Path | str) -> tuple[ct_data.Slice, Tensor]:
    """Return a CT slice, and it as (1, H, W), from 0 to 1; a name is that of an embedded one."""
    path, sample = (path, "") if isinstance(path, Path) else (None, path)
    scan = ct_data.load_slice(path, sample, None)
    units = ct_data.make_units(scan, None)
    return scan, torch.from_numpy(units.normalised(scan.values))[None].float()


def read_picture(path: Path | str) -> tuple[image_data.Picture, Tensor]:
    """Return a picture, and it as (3, H, W), from -1 to 1; a name is that of a photograph."""
    path, sample = (path, "") if isinstance(path, Path) else (None, path)
    item = image_data.load_picture(path, sample, None)
    return item, 2 * torch.from_numpy(item.pixels).expand(3, -1, -1) - 1


def read(args: Args) -> tuple[list[Tensor], Tensor, list[dict[str, Any]]]:
    """Read what is learned from.

    Returns:
        The images (C, H, W) float32; the one that is held out; the facts (utils.item) of each
        that is learned from.

    Raises:
        InputError: there are too few, or one is too small.
    """
    reader, suffixes, embedded = {
        "mri": (read_scan, mri_data.SUFFIXES, [None]),
        "ct": (read_slice, ct_data.SUFFIXES, [*ct_data.SAMPLES]),
        "images": (read_picture, image_data.SUFFIXES, [*PHOTOGRAPHS]),
    }[args.task]
    found: list[Any] = embedded
    if args.data is not None:
        require(args.data.is_dir(), f"--data {args.data}: expected a folder of files to learn from")
        dicom = ct_data.is_dicom if args.task == "ct" else lambda path: False
        found = [f for f in files_of(args.data, suffixes, dicom) if not f.name.startswith(".")]
        require(len(found) >= 2, f"--data {args.data}: expected two files or more, got 1")
    items, images = zip(*(reader(file) for file in found))
    facts = [item.facts for item in items]
    if len(images) == 1:  # the embedded scan: its lowest third is held out
        rows = 2 * images[0].shape[1] // 3
        images = (images[0][:, :rows], images[0][:, rows:])
        facts *= 2
    smallest = min(min(image.shape[1:]) for image in images)
    require(
        smallest >= MIN_SIZE,
        f"the smallest image has a side of {smallest} pixels; at least {MIN_SIZE} are needed",
    )
    print(f"{len(images) - 1} images to learn from, held out: {facts[-1]['source']}")
    return [*images[:-1]], images[-1], facts[:-1]


def crops(images: list[Tensor], args: Args, rng: torch.Generator) -> Tensor:
    """Draw a batch of crops, flipped and turned at random, (B, C, size, size).

    Complex ones are multiplied by a random phase, and half of them conjugated.
    """
    batch = []
    for _ in range(args.batch):
        pick, row, column, turn, flip, phase, conjugate = torch.rand(7, generator=rng).tolist()
        image = images[int(pick * len(images))]
        top, left = (int(u * (n - args.size + 1)) for u, n in zip((row, column), image.shape[1:]))
        crop = image[:, top : top + args.size, left : left + args.size]
        crop = crop.rot90(int(4 * turn), (1, 2))
        crop = crop.flip(2) if flip < 0.5 else crop
        if args.task == "mri":
            x = torch.view_as_complex(crop.movedim(0, -1).contiguous())
            x = (x.conj() if conjugate < 0.5 else x) * np.exp(2j * np.pi * phase)
            crop = torch.view_as_real(x.resolve_conj()).movedim(-1, 0)
        batch.append(crop)
    return torch.stack(batch)


# Training -----------------------------------------------------------------------------------


class Training:
    """The network, its average, and where training stands.

    Args:
        args: the script's.
        images: to learn from, (C, H, W) each.
        device: where the network is.
    """

    def __init__(self, args: Args, images: list[Tensor], device: torch.device) -> None:
        self.args, self.images, self.device = args, images, device
        self.sigma, self.scale = SCHEDULES[args.levels]()
        squares = sum(image.square().sum().item() for image in images)
        self.data_std = math.sqrt(squares / sum(image.numel() for image in images))
        self.adm, self.net = self._build()
        self.optimizer = adam(self.net.parameters(), args.lr)
        self.ema = [p.detach().clone() for p in self.net.parameters()]
        self.rng = stream(args.seed, "crops and noise")
        self.step, self.seconds = 0, 0.0
        self.losses: list[tuple[int, float, float]] = []  # step, seconds, mean loss since

    def _build(self) -> tuple[ADM, nn.Module]:
        """Return an untrained U-Net, and what predicts the noise with it."""
        channels = CHANNELS[self.args.task]
        adm = ADM(channels, channels, self.args.width, MULTS)
        adm.initialise(stream(self.args.seed, "network"))
        net = Preconditioned(adm, self.sigma, self.scale, self.data_std)
        return adm, place(net, self.device, self.args.precision)

    def update(self, share: float) -> Tensor:
        """Make one update of Adam; return its loss.

        Args:
            share: of the training that has passed.
        """
        args = self.args
        x0 = crops(self.images, args, self.rng)
        levels = self.data_std * torch.exp(SPREAD * torch.randn(args.batch, generator=self.rng))
        t = torch.searchsorted(self.sigma.float(), levels).clamp(max=len(self.sigma) - 1)
        anywhere = torch.randint(len(self.sigma), (args.batch,), generator=self.rng)
        pick = torch.rand(args.batch, generator=self.rng) < 1 / UNIFORM
        t = torch.where(pick, anywhere, t)
        eps = torch.randn(x0.shape, generator=self.rng)
        sigma, scale = (v[t].float()[:, None, None, None] for v in (self.sigma, self.scale))
        x_t = (scale * (x0 + sigma * eps)).to(self.device)
        t, eps = t.to(self.device), eps.to(self.device)
        rate = min((self.step + 1) / WARM_UP, 1) * 0.5 * (1 + math.cos(math.pi * share))
        for group in self.optimizer.param_groups:
            group["lr"] = args.lr * rate
        loss = ((self.net(x_t, t) - eps) * self.net.spread(t) / self.data_std).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step += 1
        decay = min(args.ema_decay, self.step / (self.step + 10))
        torch._foreach_lerp_(self.ema, [p.detach() for p in self.net.parameters()], 1 - decay)
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {
            "adm": self.adm.state_dict(), "optimizer": self.optimizer.state_dict(), "ema": self.ema,
            "rng": self.rng.get_state(), "step": self.step, "seconds": self.seconds,
            "losses": self.losses,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint."""
        self.adm.load_state_dict(state["adm"])
        self.optimizer.load_state_dict(state["optimizer"])
        for mean, saved in zip(self.ema, state["ema"], strict=True):
            mean.copy_(saved)
        self.rng.set_state(state["rng"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.losses = state["losses"]

    def averaged(self) -> tuple[ADM, nn.Module]:
        """Return the U-Net of the averaged weights, and what predicts the noise with it."""
        adm, net = self._build()
        with torch.no_grad():
            for parameter, mean in zip(net.parameters(), self.ema, strict=True):
                parameter.copy_(mean)
        return adm, net

    def run(self, save: Callable[[], None]) -> None:
        """Train until the time is over, with a line of progress; save from time to time.

        Raises:
            RunFailed: the loss became NaN or Inf.
            Interrupted: Ctrl-C or SIGTERM came; the state is saved.
        """
        whole, stopped_by = 60 * self.args.minutes, []
        begun, before = time.monotonic(), self.seconds
        saved, logged = begun, begun
        total, count = torch.zeros((), device=self.device), 0
        with (
            tqdm(total=math.ceil(whole), initial=math.floor(before), unit="s", dynamic_ncols=True,
                 bar_format="{percentage:3.0f}%|{bar}| {desc}", mininterval=0.5) as bar,
            handled_signals(stopped_by.append, (signal.SIGINT, signal.SIGTERM)),
        ):  # fmt: skip
            while self.seconds < whole:
                total += self.update(self.seconds / whole)
                count += 1
                now = time.monotonic()
                self.seconds = before + now - begun
                done = self.seconds >= whole
                if now - logged > LOG_SECONDS or done or stopped_by:
                    loss = total.item() / count
                    if not math.isfinite(loss):
                        raise RunFailed(
                            f"the loss became NaN or Inf before update {self.step}; lower --lr"
                        )
                    self.losses.append((self.step, self.seconds, loss))
                    total, count, logged = torch.zeros_like(total), 0, now
                    left = duration(max(whole - self.seconds, 0))
                    bar.set_description_str(
                        f"update {self.step}, loss {loss:.4f}, {left} left", refresh=False
                    )
                    bar.n = min(math.floor(self.seconds), bar.total)
                    bar.refresh()
                if now - saved > CHECKPOINT_SECONDS or stopped_by:
                    save()
                    saved = now
                if stopped_by and not done:
                    again = "repeat the command" + (" without --fresh" if self.args.fresh else "")
                    raise Interrupted(f"stopped after update {self.step}; {again} to continue")


# What it learned ----------------------------------------------------------------------------


def psnr(x: Tensor, x_true: Tensor, task: str) -> float:
    """Return the PSNR in dB; the peak is the range's width, and complex errors count whole."""
    low, high = RANGES[task]
    error = (x - x_true).square().sum() / (x_true.numel() / (2 if task == "mri" else 1))
    return 10 * math.log10((high - low) ** 2 / error.item())


@torch.no_grad()
def denoise(
    prior: Prior, image: Tensor, args: Args, device: torch.device
) -> tuple[list[dict[str, float]], list[list[Tensor]]]:
    """Denoise the image that is held out at each of TEST_LEVELS.

    Args:
        prior: what was learned.
        image: (C, H, W).

    Returns:
        `sigma`, and the PSNR of `noisy`, `nlm` and `prior`; and the images (C, h, w) of these.
    """
    h, w = (min(n, TEST_SIDE) // prior.multiple * prior.multiple for n in image.shape[1:])
    top, left = ((n - m) // 2 for n, m in zip(image.shape[1:], (h, w)))
    x_true = image[None, :, top : top + h, left : left + w]
    rng, rows, shown = stream(args.seed, "held out"), [], []
    for level in TEST_LEVELS:
        target = level * (prior.high - prior.low)
        t = int((prior.sigma - target).abs().argmin())
        sigma = prior.sigma[t].item()
        noisy = x_true + sigma * torch.randn(x_true.shape, generator=rng)
        found = {
            "noisy": noisy,
            "nlm": nlm(noisy, Identity(tuple(noisy.shape[1:])), sigma=sigma),
            "prior": prior.x0(noisy.to(device), t).cpu(),
        }
        scores = {name: psnr(x, x_true, args.task) for name, x in found.items()}
        rows.append({"sigma": sigma, **scores})
        shown.append([x[0] for x in (x_true, *found.values())])
    return rows, shown


@torch.no_grad()
def draw(prior: Prior, args: Args, device: torch.device) -> Tensor:
    """Draw images from the prior by DDIM without noise, (DRAWN, C, size, size).

    Reference:
        Song et al., Denoising Diffusion Implicit Models, ICLR 2021, eq. (12) with sigma_t = 0.
    """
    rng = stream(args.seed, "draw")
    shape = (DRAWN, prior.channels, args.size, args.size)
    levels = torch.linspace(prior.steps - 1, 0, DRAW_STEPS).round().int().tolist()
    x = prior.sigma[-1].item() * torch.randn(shape, generator=rng).to(device)
    for t, following in zip(levels, [*levels[1:], None]):
        eps = prior.eps(x, t)
        lower = 0.0 if following is None else prior.sigma[following].item()
        x = x + (lower - prior.sigma[t].item()) * eps
    return x.cpu()


def picture(
    rows: list[dict[str, float]], shown: list[list[Tensor]], drawn: Tensor, task: str
) -> Figure:
    """Show what the prior denoises, a row for each level, and in the last row what it draws."""
    low, high = RANGES[task]

    def visible(x: Tensor) -> np.ndarray:
        if task == "mri":
            return x.square().sum(0).sqrt().clamp(0, 1).numpy()
        return ((x - low) / (high - low)).clamp(0, 1).movedim(0, -1).squeeze(-1).numpy()

    figure = Figure(figsize=(10, 2.7 * (len(rows) + 1)), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows) + 1, 4)
    titles = [
        title
        for row in rows
        for title in (
            "held out", f"noisy, sigma {row['sigma']:.3f}\n{row['noisy']:.2f} dB",
            f"non-local means\n{row['nlm']:.2f} dB", f"prior\n{row['prior']:.2f} dB",
        )
    ] + ["drawn"] * DRAWN  # fmt: skip
    images = [x for line in shown for x in line] + list(drawn)
    for axis, image, title in zip(axes.flat, images, titles):
        axis.imshow(visible(image), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
    figure.tight_layout()
    return figure


# The script ---------------------------------------------------------------------------------


def settings_of(args: Args, facts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a checkpoint must have in common with this run."""
    names = ("task", "levels", "minutes", "size", "batch", "width", "lr", "ema_decay", "seed")
    return {name: getattr(args, name) for name in names} | {
        "images": content_hash(*(fact["sha256"] for fact in facts))
    }


def beside(out: Path, ending: str) -> Path:
    """Name a file beside OUT: the whole name counts, as ct.vp and ct.ve may lie in one folder."""
    return out.with_name(out.name + ending)


def check(args: Args) -> None:
    """Raise InputError for a value that no training can have."""
    require(0 < args.minutes < math.inf, f"--minutes {args.minutes:g}: expected a number above 0")
    require(
        args.size >= MIN_SIZE and args.size % MULTIPLE == 0,
        f"--size {args.size}: expected a multiple of {MULTIPLE}, at least {MIN_SIZE}",
    )
    require(args.batch >= 1, f"--batch {args.batch}: expected a whole number of at least 1")
    require(
        args.width >= 32 and args.width % 32 == 0,
        f"--width {args.width}: expected a multiple of 32",
    )
    require(0 < args.lr < math.inf, f"--lr {args.lr:g}: expected a number above 0")
    require(0 <= args.ema_decay < 1, f"--ema-decay {args.ema_decay:g}: expected one in [0, 1)")
    require(0 <= args.seed < 2**63, f"--seed {args.seed}: expected 0 to 2^63 - 1")
    folder = args.out.resolve().parent
    require(
        folder.is_dir() and os.access(folder, os.W_OK) and not args.out.is_dir(),
        f"--out {args.out}: expected a file to write, in a folder that is there and not read-only",
    )


def resume(training: Training, path: Path, settings: dict[str, Any]) -> None:
    """Take training back to where an interrupted run stopped.

    Raises:
        InputError: it is damaged, or of another training.
    """
    try:
        saved = load_torch(path)
        other = [name for name in settings if saved["settings"].get(name) != settings[name]]
        require(
            not other,
            f"{path}: of a training with other {', '.join(other)}; take its flags, another --out, "
            "or --fresh, or delete it",
        )
        training.restore(saved["state"])
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{path}: damaged ({reason(error)}); start anew with --fresh") from error
    print(f"resumed after update {training.step} from {path}")


def train(args: Args) -> None:
    """Train a prior and write it, with its picture."""
    check(args)
    if args.out.exists() and not (args.fresh or beside(args.out, ".checkpoint").exists()):
        print(f"{args.out} exists already; --fresh trains it again")
        return
    held = InputError(f"{args.out}: another process is at work in its folder")
    release = lock(args.out.resolve().parent, held)
    try:
        fill(args)
    finally:
        release()


def fill(args: Args) -> None:
    """Train from the start or a checkpoint to the end; write the prior and its picture."""
    device = set_up_device(args)
    images, held_out, facts = read(args)
    smallest = min(min(image.shape[1:]) for image in images)
    if smallest < args.size:
        args = replace(args, size=smallest // MULTIPLE * MULTIPLE)
        print(f"crops have {args.size} pixels a side, because of the smallest image")
    training = Training(args, images, device)
    n_params = sum(p.numel() for p in training.net.parameters())
    print(f"{n_params:,} parameters; the images' root mean square is {training.data_std:.3f}")
    checkpoint, settings = beside(args.out, ".checkpoint"), settings_of(args, facts)
    if checkpoint.exists() and not args.fresh:
        resume(training, checkpoint, settings)

    def save() -> None:
        record = {"settings": settings, "state": training.state()}
        write_atomically(checkpoint, lambda file: torch.save(record, file))

    training.run(save)
    adm, net = training.averaged()
    low, high = RANGES[args.task]
    prior = Prior(
        net, training.sigma, training.scale, CHANNELS[args.task], args.size,
        MULTIPLE, low, high, {}, tiled=True,
    )  # fmt: skip
    rows, shown = denoise(prior, held_out, args, device)
    print("PSNR in dB on the held-out image, for each standard deviation of the noise")
    print("  sigma   noisy  non-local means  prior")
    for row in rows:
        print(f"  {row['sigma']:.3f}  {row['noisy']:6.2f}  {row['nlm']:15.2f}  {row['prior']:5.2f}")
    figure = picture(rows, shown, draw(prior, args, device), args.task)
    image = beside(args.out, ".png")
    write_atomically(image, lambda file: figure.savefig(file, format="png"))
    record = {
        "kind": KIND,
        "task": args.task,
        "size": args.size,
        "low": low,
        "high": high,
        "data_std": training.data_std,
        "sigma": training.sigma,
        "scale": training.scale,
        "state": {name: w.cpu().contiguous() for name, w in adm.state_dict().items()},
        "items": facts,
        "settings": settings,
        "denoising": rows,
        "losses": training.losses,
        "versions": versions(),
        "commit": git_state()["commit"],
    }
    write_atomically(args.out, lambda file: torch.save(record, file))
    checkpoint.unlink(missing_ok=True)
    print(f"{training.step} updates in {duration(training.seconds)}: {args.out}, {image}")


def main() -> int:
    args = cli(Args, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    return exit_status(lambda: train(args))


if __name__ == "__main__":
    sys.exit(main())
