"""Pictures: the embedded photographs, files, masks."""

import io
import itertools
import math
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import png
import skimage.data
import tifffile
import torch
from PIL import Image, ImageOps
from skimage.transform import resize
from torch import Tensor

from utils import arrays
from utils.errors import InputError, require
from utils.files import check_file, foreign
from utils.item import Item

MIN_SIDE = 32  # pixels; three poolings leave 4
FACE = (slice(0, 192), slice(128, 320))  # of scikit-image's astronaut
# scikit-image's photographs that UGoDIT learns from; the samples of the scripts are for the test.
TRAINING = ("chelsea", "coffee", "rocket", "immunohistochemistry")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SUFFIXES = (*PICTURES, ".npy", ".npz", ".mat")
ORIENTATION = 274  # the tag of TIFF and EXIF
TWELVE_BITS = 4095  # the largest number of most scientific cameras
DARK = TWELVE_BITS / 65535  # a picture that is nowhere brighter is told
SMOOTH = 2.0  # a note is printed where half the resolution has so much more noise,
LEVEL = 1 / 255  # and at least so much
NO_NOISE = 1e-9  # less is rounding
BELOW, LOWEST = 0.05, -0.2  # a picture of which a larger share is below black, and so far, is told
ROUNDING = 1e-4  # what float pixels may lie beyond black and white
COMPRESSIONS, LZW = (1, 8, 32773, 32946), 5  # of TIFF: none, Deflate, PackBits
SIGNED = 2  # TIFF's sample format
MAX_PIXELS = Image.MAX_IMAGE_PIXELS * 2  # where Pillow refuses a picture as an attack


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
    variable: str | None = None,
    unit: float | None = None,
) -> Picture:
    """Read a picture from a file, or take an embedded photograph.

    Args:
        path: None for the sample; .png, .jpg, .tif, .bmp of 8 or 16 bit, RGB or grey, or an array
            (H, W) or (H, W, 3) in .npy, .npz or .mat, uint8, uint16 or float in [0, 1].
        sample: photograph inside scikit-image, or `face`: a part of its astronaut.
        side: make it side x side pixels (bicubic, anti-aliased, whatever its aspect ratio);
            None leaves its size.
        measured: the picture is the measurement; noise may then reach beyond [0, 1] in a .npy.
        min_side: fewest pixels along a side.
        crop: take the central crop x crop pixels first; None takes all.
        variable: name of the array, where the file has several.
        unit: the number that is white, as for read_pixels.

    Raises:
        InputError: the file is missing, damaged or not such a picture, or smaller than crop.
    """
    if path is None:
        name = "astronaut" if sample == "face" else sample
        item, source = sample, f"scikit-image's {name}"
        pixels = _to_float(getattr(skimage.data, name)(), source)
        pixels = pixels[FACE] if sample == "face" else pixels
        require(not measured, "--measured: give the measured picture with --data")
        require(
            variable is None and unit is None,
            "--variable, --unit: they describe a file; give --data",
        )
    else:
        item, source = path.stem, str(path)
        pixels = read_pixels(path, (-5.0, 6.0) if measured else (0.0, 1.0), variable, unit)
        below = np.mean(pixels < 0)
        if below > BELOW and pixels.min() < LOWEST:
            print(
                f"note: {source}: {below:.0%} of the pixels are below 0, which is black; if black "
                "is another number in it, shift and scale it so that black is 0 and white 1"
            )
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


def read_pixels(
    path: Path,
    limits: tuple[float, float] = (0.0, 1.0),
    variable: str | None = None,
    white: float | None = None,
) -> np.ndarray:
    """Read a picture file, by what it holds and not by its suffix.

    Args:
        path: the file.
        limits: lowest and highest value of float pixels.
        variable: name of the array, where the file has several.
        white: value that is white, with black at 0: numbers beyond both are clipped, and it is
            told. None takes the largest number of unsigned pixels and 1 of float ones, of which
            no more than ROUNDING may lie beyond.

    Returns:
        (H, W) or (H, W, 3) float64; integers are brought to [0, 1].

    Raises:
        InputError: the file is missing, damaged or not such a picture.
    """
    check_file(path)
    reader = _reader_of(path)
    if reader is not None:
        with foreign(path, "picture"):
            values = reader(path)
        require(variable is None, f"--variable {variable}: {path} is a picture, without variables")
    elif arrays.is_array(path):
        values = arrays.load_array(path, "image", variable)
    else:
        suffix = path.suffix.lower()
        require(
            suffix in SUFFIXES,
            f"{path}: expected one of {', '.join(SUFFIXES)}, got {suffix or 'no suffix'}",
        )
        raise InputError(
            f"{path}: not a readable picture: damaged, or of another kind; save it as PNG"
        )
    return _to_float(values, str(path), limits, white)


