"""Arrays in the formats that people bring, against what other writers put into them."""

import struct
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest
import scipy.io

from utils import arrays
from utils.arrays import load_array
from utils.errors import InputError

RNG = np.random.default_rng(0)
COMPLEX = (RNG.normal(size=(5, 4, 3)) + 1j * RNG.normal(size=(5, 4, 3))).astype(np.complex64)


def write_mat73(path, **variables):
    """Write as MATLAB's -v7.3 does: HDF5 behind 512 bytes, axes reversed, complex as a pair."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in variables.items():
            stored = array.T
            if np.iscomplexobj(array):
                stored = np.zeros(array.T.shape, [("real", "f4"), ("imag", "f4")])
                stored["real"], stored["imag"] = array.T.real, array.T.imag
            file[name] = stored
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    return path


def write_cfl(path, array, dims):
    """Write as BART does: complex64, the first axis fastest, dimensions in a text file."""
    array.astype("<c8").ravel(order="F").tofile(path.with_suffix(".cfl"))
    path.with_suffix(".hdr").write_text(
        f"# Dimensions\n{' '.join(map(str, dims))} \n# Command\nx\n"
    )
    return path


def write_all(folder):
    """Write COMPLEX in each format; return the files."""
    np.save(folder / "a.npy", COMPLEX)
    np.save(folder / "big.npy", COMPLEX.astype(">c8"))
    np.save(folder / "fortran.npy", np.asfortranarray(COMPLEX))
    np.savez(folder / "b.npz", x=COMPLEX)
    scipy.io.savemat(folder / "five.mat", {"x": COMPLEX})
    scipy.io.savemat(folder / "five_packed.mat", {"x": COMPLEX}, do_compression=True)
    write_mat73(folder / "seven.mat", x=COMPLEX)
    with h5py.File(folder / "c.H5", "w") as file:
        file["x"] = COMPLEX
    return [path for path in folder.iterdir()]


def test_one_array_comes_out_of_each_format_as_it_went_in(tmp_path):
    files = write_all(tmp_path)
    assert len(files) == 8
    for path in files:
        x = load_array(path, "x")
        np.testing.assert_array_equal(x, COMPLEX, err_msg=path.name)
        assert x.dtype.isnative, path.name


def test_the_content_decides_not_the_name(tmp_path):
    for path in write_all(tmp_path):
        named = path.rename(tmp_path / f"{path.name}.bin")
        np.testing.assert_array_equal(load_array(named, "x"), COMPLEX, err_msg=named.name)


def test_an_array_is_chosen_by_name_or_because_it_alone_fits(tmp_path, capsys):
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"fov": 220.0, "te": [[1, 2, 3]], "data": COMPLEX, "who": "me"})
    np.testing.assert_array_equal(load_array(path, "kspace"), COMPLEX)
    assert "reading `data`" in capsys.readouterr().out
    scipy.io.savemat(path, {"kspace": COMPLEX, "maps": 2 * COMPLEX})
    np.testing.assert_array_equal(load_array(path, "kspace"), COMPLEX)
    np.testing.assert_array_equal(load_array(path, "kspace", "maps"), 2 * COMPLEX)
    assert capsys.readouterr().out == ""
    with pytest.raises(InputError, match="--variable NAME"):
        load_array(path, "image")
    with pytest.raises(InputError, match="no array `nothing`.*kspace.*maps"):
        load_array(path, "kspace", "nothing")


def test_hdf5_below_groups_is_found_by_its_path(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["raw/first"], file["raw/second"] = COMPLEX, 2 * COMPLEX
    np.testing.assert_array_equal(load_array(tmp_path / "x.h5", "", "raw/second"), 2 * COMPLEX)


@pytest.mark.parametrize("dims", [(5, 4, 1, 3), (1, 5, 4, 3), (5, 1, 4, 3)])
def test_bart_s_axes_are_known(tmp_path, dims):
    path = write_cfl(tmp_path / "x", COMPLEX, [*dims, *[1] * 12])
    for half in (path.with_suffix(".cfl"), path.with_suffix(".hdr")):
        np.testing.assert_array_equal(load_array(half, ""), np.moveaxis(COMPLEX, -1, 0))


def test_a_pair_of_bart_that_does_not_fit_is_refused(tmp_path):
    path = write_cfl(tmp_path / "x", COMPLEX, [5, 4, 1, 3])
    for text in ("# Dimensions\n5 4 2 3\n", "# Dimensions\n", "", "# Dimensions\n5 -4 -1 3\n"):
        path.with_suffix(".hdr").write_text(text)
        with pytest.raises(InputError, match=r"\.cfl"):
            load_array(path.with_suffix(".cfl"), "")
    path.with_suffix(".hdr").unlink()
    with pytest.raises(InputError, match=r"\.hdr: no such file"):
        load_array(path.with_suffix(".cfl"), "")


def test_nifti_comes_out_as_dicom_runs_whatever_way_it_was_stored(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    # In patient coordinates: x to the left, y backwards, z upwards.
    volume = RNG.normal(size=(2, 6, 5)).astype(np.float32)  # slices, rows, columns
    lps = np.transpose(volume, (2, 1, 0))
    affine = np.diag([-0.7, -0.8, 3.0, 1.0])  # NIfTI's own axes point right and forwards
    stored = nibabel.Nifti1Image(lps, affine)
    for codes in ("LPS", "RAS", "ASR", "SLP"):
        turn = nibabel.orientations.ornt_transform(
            nibabel.orientations.io_orientation(affine), nibabel.orientations.axcodes2ornt(codes)
        )
        for suffix in (".nii", ".nii.gz"):
            path = tmp_path / f"{codes}{suffix}"
            nibabel.save(stored.as_reoriented(turn), path)
            np.testing.assert_array_equal(load_array(path, ""), volume, err_msg=path.name)
            with arrays.opened(path) as found:
                assert found.of[""].pixel_mm == pytest.approx(0.7)
    scaled = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 6, 2), affine)
    scaled.header.set_slope_inter(2, -1000)
    nibabel.save(scaled, tmp_path / "scaled.nii")
    with open(tmp_path / "scaled.nii", "r+b") as file:  # nibabel writes its own slope
        file.seek(112)
        file.write(np.array([2, -1000], "<f4").tobytes())
    assert load_array(tmp_path / "scaled.nii", "")[0, 0, 1] == 2 * 12 - 1000


def test_without_nibabel_the_user_is_told_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    (tmp_path / "x.nii").write_bytes(bytes(344) + b"n+1\0" + bytes(100))
    with pytest.raises(InputError, match="pip install nibabel"):
        load_array(tmp_path / "x.nii", "")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [0, 16, 200, 14])
def test_mat_files_with_numbers_of_no_known_type_are_refused(tmp_path, packed, kind):
    """scipy ends the process on them."""
    scipy.io.savemat(tmp_path / "x.mat", {"x": np.ones((5, 5))})
    data = bytearray((tmp_path / "x.mat").read_bytes())
    at = data.index(np.array([9, 200], "<u4").tobytes(), 128)  # doubles, 200 bytes
    data[at] = kind
    if packed:
        body = zlib.compress(bytes(data[128:]))
        data[128:] = np.array([15, len(body)], "<u4").tobytes() + body
    (tmp_path / "x.mat").write_bytes(data)
    with pytest.raises(InputError, match=f"unknown type {kind}"):
        load_array(tmp_path / "x.mat", "x")


def header(shape, dtype="<c8"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text


def test_what_a_header_declares_and_the_file_cannot_hold_is_refused(tmp_path):
    (tmp_path / "huge.npy").write_bytes(header("(1000000, 1000000, 1000)"))
    with h5py.File(tmp_path / "huge.h5", "w") as file:  # no chunk of it is stored
        file.create_dataset("x", (10**6, 10**7), "c8", chunks=(1, 1))
    for name, words in (("huge.npy", "cut short"), ("huge.h5", "too large")):
        with pytest.raises(InputError, match=words):
            load_array(tmp_path / name, "x")


def test_what_a_small_file_unpacks_to_is_known_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "LARGE", 2**20)
    zeros = np.zeros((1100, 1100), np.uint8)
    np.savez_compressed(tmp_path / "x.npz", x=zeros)
    scipy.io.savemat(tmp_path / "x.mat", {"x": zeros}, do_compression=True)
    for name in ("x.npz", "x.mat"):
        with pytest.raises(InputError, match="made to fill the memory"):
            load_array(tmp_path / name, "x")
    np.savez_compressed(tmp_path / "y.npz", x=RNG.random((400, 400)))  # as large as it says
    assert load_array(tmp_path / "y.npz", "x").shape == (400, 400)


def test_an_empty_array_and_a_number_are_told(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((0, 5)))
    with pytest.raises(InputError, match=r"an empty array, \(0, 5\)"):
        load_array(tmp_path / "x.npy", "x")
    np.save(tmp_path / "x.npy", np.float64(3))
    assert load_array(tmp_path / "x.npy", "x") == 3


def test_complex_numbers_whose_parts_overlap_are_refused(tmp_path):
    """A damaged exponent makes h5py read a part as twice as long; HDF5 then ends the process."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=np.ones((40, 36), "c8"), compression="gzip")
    data = (tmp_path / "x.h5").read_bytes()
    bias = struct.pack("<HHBBBBI", 0, 32, 23, 8, 0, 23, 127)  # of a part: bits, exponent, bias
    assert data.count(bias) == 2
    (tmp_path / "x.h5").write_bytes(data.replace(bias, bias[:-4] + b"w" + bias[-3:], 1))
    with pytest.raises(InputError, match="overlap"):
        load_array(tmp_path / "x.h5", "x")


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=np.array([{}], dtype=object))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(InputError, match="pickled"):
            load_array(tmp_path / name, "x")


def test_groups_that_hold_themselves_end(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = COMPLEX
        file.create_group("a")["again"] = file["/"]
        file["lost"] = h5py.ExternalLink("/nowhere", "x")
    np.testing.assert_array_equal(load_array(tmp_path / "x.h5", "x"), COMPLEX)


def test_groups_nested_by_the_thousand_end_soon(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"], group = COMPLEX, file
        for _ in range(500):
            group = group.create_group("g")
    np.testing.assert_array_equal(load_array(tmp_path / "x.h5", "x"), COMPLEX)


def test_an_hdf5_file_that_another_program_writes_is_not_called_damaged(tmp_path):
    write = (
        "import h5py, sys; f = h5py.File('x.h5', 'w'); f['x'] = 1; print(1, flush=True); input()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", write], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        writer.stdout.readline()
        with pytest.raises(InputError, match="another program has it open"):
            load_array(tmp_path / "x.h5", "x")
    finally:
        writer.communicate(b"\n")
