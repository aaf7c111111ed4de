"""Pictures: the embedded photographs, files, masks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import png
import skimage.data
import tifffile
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from skimage.transform import resize
from torch import Tensor

from utils.errors import InputError, require
from utils.files import load_numpy, reason
from utils.item import Item

MIN_SIDE = 32  # pixels; three poolings leave 4
FACE = (slice(0, 192), slice(128, 320))  # of scikit-image's astronaut
# scikit-image's photographs that UGoDIT learns from; the samples of the scripts are for the test.
TRAINING = ("chelsea", "coffee", "rocket", "immunohistochemistry")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy")


@dataclass
class Picture(Item):
    """A picture to restore, or to damage and restore.

    Attributes:
        pixels: (C, H, W) float32 in [0, 1], C 3 (RGB) or 1 (grey).
        known: (H, W) bool for inpainting, True where a pixel is known; None elsewhere.
    """

    pixels: np.ndarray
    known: np.ndarray | None = None

    @property
    def own(self) -> tuple[np.ndarray | str, ...]:
        """What tells this picture from others, the same on every machine."""
        return (self.pixels,)

    @property
    def channels(self) -> int:
        """3 (RGB) or 1 (grey)."""
        return len(self.pixels)


def load_picture(
    path: Path | None,
    sample: str,
    side: int | None,
    measured: bool = False,
    min_side: int = MIN_SIDE,
    crop: int | None = None,
) -> Picture:
    """Read a picture from a file, or take an embedded photograph.

    Args:
        path: None for the sample; .png, .jpg, .tif, .bmp of 8 or 16 bit, RGB or grey, or .npy of
            shape (H, W) or (H, W, 3), uint8, uint16 or float in [0, 1].
        sample: photograph inside scikit-image, or `face`: a part of its astronaut.
        side: make it side x side pixels (bicubic, anti-aliased, whatever its aspect ratio);
            None leaves its size.
        measured: the picture is the measurement; noise may then reach beyond [0, 1] in a .npy.
        min_side: fewest pixels along a side.
        crop: take the central crop x crop pixels first; None takes all.

    Raises:
        InputError: the file is missing, damaged or not such a picture, or smaller than crop.
    """
    if path is None:
        name = "astronaut" if sample == "face" else sample
        item, source = sample, f"scikit-image's {name}"
        pixels = _to_float(getattr(skimage.data, name)(), source)
        pixels = pixels[FACE] if sample == "face" else pixels
        require(not measured, "--measured: give the measured picture with --data")
    else:
        item, source = path.stem, str(path)
        pixels = read_pixels(path, (-5.0, 6.0) if measured else (0.0, 1.0))
    if crop is not None:
        require(
            1 <= crop <= min(pixels.shape[:2]),
            f"--crop {crop}: expected at most the smaller side of {source}, "
            f"{pixels.shape[0]}x{pixels.shape[1]} pixels",
        )
        top, left = ((length - crop) // 2 for length in pixels.shape[:2])
        pixels = pixels[top : top + crop, left : left + crop]
    if side is not None:
        require(not measured, "--resize: a measured picture is taken as it is; resize it before")
        require(side >= MIN_SIDE, f"--resize {side}: expected at least {MIN_SIDE} pixels")
        shape = (side, side, *pixels.shape[2:])
        pixels = resize(pixels, shape, order=3, anti_aliasing=True).clip(0, 1)
    require(
        min(pixels.shape[:2]) >= min_side,
        f"{source}: got {pixels.shape[0]}x{pixels.shape[1]} pixels; at least "
        f"{min_side}x{min_side} are needed",
    )
    pixels = np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels[None]
    return Picture(item, source, np.ascontiguousarray(pixels, dtype=np.float32), path=path)


def read_pixels(path: Path, limits: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Read a picture file.

    Args:
        path: the file.
        limits: lowest and highest value of float pixels.

    Returns:
        (H, W) or (H, W, 3) float64; integers are brought to [0, 1].

    Raises:
        InputError: the file is missing, damaged or not such a picture.
    """
    require(path.exists(), f"{path}: no such file")
    require(path.is_file(), f"{path}: expected a picture file, got a folder")
    suffix = path.suffix.lower()
    require(
        suffix in SUFFIXES,
        f"{path}: expected one of {', '.join(SUFFIXES)}, got {suffix or 'no suffix'}",
    )
    if suffix == ".npy":
        return _to_float(load_numpy(path, key="image"), str(path), limits)
    try:
        if suffix in (".tif", ".tiff") and not _is_8_bit_tiff(path):
            return _to_float(tifffile.imread(path), str(path), limits)
        with Image.open(path) as image:
            if image.format == "PNG" and _png_bit_depth(path) == 16:
                return _to_float(_read_png16(path), str(path))
            image = ImageOps.exif_transpose(image)
            if image.mode != "L":
                transparent = "A" in image.getbands() or "transparency" in image.info
                image = image.convert("RGBA" if transparent else "RGB")
            return _to_float(np.asarray(image), str(path))
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path}: you may not read it; change its permissions") from error
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, png.Error,
            UnidentifiedImageError, tifffile.TiffFileError, Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise InputError(
            f"{path}: not a readable picture, damaged or cut short ({reason(error)})"
        ) from error


