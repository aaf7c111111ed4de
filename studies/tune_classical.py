"""Choose the hyperparameters of the classical methods, on data that no table of ours scores.

For each method and each point of a grid: the mean PSNR over some problems, built as the task
scripts build them. The winners are the defaults in baselines/.

    MRI          pydicom's MR_small.dcm with air around it, simulated as the embedded sample is: 15
                 coils, 1 % noise, 4x, three draws of mask and noise
    CT           pydicom's skull (resampled to 256x256) and CT_small.dcm (128x128), 18 and 30 views
    denoising    the centres of the pictures given, with noise of 15, 25 and 30 of 255
    inpainting   the same, with a box (10 %) and random pixels (97 %) missing

    python scripts/tune_classical.py --tasks mri ct
    python scripts/tune_classical.py 0005.png 0012.png 0020.png 0027.png 0033.png 0046.png

It takes about a quarter of an hour on one core. The defaults come from these six of CBSD68.
"""

import contextlib
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydicom
import sigpy.mri
import torch
import tyro
from pydicom.data import get_testdata_file
from torch import Tensor

# Run from anywhere: the repository's modules can be imported only after this.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import aseqdip_ct
import aseqdip_denoising
import aseqdip_inpainting
import aseqdip_mri
from baselines.cg_sense import cg_sense
from baselines.fbp import fbp
from baselines.l1_wavelet import l1_wavelet
from baselines.nlm import nlm
from baselines.sart import sart
from baselines.tv import tv
from baselines.wavelet import wavelet
from utils import ct_data, image_data, mri_data
from utils.errors import exit_status, require
from utils.problem import Problem

CPU = torch.device("cpu")
TIE = 0.02  # dB
AIR = 16  # pixels around MR_small, which shows tissue up to its borders


@dataclass
class Args:
    pictures: Annotated[
        tuple[Path, ...], tyro.conf.Positional
    ] = ()  # for denoising and inpainting; none that a table scores
    tasks: tuple[Literal["mri", "ct", "denoising", "inpainting"], ...] = (
        "mri", "ct", "denoising", "inpainting",
    )  # fmt: skip
    crop: int = (
        160  # side in pixels of a picture's centre; smaller than that pictures stay as they are
    )
    cache: Path = Path("results")  # folder for cache/, the sensitivity maps


def tune(
    title: str,
    problems: list[Problem],
    method: Callable[..., Tensor],
    /,
    **grid: tuple[Any, ...],
) -> None:
    """Print the mean PSNR at each point of a grid, and the point to take.

    That is the first within TIE of the best: so a grid begins with what costs less, or smooths
    more.

    Args:
        title: task and method.
        problems: what is averaged over.
        method: makes an image of a problem and a point of the grid.
        grid: values of each hyperparameter.
    """
    print(f"\n{title}, mean PSNR over {len(problems)} problems")
    scores = {}
    for point in itertools.product(*grid.values()):
        settings = dict(zip(grid, point, strict=True))
        found = [problem.score(method(problem, **settings))["psnr"] for problem in problems]
        scores[point] = float(np.mean(found))
        print("  " + "  ".join(map(str, point)), f"  {scores[point]:.2f} dB", flush=True)
    best = next(p for p in scores if scores[p] > max(scores.values()) - TIE)
    chosen = []
    for (key, values), value in zip(grid.items(), best, strict=True):
        border = isinstance(value, (int, float)) and value in (min(values), max(values))
        chosen.append(f"{key} {value}" + (" (the border of the grid: widen it)" if border else ""))
    print(f"  chosen: {', '.join(chosen)}, {scores[best]:.2f} dB", flush=True)


def sample_file(name: str) -> Path:
    """Return the path of a file inside pydicom."""
    path = get_testdata_file(name, download=False)
    require(path is not None, f"the installed pydicom lacks its test file {name}; reinstall it")
    return Path(path)


def mri_problems(args: Args) -> list[Problem]:
    """Simulate a scan of MR_small as utils.mri_data.load_sample does of its slice."""
    image = np.pad(pydicom.dcmread(sample_file("MR_small.dcm")).pixel_array.astype(float), AIR)
    image /= image.max()
    side = len(image)
    u, v = np.meshgrid(*[np.linspace(-1, 1, side)] * 2, indexing="ij")
    phase = 0.8 * np.pi * (0.5 * u + 0.3 * v + 0.6 * u * v - 0.5 * u**2 + 0.4 * v**2)
    coils = mri_data.SAMPLE_COILS
    maps = sigpy.mri.birdcage_maps((coils, side, side), dtype=np.complex64)
    kspace = mri_data.fft2c(maps * (image * np.exp(1j * phase)).astype(np.complex64))
    scan = mri_data.Scan("MR_small", "MR_small", kspace, noise_std=mri_data.SAMPLE_NOISE)
    return [
        aseqdip_mri.build_problem(
            aseqdip_mri.Args(data_seed=draw, out=args.cache), scan, maps=None, device=CPU
        )
        for draw in range(3)
    ]


