"""Pictures and masks: what is read is what the file holds."""

import io
import struct

import numpy as np
import png
import pytest
import scipy.io
import skimage.data
import tifffile
import torch
from PIL import Image

from utils import image_data
from utils.errors import InputError
from utils.image_data import (
    box_mask,
    load_mask,
    load_picture,
    make_mask,
    random_mask,
    read_pixels,
)  # fmt: skip


def write_png(path, pixels, depth):
    height, width = pixels.shape[:2]
    writer = png.Writer(
        width, height, greyscale=pixels.ndim == 2, alpha=pixels.shape[-1] == 4, bitdepth=depth
    )
    with open(path, "wb") as file:
        writer.write(file, pixels.reshape(height, -1).tolist())
    return path


def noise(*shape, top):
    return np.random.default_rng(0).integers(0, top + 1, shape)


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("depth", [8, 16])
def test_png_and_tiff_are_read_to_the_last_bit(tmp_path, channels, depth):
    top = 2**depth - 1
    pixels = noise(33, 47, *channels, top=top)
    dtype = np.uint8 if depth == 8 else np.uint16
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype(dtype))
    np.save(tmp_path / "a.npy", pixels.astype(dtype))
    write_png(tmp_path / "a.png", pixels, depth)
    expected = (np.moveaxis(pixels, -1, 0) if channels else pixels[None]) / top
    for name in ("a.png", "a.tif", "a.npy"):
        picture = load_picture(tmp_path / name, "", None)
        assert picture.item == "a" and picture.pixels.dtype == np.float32
        np.testing.assert_array_equal(picture.pixels, expected.astype(np.float32))


def test_palettes_orientation_and_opaque_alpha_are_understood(tmp_path):
    pixels = noise(40, 50, 3, top=255).astype(np.uint8)
    image = Image.fromarray(pixels)
    alpha = np.full((40, 50, 1), 255, dtype=np.uint8)
    Image.fromarray(np.concatenate((pixels, alpha), axis=-1)).save(tmp_path / "alpha.png")
    image.quantize(16).save(tmp_path / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    expected = np.moveaxis(pixels, -1, 0) / 255
    read = load_picture(tmp_path / "alpha.png", "", None).pixels
    np.testing.assert_allclose(read, expected, atol=1e-7)
    assert load_picture(tmp_path / "palette.png", "", None).pixels.shape == (3, 40, 50)
    turned = load_picture(tmp_path / "turned.png", "", None).pixels
    np.testing.assert_allclose(turned, np.rot90(expected, -1, axes=(1, 2)), atol=1e-7)


def test_tiffs_of_all_kinds_are_read_as_pillow_shows_them(tmp_path):
    pixels = noise(40, 50, 3, top=255).astype(np.uint8)
    image = Image.fromarray(pixels)
    for name, kind, options in (
        ("lzw", image, {"compression": "tiff_lzw"}),
        ("palette", image.quantize(16), {}),
        ("bits", image.convert("1"), {"compression": "group4"}),
        ("cmyk", image.convert("CMYK"), {}),
    ):
        kind.save(tmp_path / f"{name}.tif", **options)
        shown = np.asarray(kind.convert("L" if name == "bits" else "RGB"))
        expected = (shown[None] if name == "bits" else np.moveaxis(shown, -1, 0)) / 255
        read = load_picture(tmp_path / f"{name}.tif", "", None).pixels
        np.testing.assert_allclose(read, expected, atol=1e-7, err_msg=name)
    tifffile.imwrite(tmp_path / "white.tif", pixels[..., 0].astype(np.uint16),
                     photometric="miniswhite")  # fmt: skip
    with pytest.raises(InputError, match="MINISWHITE of 16 bits"):
        load_picture(tmp_path / "white.tif", "", None)


TURNED = {  # what the orientation tag means, in numpy's words
    1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud,
    5: lambda x: x.swapaxes(0, 1), 6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1), 8: np.rot90,
}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiffs_stand_upright_in_all_orientations(tmp_path, orientation, channels, compression):
    for top, dtype in ((255, np.uint8), (65535, np.uint16)):
        pixels = noise(40, 50, *channels, top=top).astype(dtype)
        tifffile.imwrite(
            tmp_path / "a.tif", pixels, compression=compression,
            extratags=[(274, "H", 1, orientation, True)],
        )  # fmt: skip
        expected = TURNED[orientation](pixels / top)
        np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("predictor", [False, True])
