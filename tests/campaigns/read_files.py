"""Read files one by one as the scripts do, and say of each what came of it; fuzz.py's other half.

python -m tests.campaigns.read_files --seeds FOLDER    write a whole file for each reader
python -m tests.campaigns.read_files                   read what stdin names, a line for each
"""

import contextlib
import io
import json
import resource
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import png
import scipy.io
import sigpy.mri
import tifffile
import torch
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file

import aseqdip_denoising
from models.skip import SkipNet
from utils import blur_data, ct_data, encoders, image_data, mri_data
from utils.errors import InputError, require
from utils.files import content_hash
from utils.folder import RunFolder

MEMORY = 3 * 2**30  # bytes of address space beyond what the libraries take
TENSOR = {"a": torch.arange(500.0), "b": {"c": torch.ones(20, 3), "step": 7}}


def checkpoint_folder(out: Path) -> RunFolder:
    """Return a run's folder, as a script makes it."""
    args = aseqdip_denoising.Args(out=out, run="fuzzed")
    folder = RunFolder(args, "denoising", "aseqdip", "item", (None,))
    folder.path.mkdir(parents=True, exist_ok=True)
    return folder


def read_checkpoint(path: Path) -> Any:
    folder = checkpoint_folder(path.parent / "runs")
    (folder.path / "checkpoint.pt").write_bytes(path.read_bytes())
    return folder.load_checkpoint()


def read_cache(path: Path) -> Any:
    maps = mri_data.cached_maps(path, "key")
    require(maps is not None, "made again")
    return maps


READERS: dict[str, Callable[[Path], Any]] = {
    "scan": lambda path: mri_data.load_scan(path, None).kspace,
    "maps": mri_data.load_maps,
    "cache": read_cache,
    "slice": lambda path: ct_data.load_slice(path, "", None).values,
    "sinogram": lambda path: ct_data.load_sinogram(path, "40").y,
    "picture": lambda path: image_data.load_picture(path, "", None).pixels,
    "mask": lambda path: image_data.load_mask(path, (40, 48)),
    "kernel": blur_data.load_kernel,
    "weights": blur_data.load_bkse_kernel,
    "encoder": lambda path: encoders.read(path, "superresolution"),
    "checkpoint": read_checkpoint,
}


def digest(value: Any) -> str:
    """Return a hash of arrays, tensors and what holds them."""
    if isinstance(value, dict):
        return content_hash(*(f"{k} {digest(v)}" for k, v in value.items()))
    if isinstance(value, (list, tuple)):
        return content_hash(*(digest(v) for v in value))
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    return content_hash(value if isinstance(value, np.ndarray) else repr(value))


