"""Whole files or none, and hashes that tell contents apart."""

import os

import numpy as np
import pytest

from utils.errors import InputError
from utils.files import check_file, content_hash, files_of, write_atomically


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(InputError, match="a_folder.*: expected the name of a file, got a"):
        write_atomically(tmp_path, lambda file: file.write(b"new"))


def test_hashes_tell_shape_type_content_and_order_apart():
    a = np.arange(12, dtype=np.float32)
    hashes = {
        content_hash(a), content_hash(a.reshape(3, 4)), content_hash(a.astype(np.float64)),
        content_hash(a + 1), content_hash(a, "x"), content_hash("x", a), content_hash("x"),
    }  # fmt: skip
    assert len(hashes) == 7
    every_second = np.arange(24, dtype=np.float32)[::2] / 2
    assert content_hash(every_second) == content_hash(a)


def test_a_pipe_is_no_file_and_no_folder(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match="expected a file, got a pipe or a device"):
        check_file(tmp_path / "a.png")


def test_a_folder_with_the_name_of_a_file_is_no_work(tmp_path):
    (tmp_path / "a.png").mkdir()
    (tmp_path / "b.PNG").touch()
    assert files_of(tmp_path, (".png",), lambda path: True) == [tmp_path / "b.PNG"]
