"""Pictures and masks: what is read is what the file holds."""

import numpy as np
import png
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image

from utils import image_data
from utils.errors import InputError
from utils.image_data import box_mask, load_mask, load_picture, random_mask


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
        expected = np.moveaxis(np.asarray(kind.convert("RGB")), -1, 0) / 255
        read = load_picture(tmp_path / f"{name}.tif", "", None).pixels
        np.testing.assert_allclose(read, expected, atol=1e-7, err_msg=name)
    tifffile.imwrite(tmp_path / "white.tif", pixels[..., 0].astype(np.uint16),
                     photometric="miniswhite")  # fmt: skip
    with pytest.raises(InputError, match="MINISWHITE of 16 bits"):
        load_picture(tmp_path / "white.tif", "", None)


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
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(load_mask(path, (40, 50)), mask, err_msg=path.name)


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