def ct_problems() -> list[Problem]:
    return [
        aseqdip_ct.build_problem(
            aseqdip_ct.Args(views=views), ct_data.load_slice(None, sample, side), CPU
        )
        for sample, side in (("skull", 256), ("small", None))
        for views in (18, 30)
    ]


def load_centre(path: Path, side: int) -> image_data.Picture:
    """Load the centre of a picture: resampled it would have another grain."""
    picture = image_data.load_picture(path, "", None)
    sides = tuple(min(side, length) for length in picture.pixels.shape[1:])
    picture.pixels = np.ascontiguousarray(mri_data.center_crop(picture.pixels, sides))
    return picture


def denoising_problems(pictures: list[image_data.Picture]) -> list[Problem]:
    return [
        aseqdip_denoising.build_problem(aseqdip_denoising.Args(sigma=sigma), picture, CPU)
        for picture in pictures
        for sigma in (15.0, 25.0, 30.0)
    ]


def inpainting_problems(pictures: list[image_data.Picture]) -> list[Problem]:
    problems = []
    for picture in pictures:
        for kind in ("box", "random"):
            args = aseqdip_inpainting.Args(mask=kind)
            mask = aseqdip_inpainting.make_mask(args, picture)
            problems.append(aseqdip_inpainting.build_problem(args, picture, mask, CPU))
    return problems


def main(args: Args) -> None:
    of_pictures = {"denoising", "inpainting"} & set(args.tasks)
    require(
        bool(args.pictures) or not of_pictures,
        f"{' and '.join(sorted(of_pictures))}: name pictures, or choose other --tasks",
    )
    with contextlib.redirect_stdout(None):  # what the task scripts say of each problem
        pictures = [load_centre(path, args.crop) for path in args.pictures]
        mri = mri_problems(args) if "mri" in args.tasks else []
        ct = ct_problems() if "ct" in args.tasks else []
        denoising = denoising_problems(pictures) if "denoising" in args.tasks else []
        inpainting = inpainting_problems(pictures) if "inpainting" in args.tasks else []

    if mri:
        tune(
            "MRI, cg_sense", mri, lambda p, **point: cg_sense(p.y, p.A, **point),
            lambda_l2=(0.1, 0.03, 0.01, 0.003, 0.001),
        )  # fmt: skip
        tune(
            "MRI, l1_wavelet", mri, lambda p, **point: l1_wavelet(p.y, p.A, **point),
            lambda_l1=(0.01, 0.004, 0.002, 0.001, 0.0003),
        )  # fmt: skip
        tune(
            "MRI, tv", mri, lambda p, **point: tv(p.y, p.A, **point),
            lambda_tv=(0.01, 0.004, 0.002, 0.001, 0.0003),
        )  # fmt: skip
    if ct:
        tune(
            "CT, fbp", ct, lambda p, **point: fbp(p.y, p.A, **point),
            filter_name=("ramp", "shepp-logan", "cosine", "hamming", "hann"),
            cutoff_per_view=(0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0),
        )  # fmt: skip
        tune(
            "CT, sart", ct, lambda p, **point: sart(p.y, p.A, **point),
            n_iter=(1, 3, 10, 20, 30), relaxation=(0.05, 0.15, 0.3, 0.6),
        )  # fmt: skip
        tune(
            "CT, tv", ct, lambda p, **point: tv(p.y, p.A, **point),
            lambda_tv=(3e-4, 1e-4, 5e-5, 2e-5, 1e-5, 3e-6),
        )  # fmt: skip
    if denoising:
        tune(
            "denoising, tv", denoising,
            lambda p, **point: tv(p.y, p.A, sigma=p.known["sigma"], **point),
            lambda_per_sigma=(0.9, 0.8, 0.7, 0.6, 0.5, 0.4),
        )  # fmt: skip
        tune(
            "denoising, nlm", denoising,
            lambda p, **point: nlm(p.y, p.A, sigma=p.known["sigma"], **point),
            patch_size=(1, 3, 5, 7), h_per_sigma=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
        )  # fmt: skip
        tune(
            "denoising, wavelet", denoising,
            lambda p, **point: wavelet(p.y, p.A, sigma=p.known["sigma"], **point),
            levels=(1, 2, 3, 4), mode=("soft", "hard"),
            wavelet_name=("haar", "db2", "db4", "sym4", "sym8", "coif2"),
        )  # fmt: skip
    if inpainting:
        tune(
            "inpainting, tv", inpainting, lambda p, **point: tv(p.y, p.A, **point),
            lambda_tv=(0.03, 0.01, 0.003, 0.001, 0.0003),
        )  # fmt: skip


if __name__ == "__main__":
    arguments = tyro.cli(Args, description=__doc__)
    sys.exit(exit_status(lambda: main(arguments)))
