"""Make a fully sampled stand-in from an undersampled multi-coil scan.

The brain scan of the SigPy MRI tutorial (data/cartesian_ksp.npy, 8 coils, 230x180) was sampled
at 12 % of its k-space, in a Poisson-disc pattern: nothing in it can serve as a truth. This script
reconstructs it from all of its samples (ESPIRiT on its 24x24 centre, l1-wavelet by sigpy), and
writes the k-space that its coils would have seen of that image. Anatomy and coils are those of the
scan; what lies between its samples, and the low noise, are the l1-wavelet reconstruction's.

    python -m scripts.make_brain_scan cartesian_ksp.npy brain_full.npy
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sigpy.mri
import tyro

from utils import mri_data
from utils.errors import exit_status, require
from utils.files import write_atomically
from utils.flags import cli


@dataclass
class Args:
    scan: tyro.conf.Positional[Path]  # complex .npy/.npz (coils, H, W), undersampled
    output: tyro.conf.Positional[Path]  # .npy to write
    lamda: float = 0.001  # weight of the l1 norm of the wavelet coefficients (sigpy's scale)
    cache: Path = Path("results/cache")  # of sensitivity maps


def make(args: Args) -> None:
    """Reconstruct the scan and write its k-space, fully sampled."""
    require(args.output.suffix == ".npy", f"{args.output}: expected a name ending in .npy")
    require(args.output.parent.is_dir(), f"{args.output.parent}: no such folder")
    scan = mri_data.load_scan(args.scan, None)
    mask = mri_data.acquired_points(scan.kspace)
    maps = mri_data.espirit_maps(scan.kspace, mask, args.cache)
    weights = mask.astype(np.float32)
    np.random.seed(0)  # sigpy finds its step size from a vector of numpy's global generator
    image = sigpy.mri.app.L1WaveletRecon(
        scan.kspace, maps, args.lamda, weights=weights, max_iter=100, show_pbar=False
    ).run()
    kspace = mri_data.fft2c(maps * image)
    misfit = np.linalg.norm((kspace - scan.kspace)[:, mask]) / np.linalg.norm(scan.kspace)
    write_atomically(args.output, lambda file: np.save(file, kspace))
    print(f"{args.scan}: {mask.mean():.1%} of k-space sampled; misfit to the samples {misfit:.1%}")
    print(f"wrote {args.output}, {kspace.shape}")


def main() -> int:
    args = cli(Args, description=__doc__)
    return exit_status(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