def test_sixteen_bit_tiffs_packed_and_in_planes(tmp_path, channels, planar, predictor):
    pixels = noise(40, 50, *channels, top=65535).astype(np.uint16)
    stored = np.moveaxis(pixels, -1, 0) if channels and planar == "separate" else pixels
    options = {"photometric": "rgb", "planarconfig": planar} if channels else {}
    for byteorder in "<>":
        tifffile.imwrite(
            tmp_path / "a.tif", stored, compression="zlib", predictor=predictor, rowsperstrip=7,
            byteorder=byteorder, **options,
        )  # fmt: skip
        np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif"), pixels / 65535)


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("predictor", [1, 2])
def test_sixteen_bit_lzw_is_decoded(tmp_path, channels, planes, predictor):
    """Strips that Pillow has packed stand in a file whose tags are written here."""
    pixels = (np.cumsum(noise(40, 50, *channels, top=900), axis=1) % 65536).astype(np.uint16)
    stored = pixels
    if predictor == 2:
        stored = np.diff(pixels, axis=1, prepend=np.zeros_like(pixels[:, :1]))
    parts = np.moveaxis(stored, -1, 0) if channels and planes else stored[None]
    strips = [lzw(part[top : top + 7]) for part in parts for top in range(0, 40, 7)]
    n = 3 if channels else 1
    tags = {256: [50], 257: [40], 258: [16] * n, 259: [5], 262: [2 if channels else 1],
            273: [0] * len(strips), 277: [n], 278: [7], 279: [len(s) for s in strips],
            284: [2 if channels and planes else 1], 317: [predictor]}  # fmt: skip
    write_tiff(tmp_path / "a.tif", tags, strips)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif"), pixels / 65535)


def lzw(values):
    """Return the LZW bytes of an array, packed by libtiff as one strip of bytes."""
    file = io.BytesIO()
    row = np.frombuffer(values.astype("<u2").tobytes(), np.uint8)[None]
    Image.fromarray(row).save(file, format="TIFF", compression="tiff_lzw")
    file.seek(0)
    page = tifffile.TiffFile(file).pages[0]
    (offset,), (size,) = page.dataoffsets, page.databytecounts
    assert page.predictor == 1
    return file.getvalue()[offset : offset + size]


def write_tiff(path, tags, strips):
    """Write a little-endian TIFF of LONG tags, strips first."""
    body, offsets = b"", []
    for strip in strips:
        offsets.append(8 + len(body))
        body += strip
    tags = tags | {273: offsets}
    start = 8 + len(body)
    entries, beyond = b"", b""
    at = start + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        value = packed if len(numbers) == 1 else struct.pack("<I", at + len(beyond))
        beyond += b"" if len(numbers) == 1 else packed
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + value
    head = b"II*\0" + struct.pack("<I", start)
    path.write_bytes(head + body + struct.pack("<H", len(tags)) + entries + bytes(4) + beyond)


@pytest.mark.parametrize(
    "changed, words",
    [
        ({258: [12]}, "12 bits, compression NONE;"),
        ({259: [5], 322: [48], 323: [40]}, "16 bits, compression LZW, in tiles;"),
        ({259: [34712]}, "16 bits, compression JPEG2000;"),
        ({258: [32], 259: [8], 317: [3], 339: [3]}, "32 bits, compression ADOBE_DEFLATE;"),
    ],
)
def test_a_layout_of_tiff_that_is_not_read_is_not_called_damaged(tmp_path, changed, words):
    tags = {256: [48], 257: [40], 258: [16], 259: [1], 262: [1], 277: [1], 278: [40], 279: [3840]}
    write_tiff(tmp_path / "a.tif", tags | changed, [bytes(3840)])
    with pytest.raises(InputError, match=f"layout of TIFF is not read: {words} save it") as error:
        read_pixels(tmp_path / "a.tif")
    assert "magick" in str(error.value) and "damaged" not in str(error.value)


