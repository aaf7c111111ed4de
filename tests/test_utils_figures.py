"""The pictures: what is drawn is what was given."""

import numpy as np

from utils.figures import comparison, curves


def images():
    truth = np.linspace(0, 1, 40 * 30).reshape(40, 30)
    return {"truth": truth, "input": truth + 0.1, "result": truth - 0.02}


def test_error_maps_are_five_times_the_error_on_the_same_scale():
    mask = ("mask", np.ones((40, 30)))
    figure = comparison(images(), {"input": "20 dB"}, "truth", mask, "title", (0, 1))
    shown = {axis.get_title(): axis.images[0] for axis in figure.axes[:3]}
    assert list(shown) == ["truth", "input\n20 dB", "result"]
    errors = [axis.images[0] for axis in figure.axes[4:]]
    np.testing.assert_allclose(errors[0].get_array(), 0.5)
    np.testing.assert_allclose(errors[1].get_array(), 0.1)
    for image in (*shown.values(), *errors):
        assert image.get_clim() == (0, 1)
    assert figure.axes[3].get_title() == "mask"


def test_without_a_truth_there_are_no_error_maps():
    pictures = images()
    del pictures["truth"]
    figure = comparison(pictures, {}, None, ("mask", np.ones((40, 30))), "title", (0, 1))
    assert [axis.get_title() for axis in figure.axes] == ["input", "result", "mask"]


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
    without = [{k: v for k, v in row.items() if k not in ("psnr", "ssim")} for row in rows]
    assert len(curves(without, "title").axes) == 1
