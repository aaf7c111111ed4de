"""Blurs and their files: drawn motion kernels, kernels of the user, BKSE's kernel and weights."""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from operators.bkse import KERNEL_CHANNELS, BlurNet, kernel_shape
from operators.blur import BKSEBlur, CameraBlur, LinearBlur
from utils import arrays
from utils.errors import InputError, require
from utils.files import check_file, file_hash, foreign
from utils.image_data import Picture, read_grey

BKSE_SOURCE = "https://github.com/VinAIResearch/blur-kernel-space-exploring"  # model zoo
BKSE_KERNEL_STD = 1.2  # of the random kernels in BKSE's own blur generator
EXTRACTOR = "kernel_extractor."  # the part of a BKSE checkpoint that blurring does not need

# Drawn kernels ------------------------------------------------------------------------------


def motion_kernel(
    size: int, generator: torch.Generator, n_steps: int = 40, turn: float = 0.5
) -> Tensor:
    """Draw a motion blur kernel: the path of a camera that shakes during the exposure.

    The path is a random walk with inertia: the speed starts at sqrt(2) in a random direction, and
    at each step both of its components change by U(-turn, turn). The path is scaled until its
    longer side is size / 2, or less if it would not fit, and centred on its centre of mass, so
    that the blur does not shift the image. What stays longer in a place exposes it longer; each
    point of the path is shared by the four pixels around it (bilinear weights).

    Args:
        size: the kernel's side in pixels, at least 3.
        generator: CPU generator.
        n_steps: steps of the walk, at least 1.
        turn: how much the speed changes at a step; 0 makes a straight line.

    Returns:
        (size, size) float32, not negative, sums to 1; centre of mass at (size // 2, size // 2).

    Raises:
        ValueError: size or n_steps is too small.

    Reference:
        The kernel of the public aSeqDIP deblurring script. The same: the random walk, its first
        speed and 0.5 for turn, 40 steps, 64 pixels for size. Differs from it: there the first
        direction is fixed, the walk is not scaled but ends where it leaves the 64x64 canvas
        (typically after 23 steps, then 31 pixels long), is drawn with binary lines between whole
        pixels, and is not centred; its numbers come from numpy's global generator.
    """
    if size < 3 or n_steps < 1:
        raise ValueError(
            f"expected a size of at least 3 and at least 1 step, got {size} and {n_steps}"
        )
    draws = torch.rand(1 + 2 * n_steps, generator=generator, dtype=torch.float64)
    angle = 2 * math.pi * draws[0]
    start = math.sqrt(2) * torch.stack((angle.sin(), angle.cos()))
    changes = turn * (2 * draws[1:].reshape(n_steps, 2) - 1)
    speed = start + changes.cumsum(dim=0)  # (n_steps, 2)
    ends = speed.cumsum(dim=0)
    # After scaling, even a path of one step has points half a pixel apart.
    fraction = (torch.arange(size, dtype=torch.float64) + 0.5) / size - 1
    points = (ends[:, None] + fraction[:, None] * speed[:, None]).reshape(-1, 2)
    longer_side = (points.amax(dim=0) - points.amin(dim=0)).max()
    points = points - points.mean(dim=0)
    room = size - 1 - size // 2
    points = points * torch.minimum(size / 2 / longer_side, room / points.abs().max())
    pixels = torch.arange(size, dtype=torch.float64) - size // 2
    rows, columns = ((1 - (p[:, None] - pixels).abs()).clamp(min=0) for p in points.T)
    return (rows.T @ columns / len(points)).float()


def smooth_weights(
    shape: tuple[int, int], n: int, generator: torch.Generator, contrast: float = 1.0
) -> Tensor:
    """Draw weights that change slowly over an image: softmax over n smooth random fields.

    Args:
        shape: (H, W) in pixels.
        n: number of weights in each pixel.
        generator: CPU generator.
        contrast: standard deviation of the 4x4 normal numbers that a field interpolates; 0 makes
            all weights 1 / n.

    Returns:
        (n, H, W) float32, positive, sums to 1 over n.
    """
    coarse = contrast * torch.randn(1, n, 4, 4, generator=generator, dtype=torch.float64)
    fields = F.interpolate(coarse, size=shape, mode="bicubic", align_corners=True)
    return fields[0].softmax(dim=0).float()