def is_picture(path: Path) -> bool:
    """Tell whether a file is a PNG, JPEG, TIFF or BMP, by how it begins or by its name."""
    return _reader_of(path) is not None or path.suffix.lower() in PICTURES


def _reader_of(path: Path) -> Callable[[Path], np.ndarray] | None:
    with foreign(path, "picture"), open(path, "rb") as file:
        start = file.read(132)
    if start.endswith(b"DICM"):  # what stands before this mark may look like a TIFF
        return None
    return next((read for mark, read in MARKS.items() if start.startswith(mark)), None)


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


def estimate_noise(picture: Picture, sharp: bool = True, correlated: bool = False) -> float:
    """Estimate the standard deviation of the noise, in units of the pixels, from the finest detail.

    Noise that neighbouring pixels share, as in a camera's JPEG, has little fine detail: its estimate
    is too low. So a note is printed where detail twice as coarse has much more. A picture without
    noise that is somewhat blurred looks the same.

    Args:
        picture: with noise.
        sharp: whether such a note makes sense; it does not for a blurred picture.
        correlated: neighbouring pixels share the noise: it is estimated from the coarser detail.

    Returns:
        The mean over the channels; NaN where there is no detail, or rounding alone.
    """
    import pywt  # not at the top: these two take half a second
    from skimage.restoration import estimate_sigma

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the mean of nothing
        sigma = float(estimate_sigma(picture.pixels, channel_axis=0, average_sigmas=True))
        # As skimage does it, one level further: of normal noise the median modulus is 0.6745 sigma,
        # and what is exactly 0 does not count.
        details = np.abs(pywt.wavedec2(picture.pixels, "db2", level=2)[1][-1])
        medians = [np.median(detail[detail > 0]) / 0.6745 for detail in details]
    coarser = float(np.mean(medians))
    if correlated:
        return coarser if coarser > NO_NOISE else math.nan
    if sharp and coarser > max(SMOOTH * sigma, LEVEL):
        print(
            f"note: {picture.source}: noise of {255 * sigma:.1f} of 255 is estimated from the finest "
            f"detail; twice as coarse detail would give {255 * coarser:.1f}. Either the picture is "
            "soft, or neighbouring pixels share the noise, as in a camera's JPEG. If noise remains, "
            f"repeat with --sigma {255 * coarser:.1f}, Split DIP with --noise correlated"
        )
    return sigma if sigma > NO_NOISE else math.nan