def read_grey(path: Path) -> np.ndarray:
    """Read a picture file without colours.

    Returns:
        (H, W) float64 in [0, 1].

    Raises:
        InputError: as read_pixels, or the picture is coloured.
    """
    pixels = read_pixels(path)
    if pixels.ndim == 2:
        return pixels
    grey = bool((pixels == pixels[..., :1]).all())
    require(grey, f"{path}: expected a grey picture, got a coloured one")
    return pixels[..., 0]


def box_mask(shape: tuple[int, int], hiar: float) -> np.ndarray:
    """Return (H, W) bool, False in a central box of the image's aspect ratio.

    Args:
        shape: (H, W).
        hiar: hole-to-image area ratio; the box has sqrt(hiar) H x sqrt(hiar) W pixels, rounded.

    Raises:
        InputError: hiar is not a share.
    """
    require(0 < hiar < 1, f"--hiar {hiar:g}: expected an area ratio between 0 and 1")
    mask = np.ones(shape, dtype=bool)
    sides = [round(n * hiar**0.5) for n in shape]
    hole = tuple(slice((n - side) // 2, (n - side) // 2 + side) for n, side in zip(shape, sides))
    mask[hole] = False
    return mask


def random_mask(shape: tuple[int, int], missing: float, generator: torch.Generator) -> np.ndarray:
    """Return (H, W) bool, False in round(missing H W) pixels drawn without replacement.

    Args:
        shape: (H, W).
        missing: share of pixels.
        generator: CPU generator.

    Raises:
        InputError: missing is not a share.
    """
    require(0 < missing < 1, f"--missing {missing:g}: expected a share between 0 and 1")
    mask = np.ones(shape[0] * shape[1], dtype=bool)
    mask[torch.randperm(mask.size, generator=generator)[: round(missing * mask.size)].numpy()] = 0
    return mask.reshape(shape)


def load_mask(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a mask of known pixels.

    Args:
        path: a picture or .npy of two values: 0 (black) where the pixel is missing, 1 (white:
            1, 255 or 65535) where it is known.
        shape: (H, W) of the picture that it belongs to.

    Returns:
        (H, W) bool, True where the pixel is known.

    Raises:
        InputError: it is damaged, of another size, or holds other values.
    """
    if path.suffix.lower() == ".npy" and path.is_file():
        mask = load_numpy(path, key="mask")
    else:
        mask = read_grey(path)
    require(
        mask.ndim == 2 and mask.dtype.kind in "buif",
        f"{path}: expected a mask of shape (H, W), got {mask.dtype} {mask.shape}",
    )
    require(
        mask.shape == shape,
        f"{path}: expected a mask of the picture's height x width {shape[0]}x{shape[1]}, got "
        f"{mask.shape[0]}x{mask.shape[1]}",
    )
    values = np.unique(mask)
    white = values[-1]
    require(
        bool(np.isin(values, (0, white)).all())
        and any(np.isclose(white, w) for w in (0, 1 / 65535, 1 / 255, 1, 255, 65535)),
        f"{path}: a mask holds black (missing) and white (known) only, got {len(values)} values "
        f"from {values[0]:.3g} to {white:.3g}; a JPEG cannot hold one, use a PNG",
    )
    return mask != 0


def make_mask(
    kind: str,
    picture: Picture,
    measured: bool,
    hiar: float,
    missing: float,
    generator: torch.Generator,
) -> np.ndarray:
    """Draw or read the mask of inpainting.

    Args:
        kind: box, random, or the name of a file.
        picture: what is masked.
        measured: it is damaged already, so its mask is in a file.
        hiar: share of the box.
        missing: share of pixels that random takes away.
        generator: CPU generator of random.

    Returns:
        (H, W) bool, True where a pixel is known.

    Raises:
        InputError: no pixel is known, or none is missing, or a value cannot be.
    """
    shape = picture.pixels.shape[1:]
    require(
        not measured or kind not in ("box", "random"),
        "--measured: name the file of the mask with --mask",
    )
    if kind == "box":
        mask = box_mask(shape, hiar)
    elif kind == "random":
        mask = random_mask(shape, missing, generator)
    else:
        mask = load_mask(Path(kind), shape)
    require(bool(mask.any()), f"--mask {kind}: no pixel is known; nothing can be filled in")
    require(not mask.all(), f"--mask {kind}: no pixel is missing; there is nothing to fill in")
    return mask


def as_array(x: Tensor) -> np.ndarray:
    """Return (1, C, H, W) as it is saved: not clipped, (H, W) or (H, W, 3)."""
    values = x[0].movedim(0, -1).cpu().numpy()
    return values[..., 0] if values.shape[-1] == 1 else values


def as_picture(array: np.ndarray) -> np.ndarray:
    """Clip what as_array makes of an image to [0, 1], for showing it."""
    return array.clip(0, 1)


def _is_8_bit_tiff(path: Path) -> bool:
    """Tell whether Pillow, which knows palettes and orientations, reads this TIFF whole."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        kind = page.photometric.name
        require(
            page.bitspersample <= 8 or kind in ("MINISBLACK", "RGB"),
            f"{path}: expected a TIFF of grey or RGB pixels, got {kind} of "
            f"{page.bitspersample} bits; save it as PNG",
        )
        return page.bitspersample <= 8


def _read_png16(path: Path) -> np.ndarray:
    """Return (H, W) or (H, W, 3 or 4) uint16; Pillow would cut colours to 8 bits without a word."""
    with open(path, "rb") as file:
        width, height, rows, info = png.Reader(file=file).asDirect()
        values = np.array([np.asarray(row, dtype=np.uint16) for row in rows])
    values = values.reshape(height, width, info["planes"])
    return values[..., 0] if info["planes"] == 1 else values


def _png_bit_depth(path: Path) -> int:
    with open(path, "rb") as file:
        return file.read(25)[24]  # 8 bytes of signature, then IHDR: length, name, width, height


def _to_float(
    values: np.ndarray, source: str, limits: tuple[float, float] = (0.0, 1.0)
) -> np.ndarray:
    require(
        values.ndim == 2 or (values.ndim == 3 and values.shape[-1] in (3, 4)),
        f"{source}: expected one picture (H, W) or (H, W, 3), got shape {values.shape}",
    )
    if values.dtype == bool:
        values = values.astype(np.float64)
    elif values.dtype in (np.uint8, np.uint16):
        values = values / float(np.iinfo(values.dtype).max)
    else:
        require(
            np.issubdtype(values.dtype, np.floating),
            f"{source}: expected bool, uint8, uint16 or float pixels, got {values.dtype}",
        )
        require(bool(np.isfinite(values).all()), f"{source}: the picture holds NaN or Inf")
        require(
            bool(values.min() >= limits[0] and values.max() <= limits[1]),
            f"{source}: expected float pixels with black at 0 and white at 1, got "
            f"{values.min():.4g} to {values.max():.4g}; scale them",
        )
    if values.ndim == 3 and values.shape[-1] == 4:
        require(
            bool((values[..., 3] == 1).all()),
            f"{source}: the picture has transparent parts; flatten it first",
        )
        values = values[..., :3]
    return values.astype(np.float64)
