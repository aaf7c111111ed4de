"""Measure the memory and time of aseqdip_mri.py on the largest common scan: 640x372, 20 coils.

The scan is the embedded sample, resampled and seen by 20 birdcage coils. The full-width network
makes a few outer steps; the memory that training needs does not grow after the first. On a GPU the
most that PyTorch reserved there; on a CPU the most that the process held, Python, ESPIRiT and
data included, beside what a run on the same scan with the smallest network held.

    python -m scripts.bench_memory
    python -m scripts.bench_memory --shape 640 640 --coils 16 -- --precision bf16

What follows a lone -- goes to the script.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sigpy.mri
from skimage.transform import resize

from utils import mri_data
from utils.errors import exit_status, require
from utils.flags import cli
from utils.folder import ROOT


@dataclass
class Args:
    shape: tuple[int, int] = (640, 372)  # of the images
    coils: int = 20  # of the scan
    K: int = 6  # outer steps


def write_scan(path: Path, coils: int, shape: tuple[int, int]) -> None:
    """Write fully sampled k-space, (coils, H, W) complex64, as .npy."""
    images = mri_data.ifft2c(mri_data.load_scan(None, None).kspace)
    image = resize(np.sqrt((np.abs(images) ** 2).sum(axis=0)), shape, anti_aliasing=True)
    maps = sigpy.mri.birdcage_maps((coils, *shape))
    np.save(path, mri_data.fft2c(maps * image).astype(np.complex64))


def run(folder: Path, scan: Path, flags: list[str]) -> tuple[float, float]:
    """Run the script in a process of its own; return its peak memory in GiB and its seconds."""
    command = [sys.executable, str(ROOT / "aseqdip_mri.py"), "--data", str(scan), "--crop", "0"]
    command += ["--out", str(folder), "--fresh", *flags]
    begun = time.perf_counter()
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # which Popen cannot know
    seconds = time.perf_counter() - begun
    require(process.returncode == 0, (folder / "log").read_text().strip())
    (path,) = folder.glob("mri/*/*/*/metrics.json")
    unit = 1 if sys.platform == "darwin" else 1024
    peak = json.loads(path.read_text()).get("peak_memory_gib", usage.ru_maxrss * unit / 2**30)
    return peak, seconds


def measure(args: Args, further: list[str]) -> None:
    """Run the script with the smallest network and with the full one, and print both."""
    with tempfile.TemporaryDirectory() as name:
        scan = Path(name) / "scan.npy"
        write_scan(scan, args.coils, args.shape)
        for label, flags in (("smallest network", ["--width", "1", "--depth", "1"]), ("full", [])):
            folder = Path(name) / label.split()[0]
            folder.mkdir()
            peak, seconds = run(folder, scan, ["--K", str(args.K), *flags, *further])
            print(
                f"{args.coils} coils, {args.shape[0]}x{args.shape[1]}, {label}: "
                f"{peak:.2f} GiB, {args.K} outer steps with ESPIRiT in {seconds:.0f} s"
            )


def main() -> int:
    given = [*sys.argv[1:], "--"]
    split = given.index("--")
    args = cli(Args, args=given[:split], description=__doc__)
    return exit_status(lambda: measure(args, given[split + 1 : -1]))


if __name__ == "__main__":
    sys.exit(main())