def test_signed_and_one_bit_pixels_keep_their_meaning(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((40, 50), -3, np.int8))
    with pytest.raises(InputError, match="got int8; say with --unit"):
        read_pixels(tmp_path / "a.tif")
    bits = noise(40, 50, top=1)
    np.testing.assert_array_equal(read_pixels(write_png(tmp_path / "a.png", bits, 1)), bits)


def test_a_float_picture_that_is_dark_everywhere_is_told(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.linspace(0, 0.004, 1600).reshape(40, 40))
    read_pixels(tmp_path / "a.npy")
    assert "nowhere brighter than 0.004" in capsys.readouterr().out
    read_pixels(tmp_path / "a.npy", white=0.004)
    assert capsys.readouterr().out == ""


def test_a_picture_of_another_kind_is_not_called_damaged_alone(tmp_path):
    Image.fromarray(noise(40, 50, top=255).astype(np.uint8)).save(tmp_path / "a.png", format="GIF")
    with pytest.raises(InputError, match="or of another kind; save it as PNG"):
        read_pixels(tmp_path / "a.png")


def test_pictures_are_read_by_what_they_hold(tmp_path):
    pixels = noise(40, 50, top=65535).astype(np.uint16)
    tifffile.imwrite(tmp_path / "tiff.png", pixels)
    write_png(tmp_path / "png.tif", pixels, 16)
    np.save(tmp_path / "array.jpg.npy", pixels)
    (tmp_path / "array.jpg.npy").rename(tmp_path / "array.jpg")
    np.save(tmp_path / "big.npy", pixels.astype(">u2"))
    scipy.io.savemat(tmp_path / "m.mat", {"image": pixels})
    for name in ("tiff.png", "png.tif", "array.jpg", "big.npy", "m.mat"):
        np.testing.assert_array_equal(read_pixels(tmp_path / name), pixels / 65535, err_msg=name)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_significant_bits_do_not_change_what_is_stored(tmp_path, channels):
    pixels = noise(40, 50, *channels, top=65535)
    write_png(tmp_path / "a.png", pixels, 16)
    chunks = list(png.Reader(bytes=(tmp_path / "a.png").read_bytes()).chunks())
    chunks.insert(1, (b"sBIT", bytes([12] * (channels or (1,))[0])))
    with open(tmp_path / "a.png", "wb") as file:
        png.write_chunks(file, chunks)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), pixels / 65535)


@pytest.mark.parametrize("depth", [8, 16])
def test_opaque_alpha_is_dropped_and_transparency_refused(tmp_path, depth):
    top = 2**depth - 1
    for channels in (1, 3):
        pixels = noise(40, 50, channels, top=top)
        for least, refused in ((top, False), (top - 1, True)):
            alpha = np.full((40, 50, 1), top)
            alpha[3, 4] = least
            writer = png.Writer(50, 40, greyscale=channels == 1, alpha=True, bitdepth=depth)
            with open(tmp_path / "a.png", "wb") as file:
                writer.write(file, np.dstack([pixels, alpha]).reshape(40, -1).tolist())
            if refused:
                with pytest.raises(InputError, match="transparent"):
                    read_pixels(tmp_path / "a.png")
            else:
                read = read_pixels(tmp_path / "a.png")
                np.testing.assert_array_equal(read, np.squeeze(pixels) / top)


