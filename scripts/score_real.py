"""Score the reconstructions of real measurements against a better reference of the same.

    python -m scripts.score_real OUT/real_blur SHARP.png --measured BLURRED.png --border 20
    python -m scripts.score_real OUT/real_tooth ALL_VIEWS/reconstruction.npy

OUT holds the runs of several methods on one item; of each the newest counts. PSNR in dB. A picture's
values are clipped to [0, 1]; where a run took its central part, so does the reference. The range of
a reference.npy is its largest value.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from skimage.metrics import peak_signal_noise_ratio

from utils.arrays import load_array
from utils.errors import exit_status, require
from utils.files import write_atomically
from utils.flags import cli
from utils.image_data import read_pixels
from utils.mri_data import center_crop


@dataclass
class Args:
    out: tyro.conf.Positional[Path]  # the runs
    reference: tyro.conf.Positional[Path]  # picture or .npy, pixel for pixel
    measured: Path | None = None  # the picture that they reconstruct, scored too
    border: int = 0  # pixels at each side that do not count
    record: Path | None = None  # JSON file that gets the figures, too


def scores(args: Args) -> dict[str, float]:
    """Return the PSNR of each method's newest reconstruction, and of the measured picture."""
    files = sorted(args.out.glob("*/*/*/*/reconstruction.npy"), key=lambda p: p.stat().st_mtime)
    require(len(files) > 0, f"{args.out}: no finished runs; scripts/real.sh makes them")
    images = {file.parts[-4]: np.load(file).squeeze() for file in files}
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
        return planes[:, inside, inside]

    return {
        name: float(peak_signal_noise_ratio(centre(reference), centre(image), data_range=white))
        for name, image in images.items()
    }


def main() -> int:
    args = cli(Args, description=__doc__)

    def score() -> None:
        found = scores(args)
        for name, psnr in found.items():
            print(f"{args.out.name}, {name}: {psnr:.2f} dB")
        if args.record is not None:
            record = json.loads(args.record.read_text())
            record |= {f"psnr_{name}": psnr for name, psnr in found.items()}
            text = json.dumps(record, indent=1) + "\n"
            write_atomically(args.record, lambda file: file.write(text.encode()))

    return exit_status(score)


if __name__ == "__main__":
    sys.exit(main())
