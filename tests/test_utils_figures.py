"""The pictures: what is drawn is what was given."""

import io
import re

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from baselines import styles
from utils.figures import (
    as_svg,
    comparison,
    content_box,
    curves,
    psnr_figure,
    side_by_side,
    zoom_box,
)
from utils.tables import Curve


def images():
    truth = np.linspace(0, 1, 40 * 30).reshape(40, 30)
    return {"truth": truth, "input": truth + 0.1, "result": truth - 0.02}


def shown(figure):
    """Return what is drawn in each axes, by its title; a detail, which has none, by a number."""
    return {
        axis.get_title() or i: axis.images[0] for i, axis in enumerate(figure.axes) if axis.images
    }


def test_error_maps_are_five_times_the_error_on_the_same_scale():
    mask = ("mask", np.ones((40, 30)))
    figure = comparison(images(), {"input": "20 dB"}, "truth", mask, "title", (0, 1))
    drawn = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in drawn] == [
        "truth", "mask", "input\n20 dB", "|error| x 5", "result", "|error| x 5",
    ]  # fmt: skip
    errors = [axis.images[0] for axis in drawn if "error" in axis.get_title()]
    np.testing.assert_allclose(errors[0].get_array(), 0.5)
    np.testing.assert_allclose(errors[1].get_array(), 0.1)
    for axis in figure.axes:
        if axis.get_title() != "mask":
            assert axis.images[0].get_clim() == (0, 1)


def test_without_a_truth_there_are_no_error_maps():
    pictures = images()
    del pictures["truth"]
    figure = comparison(pictures, {}, None, ("mask", np.ones((40, 30))), "title", (0, 1))
    assert [t for t in shown(figure) if isinstance(t, str)] == ["input", "result", "mask"]


def test_the_best_is_marked():
    figure = comparison(images(), {}, "truth", None, "title", (0, 1), best="result")
    bold = [axis.get_title() for axis in figure.axes if axis.title.get_fontweight() == "bold"]
    assert bold == ["result"]


def test_rows_of_images_are_equally_full():
    pictures = {f"method {i}": np.full((40, 40), 0.5) for i in range(7)}
    figure = comparison(pictures, {}, None, None, "title", (0, 1))
    places = [axis.get_position() for axis in figure.axes if axis.get_title()]
    lefts = [round(place.x0, 3) for place in places]
    assert lefts[:4] == sorted(set(lefts)) and lefts[4:] == lefts[:3]  # not six and one


def test_a_scan_is_cropped_to_the_body_and_a_photograph_is_not():
    image = np.zeros((100, 100))
    image[30:60, 40:90] = 200.0
    rows, columns = content_box(image, (0, 200.0))
    assert 20 <= rows.start <= 30 and 60 <= rows.stop <= 70
    assert 30 <= columns.start <= 40 and 90 <= columns.stop <= 100
    assert content_box(image / 200, (0, 1)) == (slice(None), slice(None))
    assert content_box(0 * image, (0, 200.0)) == (slice(None), slice(None))
    figure = comparison({"a": image, "b": image + 1}, {}, None, None, "title", (0, 200.0))
    assert shown(figure)["a"].get_array().shape == (
        rows.stop - rows.start,
        columns.stop - columns.start,
    )


def test_curves_show_every_logged_step():
    rows = [{"step": 0, "seconds": 0.0, "psnr": 20.0, "ssim": 0.5}] + [
        {"step": s, "loss": 3.0 / s, "data_term": 2.0 / s, "autoencoding_term": 1.0 / s,
         "psnr": 20.0 + s, "ssim": 0.6, "seconds": 1.0} for s in (2, 4, 6)
    ]  # fmt: skip
    figure = curves(rows, "title")
    psnr = figure.axes[0].lines[0]
    np.testing.assert_array_equal(psnr.get_xydata(), [[0, 20], [2, 22], [4, 24], [6, 26]])
    assert [line.get_label() for line in figure.axes[1].lines] == [
        "data term", "autoencoding term", "loss",
    ]  # fmt: skip
    assert figure.axes[1].get_yscale() == "linear"  # 3 / 2 to 1 / 6 is less than a decade
    steep = [row | {"autoencoding_term": 0.0, "unseen_term": 1e-3} for row in rows[1:]]
    terms = curves(steep, "title").axes[1]
    assert [line.get_label() for line in terms.lines] == ["data term", "held-out term", "loss"]
    assert terms.get_yscale() == "log"
    without = [{k: v for k, v in row.items() if k not in ("psnr", "ssim")} for row in rows]
    assert len(curves(without, "title").axes) == 1