def test_alpha_has_a_white_of_its_own(tmp_path, capsys):
    """Colours of 12 bits in a file of 16: --unit is of the colours, alpha is of the file."""
    colours = noise(40, 50, 3, top=4095)
    with open(tmp_path / "a.png", "wb") as file:
        pixels = np.dstack([colours, np.full((40, 50, 1), 65535)]).reshape(40, -1)
        png.Writer(50, 40, greyscale=False, alpha=True, bitdepth=16).write(file, pixels.tolist())
    read = load_picture(tmp_path / "a.png", None, None, unit=4095).pixels
    np.testing.assert_allclose(read, np.moveaxis(colours, -1, 0) / 4095, rtol=1e-6)
    assert "clipped" not in capsys.readouterr().out
    for opaque in (1, 255, 4095, 65535):
        np.save(tmp_path / "a.npy", np.dstack([colours, np.full((40, 50, 1), opaque)]).astype("i4"))
        read = load_picture(tmp_path / "a.npy", None, None, unit=4095).pixels
        np.testing.assert_allclose(read, np.moveaxis(colours, -1, 0) / 4095, rtol=1e-6)
    with pytest.raises(InputError, match="say with --unit"):
        load_picture(tmp_path / "a.npy", None, None)
    np.save(tmp_path / "a.npy", np.ones((40, 50, 4), complex))
    with pytest.raises(InputError, match="real pixels, got complex128"):
        load_picture(tmp_path / "a.npy", None, None)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_level_is_refused_where_it_occurs(tmp_path, depth):
    top = 2**depth - 1
    pixels = noise(40, 50, top=top - 1)
    for level, refused in ((top, False), (int(pixels[0, 0]), True)):
        writer = png.Writer(50, 40, greyscale=True, bitdepth=depth, transparent=level)
        with open(tmp_path / "a.png", "wb") as file:
            writer.write(file, pixels.tolist())
        if refused:
            with pytest.raises(InputError, match="transparent"):
                read_pixels(tmp_path / "a.png")
        else:
            np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), pixels / top)


def test_rounding_beyond_black_and_white_is_let_pass_and_more_needs_the_unit(tmp_path, capsys):
    pixels = np.linspace(0, 1, 1600).reshape(40, 40)
    for low, high in ((-1e-7, 1.0000001), (-1e-5, 1 + 1e-5)):
        pixels[0, 0], pixels[-1, -1] = low, high
        np.save(tmp_path / "a.npy", pixels)
        np.testing.assert_array_equal(read_pixels(tmp_path / "a.npy"), pixels.clip(0, 1))
    pixels[0, 0], pixels[-1, -1] = -0.02, 1.03
    np.save(tmp_path / "a.npy", pixels)
    with pytest.raises(InputError, match="--unit"):
        read_pixels(tmp_path / "a.npy")
    assert capsys.readouterr().out == ""
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.npy", white=1), pixels.clip(0, 1))
    assert "2 of 1600 values are beyond black and white; clipped" in capsys.readouterr().out
    twelve_bits = noise(40, 50, top=4095)
    for dtype in (np.uint16, np.int64, float):
        np.save(tmp_path / "a.npy", twelve_bits.astype(dtype))
        read = read_pixels(tmp_path / "a.npy", white=4095)
        np.testing.assert_array_equal(read, twelve_bits / 4095)
    capsys.readouterr()
    for top, told in ((4095, True), (65535, False)):
        np.save(tmp_path / "a.npy", noise(40, 50, top=top).astype(np.uint16))
        read_pixels(tmp_path / "a.npy")
        assert ("--unit, such as 4095" in capsys.readouterr().out) == told
    with pytest.raises(InputError, match="--unit 0"):
        read_pixels(tmp_path / "a.npy", white=0)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_png_s_orientation_is_applied(tmp_path, depth):
    pixels = noise(40, 50, 3, top=2**depth - 1)
    write_png(tmp_path / "a.png", pixels, depth)
    exif = Image.Exif()
    exif[274] = 6
    chunks = [*png.Reader(bytes=(tmp_path / "a.png").read_bytes()).chunks()]
    chunks.insert(1, (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    with open(tmp_path / "a.png", "wb") as file:
        png.write_chunks(file, chunks)
    expected = np.rot90(pixels, -1) / (2**depth - 1)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), expected)


def test_several_pages_are_no_picture(tmp_path):
    for dtype in (np.uint8, np.uint16):
        tifffile.imwrite(tmp_path / "a.tif", noise(2, 40, 50, top=255).astype(dtype))
        with pytest.raises(InputError, match="several pages"):
            read_pixels(tmp_path / "a.tif")


