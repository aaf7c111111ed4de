"""Score the reconstructions of a measured picture against a reference that no method saw.

    python -m scripts.score_real OUT/real_blur BLURRED.png SHARP.png --border 20

OUT holds the runs of several methods on one picture; of each the newest counts. PSNR in dB of values
clipped to [0, 1]. Where a run took a central part of the picture, so does the reference.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from skimage.metrics import peak_signal_noise_ratio

from utils.errors import exit_status, require
from utils.files import write_atomically
from utils.flags import cli
from utils.image_data import read_pixels
from utils.mri_data import center_crop


@dataclass
class Args:
    out: tyro.conf.Positional[Path]  # the runs
    measured: tyro.conf.Positional[Path]  # the picture that they reconstruct
    reference: tyro.conf.Positional[Path]  # a better one of the same, pixel for pixel
    border: int = 0  # pixels at each side that do not count
    record: Path | None = None  # JSON file that gets the figures, too


def scores(args: Args) -> dict[str, float]:
    """Return the PSNR of the measured picture and of each method's newest reconstruction."""
    files = sorted(args.out.glob("*/*/*/*/reconstruction.npy"), key=lambda p: p.stat().st_mtime)
    require(len(files) > 0, f"{args.out}: no finished runs; scripts/real.sh makes them")
    images = {file.parts[-4]: np.load(file).squeeze() for file in files}
    sides = next(iter(images.values())).shape[:2]
    measured, reference = (
        center_crop(np.moveaxis(np.atleast_3d(read_pixels(path)), -1, 0), sides)
        for path in (args.measured, args.reference)
    )
    images = {"measured": np.moveaxis(measured, 0, -1).squeeze(), **images}
    reference = np.moveaxis(reference, 0, -1).squeeze()
    inside = tuple(slice(args.border, side - args.border) for side in sides)
    return {
        name: float(
            peak_signal_noise_ratio(reference[inside], image.clip(0, 1)[inside], data_range=1)
        )
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