def noise_norm(sigma: float, y: Tensor) -> float:
    """Return the expected norm of noise of `sigma` of 255 in y; 0 where sigma could not be estimated."""
    return sigma / 255 * math.sqrt(y.numel()) if math.isfinite(sigma) else 0.0


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
        path: a picture or an array of two values: 0 (black) where the pixel is missing, 1 (white:
            1, 255 or 65535) where it is known. Axes of one are left out.
        shape: (H, W) of the picture that it belongs to.

    Returns:
        (H, W) bool, True where the pixel is known.

    Raises:
        InputError: it is damaged, of another size, or holds other values.
    """
    check_file(path)
    mask = arrays.load_array(path, key="mask") if arrays.is_array(path) else read_grey(path)
    mask = np.squeeze(mask)
    require(
        mask.ndim == 2 and mask.dtype.kind in "buif",
        f"{path}: expected a mask of shape (H, W), got {mask.dtype} {mask.shape}",
    )
    require(
        mask.shape == shape,
        f"{path}: expected a mask of the picture's height x width {shape[0]}x{shape[1]}, got "
        f"{mask.shape[0]}x{mask.shape[1]}",
    )
    return arrays.two_values(path, mask, hint="; a JPEG cannot hold one, use a PNG")


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
        path = Path(kind).expanduser()
        require(
            path.exists(), f"--mask {kind}: expected box, random or a file; there is no such file"
        )
        mask = load_mask(path, shape)
    require(bool(mask.any()), f"--mask {kind}: no pixel is known; nothing can be filled in")
    require(not mask.all(), f"--mask {kind}: no pixel is missing; there is nothing to fill in")
    if measured:
        spread = [np.ptp(picture.pixels[:, where], axis=1).max() for where in (mask, ~mask)]
        require(
            spread[0] > 0 or spread[1] == 0,
            f"--mask {kind}: all known pixels have one colour, the missing ones have not: the mask "
            "looks inverted; known pixels are white in it, missing ones black",
        )
        if mask.mean() < 0.5:
            print(
                f"note: --mask {kind}: {1 - mask.mean():.0%} of the pixels are missing, black in it; "
                "invert it if that is wrong"
            )
    return mask


def as_array(x: Tensor) -> np.ndarray:
    """Return (1, C, H, W) as it is saved: not clipped, (H, W) or (H, W, 3)."""
    values = x[0].movedim(0, -1).cpu().numpy()
    return values[..., 0] if values.shape[-1] == 1 else values


def as_picture(array: np.ndarray) -> np.ndarray:
    """Clip what as_array makes of an image to [0, 1], for showing it."""
    return array.clip(0, 1)


def _read_pillow(path: Path) -> np.ndarray:
    # From memory: Pillow scrambles turned pictures that it maps from the disk.
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        image.load()  # this turns a TIFF
        if image.format != "TIFF":
            image = ImageOps.exif_transpose(image)
        if "transparency" in image.info or image.mode in ("LA", "La"):
            image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        elif image.mode == "1":
            image = image.convert("L")
        elif image.mode != "L":
            image = image.convert("RGBA" if "A" in image.getbands() else "RGB")
        return np.asarray(image)


def _read_png(path: Path) -> np.ndarray:
    """Return (H, W) or (H, W, 2 to 4) uint8 or uint16; Pillow would cut 16-bit colours to 8."""
    with open(path, "rb") as file:
        if file.read(25)[24] != 16:  # 8 bytes of signature, then IHDR: length, name, width, height
            return _read_pillow(path)
        file.seek(0)
        reader = png.Reader(file=file)
        # As stored: asDirect would shift the numbers by what an sBIT chunk calls significant.
        width, height, rows, info = reader.read()
        _check_size(path, width, height)
        values = np.array([np.asarray(row, dtype=np.uint16) for row in rows])
    values = values.reshape(height, width, info["planes"])
    if reader.transparent is not None:  # one grey value or colour
        opaque = (values != np.array(reader.transparent)).any(axis=-1, keepdims=True)
        values = np.concatenate((values, np.uint16(65535) * opaque), axis=-1, dtype=np.uint16)
    with Image.open(path) as image:
        orientation = image.getexif().get(ORIENTATION, 1)
    return turned(values[..., 0] if values.shape[-1] == 1 else values, orientation)


def _read_tiff(path: Path) -> np.ndarray:
    """Return (H, W) or (H, W, channels) as stored, upright."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        kind, bits = page.photometric.name, page.bitspersample
        for other in itertools.islice(file.pages, 1, None):  # the first refused ends a circle
            require(
                other.is_reduced,
                f"{path}: expected one picture, got several pages; save one of them",
            )
        if bits <= 8 and page.sampleformat != SIGNED:
            return _read_pillow(path)  # it knows palettes and photographs' compressions
        require(
            kind in ("MINISBLACK", "RGB"),
            f"{path}: expected a TIFF of grey or RGB pixels, got {kind} of {bits} bits; save it "
            "as PNG",
        )
        is_lzw = page.compression == LZW
        compression = getattr(page.compression, "name", page.compression)
        require(
            page.compression in (*COMPRESSIONS, LZW)
            and bits in (8, 16, 32, 64)
            and page.predictor in (1, 2)
            and not (is_lzw and page.is_tiled),
            f"{path}: this layout of TIFF is not read: {bits} bits, compression {compression}"
            f"{', in tiles' if page.is_tiled else ''}; save it uncompressed or as 16-bit PNG, such "
            "as with `magick IN.tif -depth 16 OUT.png`",
        )
        _check_size(path, page.imagewidth, page.imagelength)
        ends = [at + n for at, n in zip(page.dataoffsets, page.databytecounts) if at and n]
        if len(ends) != math.prod(page.chunked) or max(ends) > file.filehandle.size:
            raise ValueError("strips are missing")  # tifffile would fill them with zeros
        values = _decode_lzw(page) if is_lzw else page.asarray()
        if values.ndim == 3 and page.planarconfig == 2:  # a plane for each channel
            values = np.moveaxis(values, 0, -1)
        return turned(values, int(page.tags.valueof(ORIENTATION, default=1)))