def test_the_samples_are_scikit_image_s_and_can_be_made_square():
    for name, shape in (("astronaut", (512, 512)), ("coffee", (400, 600)), ("chelsea", (300, 451))):
        pixels = load_picture(None, name, None).pixels
        assert pixels.shape == (3, *shape)
        expected = getattr(skimage.data, name)()[10, 20] / 255
        np.testing.assert_allclose(pixels[:, 10, 20], expected, atol=1e-6)
    face = load_picture(None, "face", None).pixels
    np.testing.assert_array_equal(
        face, load_picture(None, "astronaut", None).pixels[:, :192, 128:320]
    )
    whole = load_picture(None, "coffee", None).pixels  # (3, 400, 600)
    crop = load_picture(None, "coffee", None, crop=101).pixels
    assert np.array_equal(crop, whole[:, 149:250, 249:350])
    with pytest.raises(InputError, match="--crop 401.*400x600"):
        load_picture(None, "coffee", None, crop=401)
    small = load_picture(None, "coffee", 100).pixels
    assert small.shape == (3, 100, 100) and small.min() >= 0 and small.max() <= 1
    whole = load_picture(None, "coffee", None).pixels
    assert abs(small.mean() - whole.mean()) < 2e-3


def test_a_box_mask_has_the_area_that_was_asked_for():
    mask = box_mask((512, 512), 0.1)
    rows, columns = np.flatnonzero(~mask.all(axis=1)), np.flatnonzero(~mask.all(axis=0))
    assert len(rows) == len(columns) == 162 and rows[0] == (512 - 162) // 2
    assert (~mask).sum() == 162 * 162 and not mask[rows[0], columns[0]]
    assert (~box_mask((512, 512), 0.25)).mean() == 0.25
    wide = ~box_mask((200, 300), 0.25)
    assert wide.sum(axis=1).max() == 150 and wide.sum(axis=0).max() == 100