def verdict(reader: str, path: Path) -> dict[str, Any]:
    """Read a file; say whether it was read, refused, or ended in a traceback."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = {"outcome": "read", "digest": digest(READERS[reader](path))}
        except InputError as error:
            one_line = len(str(error).splitlines()) == 1
            found = {"outcome": "refused" if one_line else "more than a line", "text": str(error)}
        except BaseException:
            found = {"outcome": "traceback", "text": traceback.format_exc()}
    return found | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}


def write_seeds(folder: Path) -> None:
    """Write a whole file of each kind, named READER-KIND.SUFFIX."""
    rng = np.random.default_rng(0)
    maps = sigpy.mri.birdcage_maps((3, 40, 36), dtype=np.complex64)
    k = mri_data.fft2c(maps * rng.random((40, 36)).astype(np.float32)).astype(np.complex64)
    with h5py.File(folder / "scan-plain.h5", "w") as file:
        file["kspace"], file["mask"] = k[None], np.ones(36)
    with h5py.File(folder / "scan-packed.h5", "w") as file:
        file.create_dataset("kspace", data=k[None], chunks=True, compression="gzip")
        file.create_group("a/b/c/d")["x"] = np.arange(3)
    with h5py.File(folder / "scan-matlab.mat", "w", userblock_size=512) as file:
        pair = np.zeros(k.T.shape, [("real", "f4"), ("imag", "f4")])
        pair["real"], pair["imag"] = k.T.real, k.T.imag
        file["kspace"] = pair
    with open(folder / "scan-matlab.mat", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
    np.save(folder / "scan-one.npy", k)
    np.savez(folder / "scan-one.npz", kspace=k)
    np.savez_compressed(folder / "scan-packed.npz", kspace=k, other=maps)
    np.savez(folder / "cache-maps.npz", maps=maps, key=np.array("key"))
    for name, packed in (("plain", False), ("packed", True)):
        what = {"kspace": k, "s": {"a": {"b": [1, 2]}}, "text": "x"}
        scipy.io.savemat(folder / f"scan-{name}.mat", what, do_compression=packed)
    scipy.io.savemat(folder / "kernel-one.mat", {"kernel": rng.random((5, 5))})
    k.transpose(1, 2, 0)[:, :, None].ravel(order="F").tofile(folder / "scan-bart.cfl")
    (folder / "scan-bart.hdr").write_text("# Dimensions\n40 36 1 3 1 1 1 1 1 1 1 1 1 1 1 1\n")
    np.save(folder / "maps-one.npy", maps)
    hu = rng.uniform(-1000, 1000, (40, 36))
    np.save(folder / "slice-one.npy", hu)
    np.save(folder / "sinogram-one.npy", rng.random((40, 61)))
    scipy.io.savemat(folder / "slice-one.mat", {"slice": hu})
    with contextlib.suppress(ImportError):
        import nibabel

        volume = nibabel.Nifti1Image(rng.uniform(-1000, 1000, (36, 40, 3)), np.eye(4))
        nibabel.save(volume, folder / "slice-volume.nii")
        nibabel.save(volume, folder / "slice-volume.nii.gz")
    dataset = dcmread(get_testdata_file("CT_small.dcm", download=False))
    dataset.save_as(folder / "slice-plain.dcm")
    dataset = dcmread(get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False))
    dataset.save_as(folder / "slice-j2k.dcm")
    pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
    image, deep = Image.fromarray(pixels), pixels.astype(np.uint16) * 257
    image.save(folder / "picture-eight.png")
    image.quantize(16).save(folder / "picture-palette.png")
    image.save(folder / "picture-one.jpg")
    image.save(folder / "picture-one.bmp")
    image.save(folder / "picture-lzw.tif", compression="tiff_lzw")
    Image.fromarray(deep[..., 0].copy()).save(folder / "picture-lzw16.tif", compression="tiff_lzw")
    tifffile.imwrite(folder / "picture-sixteen.tif", deep, compression="zlib", predictor=True)
    tifffile.imwrite(folder / "picture-float.tif", (pixels / 255).astype(np.float32))
    with open(folder / "picture-sixteen.png", "wb") as file:
        writer = png.Writer(48, 40, greyscale=False, bitdepth=16)
        writer.write(file, deep.reshape(40, -1).tolist())
    np.save(folder / "picture-float.npy", pixels / 255)
    Image.fromarray(np.where(pixels[..., 0] > 99, 255, 0).astype(np.uint8)).save(
        folder / "mask-one.png"
    )
    np.save(folder / "kernel-one.npy", np.ones((5, 5)))
    torch.save(torch.zeros(1, 512, 1, 1), folder / "weights-zip.pth")
    torch.save(
        torch.zeros(1, 512, 1, 1), folder / "weights-old.pth",
        _use_new_zipfile_serialization=False,
    )  # fmt: skip
    net = SkipNet(3, 3, width=4, norm_joined=False, generator=torch.Generator().manual_seed(0))
    encoders.save(folder / "encoder-one.pt", net, "superresolution", [], {"K": 1})
    run = checkpoint_folder(folder / "runs")
    run.save_checkpoint(TENSOR)
    (folder / "checkpoint-one.pt").write_bytes((run.path / "checkpoint.pt").read_bytes())


def main() -> None:
    if sys.argv[1:2] == ["--seeds"]:
        write_seeds(Path(sys.argv[2]))
        return
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    for line in sys.stdin:
        reader, path = line.rstrip("\n").split("\t")
        print(json.dumps(verdict(reader, Path(path))), flush=True)


if __name__ == "__main__":
    main()