def camera_blur(
    shape: tuple[int, int, int],
    generator: torch.Generator,
    n_kernels: int = 5,
    kernel_size: int | None = None,
) -> CameraBlur:
    """Draw a non-uniform, non-linear camera blur.

    Args:
        shape: (C, H, W) of the image.
        generator: CPU generator.
        n_kernels: how many motion kernels blend into each other over the image.
        kernel_size: side of the kernels in pixels; None takes a twentieth of the image's shorter
            side, and one more where that is even; skimage's astronaut of 128 to 512 pixels then
            has a PSNR of 20 to 24 dB.

    Returns:
        The operator.

    Raises:
        ValueError: the image is too small for the kernels.
    """
    size = max(min(shape[1:]) // 20, 3) | 1 if kernel_size is None else kernel_size
    kernels = torch.stack([motion_kernel(size, generator) for _ in range(n_kernels)])
    return CameraBlur(kernels, smooth_weights(shape[1:], n_kernels, generator), shape)


def bkse_kernel(shape: tuple[int, int, int], seed: int) -> Tensor:
    """Draw an encoded kernel for BKSE: k ~ 1.2 N(0, I).

    Args:
        shape: (3, H, W) of the image, H and W multiples of 128.
        seed: of numpy's legacy generator, whose numbers are the same in all versions; the global
            one is left alone.

    Returns:
        (1, 512, H / 128, W / 128) float32.

    Raises:
        InputError: the image's size does not fit, or the seed is out of range.

    Reference:
        1.2 is that of BKSE's own blur generator and of DPS, which draw from torch without a seed,
        DPS anew at each call. The public UGoDIT operator fixes the kernel by np.random.seed(0);
        seed 0 with 256x256 pixels makes the same one here.
    """
    require(0 <= seed < 2**32, f"BKSE kernel seed {seed}: expected a whole number below 2^32")
    try:
        size = kernel_shape(*shape[1:])
    except ValueError as error:
        raise InputError(str(error)) from error
    draws = np.random.RandomState(seed).randn(1, *size)
    return torch.from_numpy(BKSE_KERNEL_STD * draws).float()


# Files --------------------------------------------------------------------------------------


def load_kernel(path: Path) -> Tensor:
    """Read a user's linear blur kernel and divide it by its sum.

    Args:
        path: .npy, .npz or .mat with one array (kh, kw), of several arrays the one named
            `kernel`; or a picture whose grey values are the kernel, without a gamma curve. The
            kernel is convolved with the image: a bright point is blurred into its picture.

    Returns:
        (kh, kw) float32, not negative, sums to 1.

    Raises:
        InputError: the file is missing or damaged, or what it holds is not a kernel.
    """
    check_file(path)
    is_array = arrays.is_array(path)
    kernel = arrays.load_array(path, key="kernel") if is_array else read_grey(path)
    require(
        kernel.dtype.kind in "buif",
        f"{path}: expected a kernel of real numbers, got {kernel.dtype}",
    )
    require(
        kernel.ndim == 2 and kernel.size > 1,
        f"{path}: expected a kernel of shape (kh, kw), of more than 1x1, got shape {kernel.shape}",
    )
    kernel = kernel.astype(np.float64)
    require(bool(np.isfinite(kernel).all()), f"{path}: the kernel holds NaN or Inf; repair it")
    require(
        kernel.min() >= 0,
        f"{path}: expected a kernel without negative values, got a minimum of {kernel.min():.6g}",
    )
    peak = kernel.max()
    require(peak > 0, f"{path}: the kernel is all zeros; at least one value must be positive")
    kernel = kernel / peak  # the sum of the largest numbers would be Inf
    return torch.from_numpy(kernel / kernel.sum()).float()


def load_bkse_kernel(path: Path) -> Tensor:
    """Read an encoded kernel for BKSE.

    Args:
        path: .npy or .npz with one array, or a .pth with one tensor, such as the kernel.pth of
            BKSE's repository: (1, 512, h, w) for images of 128 h x 128 w pixels.

    Returns:
        (1, 512, h, w) float32.

    Raises:
        InputError: the file is missing or damaged, or holds something else.
    """
    if path.suffix.lower() in (".npy", ".npz", ".mat"):
        array = arrays.load_array(path, key="kernel")
        require(
            array.dtype.kind == "f",
            f"{path}: expected an encoded kernel of floating-point numbers, got {array.dtype}",
        )
        with np.errstate(over="ignore"):  # what becomes Inf is told below
            kernel = torch.from_numpy(array.astype(np.float32))
    else:
        kernel = _load_torch(path)
        require(
            isinstance(kernel, Tensor) and kernel.is_floating_point(),
            f"{path}: expected one float tensor, got {_describe(kernel)}",
        )
        kernel = kernel.detach().float()
    require(
        kernel.ndim == 4 and kernel.shape[:2] == (1, KERNEL_CHANNELS) and kernel.numel() > 0,
        f"{path}: expected an encoded kernel of shape (1, {KERNEL_CHANNELS}, H / 128, W / 128), "
        f"got {tuple(kernel.shape)}",
    )
    require(bool(kernel.isfinite().all()), f"{path}: the kernel holds NaN or Inf; repair it")
    return kernel


def load_bkse_weights(path: Path, sha256: str | None) -> BlurNet:
    """Read the trained weights of BKSE's blur generator.

    Args:
        path: a plain state dict, such as GOPRO_wVAE.pth; what belongs to its kernel extractor is
            left out, and nothing else may be missing or left over.
        sha256: what the SHA-256 of the file must be, in hexadecimal; None lets any pass.

    Returns:
        The network, every weight from the file.

    Raises:
        InputError: the file is missing, damaged or another one, or its weights do not fit.
    """
    state = _load_torch(path, sha256)
    require(
        isinstance(state, dict) and all(isinstance(name, str) for name in state),
        f"{path}: expected a state dict (names and tensors), got {_describe(state)}",
    )
    state = {name: value for name, value in state.items() if not name.startswith(EXTRACTOR)}
    with torch.device("meta"):  # no memory, and no random numbers that could be left in place
        net = BlurNet()
    expected = net.state_dict()
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    for what, names in (("lacks", missing), ("holds the unknown", unknown)):
        if names:
            raise InputError(
                f"{path}: {what} `{names[0]}`, {len(names)} in all; expected the weights of BKSE's "
                "generator, as in GOPRO_wVAE.pth"
            )
    for name, weight in expected.items():
        value = state[name]
        require(
            isinstance(value, Tensor)
            and value.shape == weight.shape
            and value.dtype == weight.dtype,
            f"{path}: expected `{name}` to be {_describe(weight)}, got {_describe(value)}",
        )
        require(bool(value.isfinite().all()), f"{path}: `{name}` holds NaN or Inf")
    net = net.to_empty(device="cpu")
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def _load_torch(path: Path, sha256: str | None = None) -> Any:
    """Read what torch.save wrote, without unpickling anything but tensors and containers."""
    require(path.exists(), f"{path}: no such file")
    require(path.is_file(), f"{path}: expected a .pth file, got a folder")
    if sha256 is not None:
        digest = file_hash(path)
        require(
            digest == sha256.lower(),
            f"{path}: expected the SHA-256 {sha256.lower()}, got {digest}; the download was "
            "cut short, or it is another file",
        )
    with foreign(path, ".pth file"):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()  # torch.load does not look at checksums
            require(damaged is None, f"{path}: damaged, {damaged} does not fit its checksum")
        return torch.load(path, map_location="cpu", weights_only=True)


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    return type(value).__name__


# What the flags ask for ----------------------------------------------------------------------


def make_blur(
    blur: str | None,
    kernel_file: Path | None,
    weights: Path | None,
    sha256: str | None,
    picture: Picture,
    measured: bool,
    seed: int,
) -> tuple[BKSEBlur | CameraBlur | LinearBlur, str]:
    """Build the blur that was asked for, and the words that name it.

    Args:
        blur: bkse, camera or trajectory; None takes bkse if its weights are given, trajectory if
            a kernel is, else camera.
        kernel_file: linear kernel, or BKSE's encoded one; None draws one.
        weights: of BKSE, None for none.
        sha256: what the SHA-256 of that file must be, None for any.
        picture: what is blurred.
        measured: it is blurred already, so its kernel is in a file.
        seed: of what is drawn.

    Raises:
        InputError: the flags or the files do not fit one another.
    """
    shape = picture.pixels.shape
    data_rng = torch.Generator().manual_seed(seed)
    default = "bkse" if weights else "trajectory" if kernel_file else "camera"
    kind = blur or default
    require(
        not measured or kernel_file is not None,
        "--measured: name the file of the blur's kernel with --kernel",
    )
    require(
        kind == "bkse" or weights is None,
        f"--bkse-weights: of no use to --blur {kind}; leave one of them out",
    )
    try:
        if kind == "bkse":
            require(
                weights is not None,
                f"--blur bkse: give its weights, GOPRO_wVAE.pth of {BKSE_SOURCE}, with "
                "--bkse-weights, or take --blur camera",
            )
            require(
                shape[0] == 3,
                f"{picture.source}: BKSE blurs RGB pictures, got a grey one; take --blur camera",
            )
            if kernel_file is None:
                kernel = bkse_kernel(shape, seed)
            else:
                kernel = load_bkse_kernel(kernel_file)
            net = load_bkse_weights(weights, sha256)
            return BKSEBlur(net, kernel, shape), "BKSE blur"
        if kind == "camera":
            require(kernel_file is None, "--kernel: --blur camera draws its own; leave one out")
            why = "" if blur else ": no BKSE weights given"
            return camera_blur(shape, data_rng), f"camera blur{why}"
        if kernel_file is None:
            return LinearBlur(motion_kernel(64, data_rng), shape), "trajectory blur"
        kernel = load_kernel(kernel_file)
        require(
            all(k <= side for k, side in zip(kernel.shape, shape[1:])),
            f"{kernel_file}: expected a kernel no larger than the picture, which has "
            f"{shape[1]}x{shape[2]} pixels, got {kernel.shape[0]}x{kernel.shape[1]}",
        )
        return LinearBlur(kernel, shape), f"blur by {kernel_file.name}"
    except ValueError as error:  # such as a picture that is too small for the kernel
        raise InputError(str(error)) from error
