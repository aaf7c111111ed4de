"""Small multi-coil scans and the path to real data that stay outside the repository."""

import utils.environment  # noqa: F401 (before torch, whose threads it sets)

import gc
import os
import tempfile
from pathlib import Path

import gaussian
import h5py
import matplotlib
import numpy as np
import pytest
import sigpy.mri
import torch
from PIL import Image

from models.unet import UNet
from utils import comparison, results
from utils.mri_data import fft2c, load_sample

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("ASEQDIP_DATA", ROOT.parent / "shared" / "data"))

# What the tests find out about the machine does not reach the user's cache.
os.environ.setdefault("MPLCONFIGDIR", matplotlib.get_cachedir())  # fonts take seconds to list
cache = tempfile.TemporaryDirectory()
os.environ["XDG_CACHE_HOME"] = cache.name

# One thread for each of several pytest processes; processes that tests start take as many.
threads = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"
os.environ.setdefault("OMP_NUM_THREADS", threads)
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_collection_finish():
    """Leave what is imported out of the garbage collection before each run, which scans it all."""
    gc.collect()
    gc.freeze()


def small_kspace(height=64, width=60, n_coils=6, seed=0):
    """Return fully sampled (n_coils, height, width) k-space of the embedded slice, made small."""
    from skimage.transform import resize

    image = np.abs(sample_image())
    image = resize(image, (height, width), anti_aliasing=True)
    maps = sigpy.mri.birdcage_maps((n_coils, height, width), dtype=np.complex64)
    noise = np.random.default_rng(seed).normal(0, 0.003, (2, n_coils, height, width))
    return (fft2c(maps * image.astype(np.complex64)) + noise[0] + 1j * noise[1]).astype(
        np.complex64
    )


def sample_image():
    """Return the embedded sample's (320, 320) root sum of squares."""
    kspace = load_sample().kspace
    return np.sqrt((np.abs(sigpy.ifft(kspace, axes=(-2, -1))) ** 2).sum(axis=0))


def write_fastmri(path, kspace, rss=None):
    """Write k-space (slices, coils, H, W) in fastMRI's multi-coil layout."""
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        file["ismrmrd_header"] = b"<ismrmrdHeader/>"
        if rss is not None:
            file["reconstruction_rss"] = rss
            file.attrs["max"] = rss.max()
            file.attrs["norm"] = np.linalg.norm(rss)


@pytest.fixture(scope="session")
def kspace():
    return small_kspace()


@pytest.fixture
def gaussian_priors(monkeypatch):
    """Let files of gaussian.write_prior be read where a run reads its priors."""
    gaussian.fake_priors(monkeypatch)


@pytest.fixture(scope="session")
def brain_path():
    path = DATA / "mri" / "brain_8coil_cartesian_kspace.npy"
    if not path.exists():
        pytest.skip(f"real k-space is not there: {path}")
    return path


class Blank:
    """In place of a figure."""

    def savefig(self, file, format):
        Image.new("RGB", (4, 4)).save(file, format)


@pytest.fixture
def shallow_unet(monkeypatch):
    """Let a U-Net be its first and its last convolution, so that replays of a run agree exactly.

    The whole network magnifies rounding within a few updates, by its BatchNorm, ReLU and max
    pooling: two processors then differ by 1 %.
    """
    monkeypatch.setattr(UNet, "forward", lambda net, z: net.head(torch.tanh(net.stem[0](z))))


@pytest.fixture
def no_figures(monkeypatch):
    """Draw no figures, which take half of a tiny run: for tests of what is computed and kept."""
    for module, name in (
        (results, "comparison"), (results, "curves"),
        (comparison, "comparison"), (comparison, "psnr_figure"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, lambda *a, **k: Blank())