def test_a_random_mask_has_the_share_that_was_asked_for():
    masks = [random_mask((50, 40), 0.97, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert masks[0].shape == (50, 40) and masks[0].sum() == 60
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()


def test_masks_are_black_and_white_in_any_notation(tmp_path):
    mask = np.random.default_rng(0).random((40, 50)) < 0.5
    write_png(tmp_path / "bits.png", mask.astype(int), 1)
    write_png(tmp_path / "levels.png", 255 * mask.astype(int), 8)
    write_png(tmp_path / "ones.png", mask.astype(int), 8)
    write_png(tmp_path / "sixteen.png", 65535 * mask.astype(int), 16)
    write_png(tmp_path / "ones16.png", mask.astype(int), 16)
    Image.fromarray(np.repeat(255 * mask[..., None], 3, axis=2).astype(np.uint8)).save(
        tmp_path / "rgb.png"
    )
    np.save(tmp_path / "array.npy", mask.astype(np.float32))
    np.save(tmp_path / "bool.npy", mask)
    np.save(tmp_path / "int.npy", mask.astype(np.int64))
    np.save(tmp_path / "levels.npy", 255 * mask.astype(np.int64))
    np.save(tmp_path / "rounded.npy", np.where(mask, 1.0000001, -1e-9))
    np.save(tmp_path / "of_a_slice.npy", mask[None])
    np.save(tmp_path / "of_a_channel.npy", mask[..., None])
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(load_mask(path, (40, 50)), mask, err_msg=path.name)


def test_a_measurement_whose_black_is_not_0_is_told(tmp_path, capsys):
    pixels = np.linspace(-0.02, 1, 1600).reshape(40, 40)  # noise: one pixel of 50 is below black
    np.save(tmp_path / "photo.npy", pixels)
    load_picture(tmp_path / "photo.npy", "", None, measured=True)
    assert not capsys.readouterr().out
    np.save(tmp_path / "photo.npy", 2 * pixels - 1)
    load_picture(tmp_path / "photo.npy", "", None, measured=True)
    assert "photo.npy: 51% of the pixels are below 0" in capsys.readouterr().out


def test_a_measurement_may_reach_beyond_black_and_white(tmp_path):
    pixels = np.random.default_rng(0).normal(0.5, 0.3, (40, 40)).clip(-0.9, 1.9)
    np.save(tmp_path / "noisy.npy", pixels)
    read = load_picture(tmp_path / "noisy.npy", "", None, measured=True).pixels
    np.testing.assert_array_equal(read[0], pixels.astype(np.float32))
    with pytest.raises(InputError, match="black at 0 and white at 1"):
        load_picture(tmp_path / "noisy.npy", "", None)


def test_what_is_shown_is_clipped_and_what_is_saved_is_not():
    x = torch.tensor([-0.5, 0.25, 1.5]).reshape(1, 1, 1, 3).expand(1, 3, 2, 3)
    assert image_data.as_array(x).shape == (2, 3, 3)
    assert image_data.as_array(x).min() == -0.5
    shown = image_data.as_picture(image_data.as_array(x))
    assert shown.min() == 0 and shown.max() == 1
    assert image_data.as_array(x[:, :1]).shape == (2, 3)


def test_a_tiff_whose_pages_run_in_a_circle_is_refused(tmp_path):
    tags = {256: [40], 257: [40], 258: [16], 259: [1], 262: [1], 277: [1], 278: [40], 279: [3200]}
    write_tiff(tmp_path / "a.tif", tags | {273: [0]}, [bytes(3200)])
    data = bytearray((tmp_path / "a.tif").read_bytes())
    assert read_pixels(tmp_path / "a.tif").shape == (40, 40)
    data[-4:] = data[4:8]  # the next page is the first one
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(InputError, match="several pages"):
        read_pixels(tmp_path / "a.tif")


@pytest.mark.parametrize("changed", [{257: [4000]}, {278: [10]}, {279: [0]}, {279: [9999]}])
def test_a_tiff_that_lacks_strips_is_refused(tmp_path, changed):
    tags = {256: [40], 257: [40], 258: [16], 259: [1], 262: [1], 277: [1], 278: [40], 279: [3200]}
    write_tiff(tmp_path / "a.tif", tags | changed | {273: [0]}, [bytes(3200)])
    with pytest.raises(InputError, match="strips are missing"):
        read_pixels(tmp_path / "a.tif")


def test_a_picture_that_declares_too_many_pixels_is_refused(tmp_path):
    pixels = noise(40, 50, top=65535)
    write_png(tmp_path / "a.png", pixels, 16)
    chunks = [*png.Reader(bytes=(tmp_path / "a.png").read_bytes()).chunks()]
    chunks[0] = (b"IHDR", struct.pack(">II", 2**30, 2**30) + chunks[0][1][8:])
    with open(tmp_path / "a.png", "wb") as file:
        png.write_chunks(file, chunks)
    with pytest.raises(InputError, match="too large"):
        read_pixels(tmp_path / "a.png")


@pytest.mark.parametrize("smooth", [False, True])
def test_white_noise_is_estimated_and_smoother_noise_is_told_of(smooth, capsys):
    noise = np.random.default_rng(0).normal(0, 0.05, (3, 128, 128))
    if smooth:  # neighbours share it
        noise = sum(np.roll(noise, (i, j), (1, 2)) for i in (0, 1) for j in (0, 1)) / 2
    pixels = np.linspace(0.2, 0.8, 128, dtype=np.float32) + noise.astype(np.float32)
    picture = image_data.Picture("item", "source", pixels)
    found, said = image_data.estimate_noise(picture), capsys.readouterr().out
    if smooth:
        assert found < 0.025 and "twice as coarse" in said and "--sigma" in said
        assert image_data.estimate_noise(picture, sharp=False) == found
        assert not capsys.readouterr().out
    else:
        assert found == pytest.approx(0.05, rel=0.05) and not said


def test_a_mask_that_calls_most_pixels_missing_is_noted(tmp_path, capsys):
    picture = load_picture(None, "face", 32)
    known = np.zeros((32, 32), dtype=np.uint8)
    known[:8] = 255
    Image.fromarray(known).save(tmp_path / "few.png")
    Image.fromarray(255 - known).save(tmp_path / "most.png")
    for name, noted in (("few.png", True), ("most.png", False)):
        mask = make_mask(str(tmp_path / name), picture, True, 0.1, 0.9, torch.Generator())
        assert mask.mean() == (0.25 if noted else 0.75)
        assert ("75% of the pixels are missing" in capsys.readouterr().out) == noted