def test_the_detail_shown_is_where_the_images_differ_most():
    rng = np.random.default_rng(0)
    first = rng.random((60, 80))
    second, direct = first.copy(), rng.random((60, 80))
    second[10:25, 60:75] += 1
    row, column, side = zoom_box([first, second])
    assert side == 15 and (row, column) == (10, 60)
    colour = [np.stack([x] * 3, axis=-1) for x in (first, second)]
    assert zoom_box(colour) == (row, column, side)
    pictures = {"direct": direct, "first": first / 2, "second": second / 2}
    figure = comparison(pictures, {}, None, None, "title", (0, 1), direct="direct")
    details = [
        image.get_array() for title, image in shown(figure).items() if isinstance(title, int)
    ]
    for detail, picture in zip(details, pictures.values(), strict=True):
        np.testing.assert_array_equal(detail, picture[10:25, 60:75])


def test_the_detail_shows_what_the_truth_has_there():
    truth = np.zeros((60, 80))
    truth[30:45, 5:20] = np.random.default_rng(1).random((15, 15))
    first, second = np.zeros((2, 60, 80))
    second[10:25, 60:75] = 1  # an empty corner
    second[30:45, 5:20] = 0.3
    assert zoom_box([first, second])[:2] == (10, 60)
    row, column, _ = zoom_box([first, second], truth)
    assert abs(row - 30) <= 2 and abs(column - 5) <= 2


def test_without_a_truth_the_detail_shows_what_the_last_result_has_there():
    direct, last = np.zeros((2, 60, 80))
    last[20:55, 2:25] = 0.5 + 0.3 * np.random.default_rng(1).random((35, 23))
    first = last.copy()
    first[30:45, 5:20] -= 0.05
    first[10:25, 60:75] += 0.3  # streaks in the air
    pictures = {"direct": direct, "first": first, "last": last}
    figure = comparison(pictures, {}, None, None, "title", (0, 1), direct="direct")
    (box,) = [p for p in figure.axes[2].patches if isinstance(p, Rectangle)]
    assert box.get_x() + box.get_width() <= 26 and box.get_y() >= 15


@pytest.mark.parametrize("differs", [True, False])
def test_the_detail_shows_the_hole_even_if_more_differs_elsewhere(differs):
    first, second = np.zeros((2, 60, 80))
    second[10:25, 60:75] = 1
    second[30:45, 5:20] = 0.1 * differs
    hole = np.zeros((60, 80), bool)
    hole[30:45, 5:20] = True
    assert zoom_box([first, second], focus=hole) == (30, 5, 15)
    assert zoom_box([first, second], focus=np.zeros_like(hole)) == zoom_box([first, second])
    pictures = {"first": first, "second": second}
    figure = comparison(pictures, {}, None, None, "title", (0, 1), focus=hole)
    (box,) = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    assert (box.get_x(), box.get_y()) == (4.5, 29.5)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (40, 2), (4, 4)])
def test_the_detail_of_a_tiny_or_narrow_image_lies_in_it(shape):
    image = np.random.default_rng(0).random(shape)
    for images in ([image], [image, image + 1]):
        row, column, side = zoom_box(images)
        assert side >= 1 and row + side <= shape[0] and column + side <= shape[1]


def test_of_one_image_the_detail_is_where_the_texture_is():
    image = np.zeros((60, 80))
    image[:, 40:] = 1  # one long edge
    image[10:28, 60:78] = np.random.default_rng(0).random((18, 18))
    row, column, side = zoom_box([image])
    assert row >= 10 and row + side <= 28 and column >= 60 and column + side <= 78


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("n", [1, 5, 12])
def test_many_methods_fit_and_those_without_an_image_say_why(n, truth):
    rng = np.random.default_rng(0)
    pictures = {"right": rng.random((40, 32, 3))} if truth else {}
    pictures |= {f"method {i}": rng.random((40, 32, 3)) for i in range(n)}
    pictures["broken $method$"] = "not run: the package $x$ is not installed"
    right = "right" if truth else None
    figure = comparison(pictures, {"method 0": "20.00 dB"}, right, None, "a_b$c", (0, 1))
    figure.savefig(io.BytesIO(), format="png")
    titles = [axis.get_title() for axis in figure.axes]
    assert "method 0\n20.00 dB" in titles
    assert sum("|error|" in title for title in titles) == (n if truth else 0)
    assert sum("not run" in text.get_text() for axis in figure.axes for text in axis.texts) == 1
    boxes = [axis.get_window_extent() for axis in figure.axes]
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