def _decode_lzw(page: tifffile.TiffPage) -> np.ndarray:
    """Decode LZW, which tifffile leaves to a package of its own and Pillow cuts to 8 bits.

    Each strip goes through Pillow as a picture of one row of bytes.
    """
    width, height, channels = page.imagewidth, page.imagelength, page.samplesperpixel
    planes, in_pixel = (channels, 1) if page.planarconfig == 2 else (1, channels)
    row = width * in_pixel * page.bitspersample // 8  # bytes
    rows = min(page.rowsperstrip, height)
    strips = [min(rows, height - top) for top in range(0, height, rows)] * planes
    if len(strips) != len(page.dataoffsets):
        raise ValueError("strips are missing")
    file, decoded = page.parent.filehandle, []
    for n, offset, size in zip(strips, page.dataoffsets, page.databytecounts):
        file.seek(offset)
        decoded.append(_lzw(file.read(size), n * row))
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    values = np.frombuffer(b"".join(decoded), dtype).astype(page.dtype)
    values = values.reshape(planes, height, width, in_pixel)
    if page.predictor == 2:  # differences along a row
        values = np.cumsum(values, axis=2, dtype=values.dtype)
    return values[..., 0] if planes > 1 else values[0, ..., 0] if channels == 1 else values[0]


def _lzw(data: bytes, size: int) -> bytes:
    """Decode one strip of `size` bytes."""
    entries = {
        256: size, 257: 1, 258: 8, 259: 5, 262: 1, 273: 122, 277: 1, 278: 1, 279: len(data),
    }  # fmt: skip  # width, height, bits, LZW, black is 0, where, channels, rows, bytes
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    head += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    with Image.open(io.BytesIO(head.ljust(122, b"\0") + data)) as image:
        return image.tobytes()


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W, ...) as the orientation tag of TIFF and EXIF says, 1 to 8.

    Others leave it as it is.
    """
    if orientation in (5, 6, 7, 8):
        values = np.swapaxes(values, 0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def _check_size(path: Path, width: int, height: int) -> None:
    require(
        width * height <= MAX_PIXELS,
        f"{path}: damaged, or too large: it declares {height}x{width} pixels",
    )


MARKS = {  # how files of each kind begin
    b"\x89PNG\r\n\x1a\n": _read_png,
    b"\xff\xd8\xff": _read_pillow,
    b"BM": _read_pillow,
    b"II*\0": _read_tiff, b"MM\0*": _read_tiff, b"II+\0": _read_tiff, b"MM\0+": _read_tiff,
}  # fmt: skip


def _to_float(
    values: np.ndarray,
    source: str,
    limits: tuple[float, float] = (0.0, 1.0),
    white: float | None = None,
) -> np.ndarray:
    require(
        values.ndim == 2 or (values.ndim == 3 and values.shape[-1] in (1, 2, 3, 4)),
        f"{source}: expected one picture (H, W) or (H, W, 3), got shape {values.shape}",
    )
    low, high = limits
    require(values.dtype.kind in "biuf", f"{source}: expected real pixels, got {values.dtype}")
    if values.ndim == 3 and values.shape[-1] in (2, 4):
        values, alpha = values[..., :-1], values[..., -1]
        opaque = {np.uint8: (255,), np.uint16: (65535,)}.get(alpha.dtype.type, (1, 255, 65535))
        require(
            any(bool((alpha == number).all()) for number in (*opaque, white)),
            f"{source}: the picture has transparent parts; flatten it first",
        )
    if white is not None:
        require(0 < white < math.inf, f"--unit {white:g}: expected the number that is white")
        values = values / white
        require(bool(np.isfinite(values).all()), f"{source}: the picture holds NaN or Inf")
        beyond = np.count_nonzero((values < low) | (values > high))
        if beyond:
            print(f"note: {source}: {beyond} of {values.size} values are beyond black and white; "
                  "clipped")  # fmt: skip
        values = values.clip(low, high)
    elif values.dtype == bool:
        values = values.astype(np.float64)
    elif values.dtype in (np.uint8, np.uint16):
        if values.dtype == np.uint16 and values.max(initial=0) <= TWELVE_BITS:
            print(
                f"note: {source}: at most {values.max(initial=0)} of 65535; if it holds fewer than "
                f"16 bits, give --unit, such as {TWELVE_BITS}"
            )
        values = values / float(np.iinfo(values.dtype).max)
    else:
        require(
            values.dtype.kind == "f",
            f"{source}: expected bool, uint8, uint16 or float pixels, got {values.dtype}; say with "
            "--unit which number is white",
        )
        require(bool(np.isfinite(values).all()), f"{source}: the picture holds NaN or Inf")
        require(
            bool(values.min() >= low - ROUNDING and values.max() <= high + ROUNDING),
            f"{source}: expected float pixels with black at 0 and white at 1, got "
            f"{values.min():.4g} to {values.max():.4g}; scale them, or say with --unit which "
            "number is white",
        )
        if values.max() <= DARK:
            print(
                f"note: {source}: nowhere brighter than {values.max():.3g} of 1; if another number "
                "is white, say it with --unit"
            )
        values = values.astype(np.float64).clip(low, high)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    return values.astype(np.float64)
