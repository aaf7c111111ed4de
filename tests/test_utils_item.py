"""What is reconstructed, and what trained weights have seen of it."""

from dataclasses import dataclass

import numpy as np
import pytest

from utils.errors import InputError
from utils.item import Item, refuse_seen


@dataclass
class Image(Item):
    values: np.ndarray

    @property
    def own(self):
        return (self.values,)


def image(path, seed, source=None):
    values = np.random.default_rng(seed).random((4, 4))
    return Image("x", str(path) if source is None else source, values, path=path)


def test_an_image_that_was_seen_is_refused(tmp_path):
    for name in ("a", "b", "copy of a"):
        (tmp_path / name).write_text(name[-1])
    seen = [image(tmp_path / "b", 1).facts, image(tmp_path / "a", 0).facts]
    for other, where in (
        (image(tmp_path / "copy of a", 0), "it"),
        (image(tmp_path / "copy of a", 5), "its file"),  # another slice of it, for one
        (image(None, 0, "embedded"), "it"),
    ):
        with pytest.raises(InputError, match=f"the prior was trained on {where} \\(.*/a\\), so"):
            refuse_seen(other, seen, "prior")
    with pytest.raises(InputError, match="the prior was trained on its file"):
        refuse_seen(
            image(None, 3, "the same sample"), [image(None, 2, "the same sample").facts], "prior"
        )


def test_other_images_are_not_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    a, b = (image(tmp_path / name, seed, "slices/0.npy") for seed, name in enumerate("ab"))
    refuse_seen(b, [a.facts], "prior")  # two folders may have a file of this name
    refuse_seen(image(None, 3, "a sample"), [a.facts, image(None, 2, "another").facts], "prior")
    refuse_seen(a, [], "prior")


def test_a_library_s_file_is_that_of_its_sample(tmp_path):
    (tmp_path / "a").write_text("a")
    sample = image(None, 1, "of a library")
    assert sample.file is None and sample.facts["file_sha256"] is None
    sample.library_file = tmp_path / "a"
    assert sample.facts["file_sha256"] == image(tmp_path / "a", 0).facts["file_sha256"]
