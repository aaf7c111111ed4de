"""Score the reconstructions of real measurements against a better reference of the same.

    python -m scripts.score_real OUT/real_blur SHARP.png --measured BLURRED.png --border 20
    python -m scripts.score_real OUT/real_tooth ALL_VIEWS/reconstruction.npy --sinogram ALL_VIEWS.npy

OUT holds the runs of several methods on one item; of each the newest counts. PSNR in dB. A picture's
values are clipped to [0, 1]; where a run took its central part, so does the reference. The range of
a reference.npy is its largest value. With --sinogram the images are scored by measurements, too: by
how far their line integrals are from those of the views that the runs did not get. The reference
plays no part in that. --picture shows the methods beside the reference, from the lowest PSNR to the
highest, behind the measured picture.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from skimage.metrics import peak_signal_noise_ratio

from baselines import find
from operators.radon import Radon
from utils.arrays import load_array
from utils.ct_data import load_sinogram
from utils.errors import exit_status, require
from utils.figures import comparison
from utils.files import write_atomically
from utils.flags import cli
from utils.image_data import read_pixels
from utils.mri_data import center_crop


@dataclass
class Args:
    out: tyro.conf.Positional[Path]  # the runs
    reference: tyro.conf.Positional[Path]  # picture or .npy, pixel for pixel
    measured: Path | None = None  # the picture that they reconstruct, scored too
    sinogram: Path | None = None  # all views over 180 degrees, of which the runs got some
    border: int = 0  # pixels at each side that do not count
    record: Path | None = None  # JSON file for the figures
    picture: Path | None = None  # PNG file for all images beside the reference
    omit: tuple[str, ...] = ()  # methods that the picture does not show
    title: str = ""  # above the picture
    reference_title: str = "reference"  # what the reference is, for the picture


def newest(args: Args) -> dict[str, Path]:
    """Return each method's newest reconstruction."""
    files = sorted(args.out.glob("*/*/*/*/reconstruction.npy"), key=lambda p: p.stat().st_mtime)
    require(len(files) > 0, f"{args.out}: no finished runs; scripts/real.sh makes them")
    return {file.parts[-4]: file for file in files}


@dataclass(frozen=True)
class Beside:
    """Images of one size beside their reference, (H, W, 1 or 3), borders left out."""

    reference: np.ndarray
    images: dict[str, np.ndarray]  # `measured`, and by method
    white: float  # value of the reference that is its range

    def psnr(self) -> dict[str, float]:
        """Return the PSNR in dB of each image."""
        return {
            name: float(peak_signal_noise_ratio(self.reference, image, data_range=self.white))
            for name, image in self.images.items()
        }


def beside(args: Args) -> Beside:
    """Read each method's newest reconstruction, the measured picture and the reference.

    Raises:
        InputError: there are no runs, or a picture is smaller than what was reconstructed.
    """
    images = {name: np.load(file).squeeze() for name, file in newest(args).items()}
    shape = next(iter(images.values())).shape
    if args.measured is not None:
        images = {"measured": read_pixels(args.measured), **images}
    if args.reference.suffix == ".npy":
        reference = load_array(args.reference, "image").squeeze()
        white = float(reference.max())
    else:
        reference, white = read_pixels(args.reference), 1.0
        images = {name: image.clip(0, 1) for name, image in images.items()}
    for path, image in ((args.measured, images.get("measured")), (args.reference, reference)):
        require(
            image is None
            or (image.ndim == len(shape) and min(np.subtract(image.shape, shape)) >= 0),
            f"{path}: expected at least the shape {shape} of the reconstructions, "
            f"got {np.shape(image)}",
        )

    def centre(image: np.ndarray) -> np.ndarray:
        planes = center_crop(np.moveaxis(np.atleast_3d(image), -1, 0), shape[:2])
        inside = slice(args.border, -args.border or None)
        return np.moveaxis(planes[:, inside, inside], 0, -1)

    centred = {name: centre(image) for name, image in images.items()}
    return Beside(centre(reference), centred, white)


def draw(args: Args, found: Beside, psnr: dict[str, float]) -> None:
    """Write --picture."""
    titles = {name: name if name == "measured" else find(name).label for name in psnr}
    left = psnr.keys() - {"measured"}
    require(
        {*args.omit} < left,
        f"--omit {' '.join(args.omit)}: expected some of {', '.join(sorted(left))}, and not all",
    )
    order = sorted(psnr.keys() - {*args.omit}, key=lambda name: (name != "measured", psnr[name]))
    shown = {args.reference_title: found.reference} | {titles[n]: found.images[n] for n in order}
    shown = {
        name: image[..., 0] if image.shape[-1] == 1 else image for name, image in shown.items()
    }
    figure = comparison(
        shown, {titles[name]: f"{psnr[name]:.2f} dB" for name in order}, args.reference_title,
        None, args.title, (0, found.white), best=titles[order[-1]],
        direct="measured" if "measured" in titles else None,
    )  # fmt: skip
    write_atomically(args.picture, lambda file: figure.savefig(file, format="png"))


def unseen_misfits(args: Args) -> dict[str, float]:
    """Return ||A x - y|| over ||y||, of the views in --sinogram that a method did not get.

    Raises:
        InputError: a method got views that are not in it, or all of them.
    """
    n_views = len(load_array(args.sinogram, "sinogram"))
    scan = load_sinogram(args.sinogram, str(n_views))
    found = {}
    for name, file in newest(args).items():
        seen = np.isclose(np.rad2deg(scan.angles)[:, None], np.load(file.parent / "angles.npy"))
        require(
            bool(seen.any(axis=0).all()),
            f"{args.sinogram}: {n_views} views over 180 degrees are not at the angles that {name} got",
        )
        unseen = ~seen.any(axis=1)
        require(bool(unseen.any()), f"{args.sinogram}: {name} got all of its views")
        x, y = torch.from_numpy(np.load(file))[None, None], torch.from_numpy(scan.y[unseen])
        A = Radon(x.shape[-2:], torch.from_numpy(scan.angles[unseen]), y.shape[-1])
        found[name] = float((A(x)[0, 0] - y).norm() / y.norm())
    return found


def main() -> int:
    args = cli(Args, description=__doc__)

    def score() -> None:
        images = beside(args)
        found = images.psnr()
        for name, psnr in found.items():
            print(f"{args.out.name}, {name}: {psnr:.2f} dB")
        misfits = unseen_misfits(args) if args.sinogram is not None else {}
        for name, misfit in misfits.items():
            print(
                f"{args.out.name}, {name}: {100 * misfit:.2f} % off the views that it did not get"
            )
        if args.record is not None:
            record = {f"psnr_{name}": psnr for name, psnr in found.items()}
            record |= {f"unseen_misfit_{name}": misfit for name, misfit in misfits.items()}
            text = json.dumps(record, indent=1) + "\n"
            write_atomically(args.record, lambda file: file.write(text.encode()))
        if args.picture is not None:
            draw(args, images, found)

    return exit_status(score)


if __name__ == "__main__":
    sys.exit(main())