CURVES = {
    "aSeqDIP": Curve(np.array([5, 10, 20]), np.array([20.0, 25.0, 24.0]), np.ones(3), 2),
    "aSeqDIP, lambda 0": Curve(np.array([10, 20]), np.array([23.0, 21.0]), np.zeros(2), 1),
    "a_b$c <i>": Curve(np.array([10, 20]), np.array([-300.0, 24.0]), np.zeros(2), 1),
}


def test_psnr_keeps_the_paper_s_styles_and_marks_the_highest_mean():
    figure = psnr_figure(
        {"one": CURVES, "two": {"aSeqDIP": CURVES["aSeqDIP"]}},
        styles(),
        "t",
        levels={"FBP": 20.0, "TV": 26.5},
    )
    figure.savefig(io.BytesIO(), format="png")
    axis, other = figure.axes
    first, best, second, _, third, _, level, above = axis.lines
    assert first.get_color() == second.get_color() != third.get_color()
    assert (first.get_linestyle(), second.get_linestyle()) == ("-", "--")
    assert other.lines[0].get_color() == first.get_color()
    np.testing.assert_array_equal(first.get_xydata(), [[5, 20], [10, 25], [20, 24]])
    assert set(best.get_xdata()) == {10} and set(level.get_ydata()) == {20.0}
    assert level.get_linestyle() != above.get_linestyle() and axis.get_ylim()[1] > 26.5
    assert axis.get_ylim()[0] > 0  # one bad start does not flatten the rest
    (band,) = axis.collections  # of several images alone
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == 19 and heights.max() == 26
    told = [text.get_text() for text in axis.get_legend().get_texts()]
    assert told[:3] == ["aSeqDIP, 24.00 dB", "aSeqDIP, lambda 0, 21.00 dB", "a_b$c <i>, 24.00 dB"]
    assert told[3:] == ["FBP, 20.00 dB", "TV, 26.50 dB"]
    assert "last point" in axis.get_legend().get_title().get_text()
    figure = psnr_figure({"": CURVES}, styles(), results={"aSeqDIP": 25.5})  # such as an average
    legend = figure.axes[0].get_legend()
    told = [text.get_text() for text in legend.get_texts()]
    assert told[:2] == ["aSeqDIP, 25.50 dB", "aSeqDIP, lambda 0, 21.00 dB"]
    assert "PSNR of the result" in legend.get_title().get_text()


def test_many_methods_are_told_apart():
    many = {f"method {i}": CURVES["aSeqDIP"] for i in range(8)}
    lines = psnr_figure({"": many}, styles()).axes[0].lines[::2]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 6


def test_an_svg_has_its_text_as_text_and_the_same_bytes_each_time():
    svg, again = (as_svg(psnr_figure({"": CURVES}, styles()), "a-1") for _ in range(2))
    assert svg == again and svg.startswith("<svg ") and "metadata" not in svg
    assert "weight updates</text>" in svg and "a_b$c &lt;i&gt;, 24.00 dB</text>" in svg
    assert not re.search(r'\bwidth="\d+(\.\d+)?pt"', svg)  # the page chooses it
    ids = set(re.findall(r' id="([^"]*)"', svg))
    assert ids and all(name.startswith("a-1-") for name in ids)
    assert set(re.findall(r'(?:url\(|href=")#([^)"]*)', svg)) <= ids


@pytest.mark.parametrize("shape, expected", [((60, 120), (15, 30)), ((40, 20), (60, 30)),
                                             ((10, 100), (10, 100))])  # fmt: skip
def test_pictures_in_a_row_keep_their_shape_beside_an_image(shape, expected):
    kernels = np.random.default_rng(0).uniform(0.1, 5.0, (3, 10, 10))
    found = side_by_side(kernels, shape)
    assert found.shape == expected
    top, left = (expected[0] - 10) // 2, (expected[1] - 30) // 2
    inside = found[top : top + 10, left : left + 30]
    np.testing.assert_allclose(inside, np.hstack([k / k.max() for k in kernels]))
    assert np.count_nonzero(found) == kernels.size  # black around them
