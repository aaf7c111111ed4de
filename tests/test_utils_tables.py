"""Means over images, and the Markdown tables."""

import math

import numpy as np
import pytest

from utils.tables import markdown_table, mean_curve, mean_over_images, read_psnr


def test_seeds_are_averaged_within_their_image_first():
    found = mean_over_images([("a", 10.0), ("a", 14.0), ("b", 20.0)])
    assert (found.mean, found.n) == (16.0, 2)
    assert found.std == pytest.approx(np.std([12.0, 20.0], ddof=1))
    assert mean_over_images([("a", 1.0), ("b", None)]).std is None
    assert mean_over_images([("a", None)]) is None
    perfect = mean_over_images([("a", math.inf), ("b", 20.0)])
    assert math.isinf(perfect.mean) and perfect.std is None


def test_a_mean_curve_weighs_images_alike_and_ends_with_the_first_run():
    logs = [
        ("a", {10: 20.0, 20: 22.0, 30: 30.0}), ("a", {10: 22.0, 20: 24.0}),
        ("b", {10: 25.0, 20: 29.0, 30: 31.0}), ("c", {}),
    ]  # fmt: skip
    curve = mean_curve(logs)
    np.testing.assert_array_equal(curve.steps, [10, 20])
    np.testing.assert_allclose(curve.mean, [23.0, 26.0])
    np.testing.assert_allclose(curve.std, [4 / 2**0.5, 6 / 2**0.5])
    assert curve.images == 2 and curve.best == 1
    np.testing.assert_array_equal(mean_curve(logs[:1]).std, [0, 0, 0])
    assert mean_curve([]) is mean_curve([("a", {})]) is None
    assert mean_curve([("a", {7: 20.0}), ("b", {9: 21.0})]) is None  # no step in common


def test_a_log_is_read_from_the_first_update_on(tmp_path):
    assert read_psnr(tmp_path / "log.csv") == {}
    (tmp_path / "log.csv").write_text("step,loss,psnr\n0,,5.0\n2,1.0,20.5\n4,0.5,nan\n6,0.2,\n")
    assert read_psnr(tmp_path / "log.csv") == {2: 20.5}
    (tmp_path / "log.csv").write_text("step,psnr\n0,twenty\n")
    with pytest.raises(ValueError):
        read_psnr(tmp_path / "log.csv")


def test_a_table_lines_up_and_its_cells_cannot_break_it():
    table = markdown_table(("method", "", "n"), [("a | b\nc", 1.5, None), ("d", "", 20)])
    assert table == (
        "| method   |     | n   |\n"
        "| -------- | --- | --- |\n"
        "| a \\| b c | 1.5 |     |\n"
        "| d        |     | 20  |\n"
    )
    assert markdown_table(("method",), []) == "| method |\n| ------ |\n"
