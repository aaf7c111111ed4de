"""What is made of a method's image: the average in its place, the last step, what is doubted."""

import numpy as np
import pytest
import torch
from PIL import Image
from running import call, metrics, run_folder

import aseqdip_deblurring
import aseqdip_denoising
import aseqdip_inpainting
from utils import progress
from utils.figures import caption, percent
from utils.results import doubts, misfit_doubts, print_report, told_apart

TINY = ["--sample", "face", "--resize", 32, "--K", 6, "--width", 4, "--depth", 2, "--lr", 1e-3]


def test_the_average_is_the_result_and_the_known_pixels_come_back(monkeypatch, tmp_path):
    arguments = ["--hiar", 0.2, *TINY, "--device", "cpu"]
    plain, finished = tmp_path / "plain", tmp_path / "finished"
    assert call(monkeypatch, aseqdip_inpainting, *arguments, "--out", plain) == 0
    flags = ["--result", "average", "--finish", "consistency"]
    assert call(monkeypatch, aseqdip_inpainting, *arguments, "--out", finished, *flags) == 0

    plain, finished = (run_folder(out, "inpainting", "face") for out in (plain, finished))
    average = np.load(plain / "reconstruction_ema.npy")
    assert np.array_equal(np.load(finished / "reconstruction_unfinished.npy"), average)
    last = np.load(plain / "reconstruction.npy")
    assert np.array_equal(np.load(finished / "reconstruction_last.npy"), last)
    known = np.load(finished / "mask.npy")
    result = np.load(finished / "reconstruction.npy")
    y = np.load(finished / "measurement.npy")
    # mu is 0.001: what is left of the misfit in known pixels is its thousandth.
    assert np.allclose(result[known] - y[known], (average[known] - y[known]) / 1001, atol=1e-6)
    assert np.array_equal(result[~known], average[~known])
    figures = metrics(finished)
    assert figures["psnr_unfinished"] == metrics(plain)["psnr_ema"]
    assert figures["psnr_final"] > figures["psnr_unfinished"]
    for name, image in (("unfinished", average), ("final", result)):
        missed = np.linalg.norm(image[known] - y[known]) / np.linalg.norm(y[known])
        assert figures[f"misfit_{name}"] == pytest.approx(missed, rel=1e-4)


def test_the_last_step_is_taken_where_the_blur_is_not_linear(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(progress, "SILENCE", 0.01)
    arguments = ["--blur", "camera", *TINY, "--device", "cpu", "--out", tmp_path]
    flags = ["--finish", "consistency"]
    assert call(monkeypatch, aseqdip_deblurring, *arguments, *flags) == 0
    found = metrics(run_folder(tmp_path, "deblurring", "face"))
    assert found["psnr_final"] > found["psnr_unfinished"] + 3
    assert "the last step: at work for 0." in capsys.readouterr().err


def test_only_what_was_simulated_without_noise_counts_as_exact(monkeypatch, tmp_path):
    kernel = np.zeros((3, 3))
    kernel[1] = 0.2, 0.6, 0.2
    np.save(tmp_path / "kernel.npy", kernel)
    flags = ["--kernel", tmp_path / "kernel.npy", "--device", "cpu", "--finish", "consistency"]
    arguments = [*TINY, *flags, "--out", tmp_path / "simulated"]
    assert call(monkeypatch, aseqdip_deblurring, *arguments) == 0
    simulated = run_folder(tmp_path / "simulated", "deblurring", "face")
    rounded = np.rint(255 * np.load(simulated / "measurement.npy").clip(0, 1)).astype(np.uint8)
    Image.fromarray(rounded).save(tmp_path / "face.png")
    flags += ["--data", tmp_path / "face.png", "--measured", "--sigma", 0]
    arguments = [*TINY[4:], *flags, "--out", tmp_path / "measured"]
    assert call(monkeypatch, aseqdip_deblurring, *arguments) == 0
    measured = run_folder(tmp_path / "measured", "deblurring", "face")
    assert metrics(simulated)["misfit_final"] < 0.1 * metrics(measured)["misfit_final"]


@pytest.mark.parametrize(("method", "code"), [("self_guided_dip", 0), ("split_dip", 2)])
@pytest.mark.parametrize("flat", [False, True])
def test_noise_that_cannot_be_estimated_stops_who_needs_it(
    flat, method, code, monkeypatch, tmp_path, capsys
):
    green = np.zeros((32, 32, 3), np.uint8)  # two channels have no detail at all
    green[..., 1] = np.random.default_rng(0).integers(50, 200, (32, 32))
    Image.fromarray(np.full_like(green, 90) if flat else green).save(tmp_path / "green.png")
    flags = ["--data", tmp_path / "green.png", "--measured", "--method", method, *TINY[4:8]]
    arguments = [*flags, "--depth", 2, "--device", "cpu", "--out", tmp_path]
    assert call(monkeypatch, aseqdip_denoising, *arguments) == code
    assert ("sigma could not be estimated" in capsys.readouterr().err) == (code == 2)


def test_a_run_that_went_wrong_says_so():
    rows = [{"step": 0}, *({"loss": loss} for loss in (9.0, 4.0, 5.0))]
    good, bad = {"psnr": 30.0, "ssim": 0.9}, {"psnr": 28.0, "ssim": 0.8}
    assert doubts(rows, good, bad) == []
    assert doubts(rows, {}, {}) == []
    (loss,) = doubts([*rows, {"loss": 9.0}], good, bad)
    assert "rose from 4 to 9" in loss
    chance = [{"loss": loss} for loss in (9, 8, 7, 6, 5, 4, 5, 4, 4, 9)]  # one part is harder
    assert doubts(chance, good, bad) == []
    (loss,) = doubts([*chance, {"loss": 10.0}, {"loss": 10.0}], good, bad)
    assert "rose from 4.5 to 10" in loss
    late = [{"loss": 3.0}] * 37 + [{"loss": loss} for loss in (1e4, 2e4, 3e4)]
    (loss,) = doubts(late, good, bad)
    assert "rose from 3 to 1e+04" in loss
    psnr, ssim = doubts(rows, bad, good)
    assert "2 dB" in psnr and "0.1 of SSIM" in ssim and "its input" in psnr
    start = {"step": 0, "psnr": 30.5, "ssim": 0.85}  # better than the direct image
    (psnr,) = doubts([start, *rows[1:]], good, bad)
    what = "the image that it starts from by 0.5 dB of PSNR; that has 30.5"
    assert psnr == f"the result is worse than {what}"


def test_a_network_far_from_the_measurements_is_doubted():
    def doubted(made: float, result: float, noise: float, assumes: str = "") -> list[str]:
        return misfit_doubts(made, result, noise, assumes)

    assert doubted(0.019, 0.006, 0.01) == []
    (doubt,) = doubted(0.03, 0.01, 0.01)
    assert "3 times the noise" in doubt and doubt.endswith("too few updates")
    (doubt,) = doubted(0.03, 0.01, 0.01, "the mask")
    assert doubt.endswith("does not fit: the mask")
    assert doubted(0.009, 0.001, 0.001) == []  # what the pixel grid misses
    assert doubted(0.09, 0.0, 0.0) == []
    (doubt,) = doubted(0.3, 0.0, 0.0)
    assert "30.0 %" in doubt
    (doubt,) = doubted(0.01, 0.003, 0.01)
    assert "0.3 times that of the noise" in doubt
    nan = float("nan")
    assert doubted(nan, nan, float("inf")) == []  # of a black picture


def test_a_run_of_few_updates_misses_noisy_measurements(monkeypatch, tmp_path, capsys):
    arguments = ["--sigma", 10, *TINY, "--device", "cpu", "--out", tmp_path]
    assert call(monkeypatch, aseqdip_denoising, *arguments) == 0
    folder = run_folder(tmp_path, "denoising", "face")
    found, y = metrics(folder), np.load(folder / "measurement.npy")
    assert found["noise"] == pytest.approx(10 / 255 * y.size**0.5 / np.linalg.norm(y), rel=1e-4)
    told = capsys.readouterr().out
    times = found["misfit_final"] / found["noise"]
    assert times > 2 and f"misses the measurements by {times:.2g} times the noise" in told
    assert f"misfit {100 * found['noise']:.3g}" in told
    # The last step comes near enough, but does not hide it; and TV is no network.
    finished = [*arguments[:-1], tmp_path / "finished", "--finish", "consistency"]
    assert call(monkeypatch, aseqdip_denoising, *finished, "--method", "aseqdip,tv") == 0
    found = metrics(run_folder(tmp_path / "finished", "denoising", "face"))
    assert found["misfit_final"] < 2 * found["noise"] < found["misfit_unfinished"]
    doubt = found["doubts"][0]
    assert f"{found['misfit_unfinished'] / found['noise']:.2g} times the noise" in doubt
    assert doubt.endswith("it had too few updates")  # what is simulated fits
    folder = run_folder(tmp_path / "finished", "denoising", "face", "tv")
    assert metrics(folder)["doubts"] == []
    measured = ["--data", folder / "measurement.npy", "--measured", "--sigma", 10, *TINY[4:]]
    assert call(monkeypatch, aseqdip_denoising, *measured, "--out", tmp_path / "m") == 0
    found = metrics(run_folder(tmp_path / "m", "denoising", "measurement"))
    assert found["doubts"][0].endswith("something does not fit: sigma")


def test_an_item_draws_numbers_of_its_own():
    load = aseqdip_inpainting.image_data.load_picture
    face, coffee = load(None, "face", 32), load(None, "coffee", 32)
    draws = [
        torch.rand(3, generator=item.rng(seed, purpose))
        for item, seed, purpose in (
            (face, 0, "noise"), (face, 0, "noise"), (coffee, 0, "noise"), (face, 1, "noise"),
            (face, 0, "mask"),
        )
    ]  # fmt: skip
    assert torch.equal(draws[0], draws[1])
    assert not any(torch.equal(draws[0], other) for other in draws[2:])


def test_what_looks_the_same_is_shown_once():
    image = np.linspace(0, 10, 100).reshape(10, 10)
    hole = image.copy()
    hole[3:5, 3:5] += 1.0  # 5 grey levels of 255 in the root of the mean square
    pictures = {"truth": image, "final": image + 0.03, "hole": hole, "again": hole - 0.01}
    assert list(told_apart(pictures, (0, 10), "truth")) == ["truth", "hole"]
    assert list(told_apart(pictures, (0, 10), "final")) == ["truth", "final", "hole"]


def test_a_run_of_before_the_misfit_was_told_prints_no_empty_lines(tmp_path, capsys):
    metrics = {"images": ["input", "final"], "steps": 0, "n_params": 0, "seconds": 1.0}
    print_report(metrics | {"device": "cpu"}, tmp_path)
    assert "final" not in capsys.readouterr().out


def test_what_is_not_finite_is_a_dash():
    assert [percent(x) for x in (0.0123456, 1.0, None, float("nan"))] == [
        "1.23 %",
        "100 %",
        "-",
        "-",
    ]
    assert caption({"misfit": 0.5}) == "misfit 50.0 %" and caption({}) == ""


@pytest.mark.parametrize(
    "final, oracle, told",
    [(30.0, 31.5, True), (30.0, 29.5, False), (30.0, None, False), (None, 31.5, False)],
)
def test_the_oracle_is_told_where_it_is_better_than_the_result(
    final, oracle, told, tmp_path, capsys
):
    names = ("input", "unfinished", "final")
    metrics = {"images": names, "steps": 20, "n_params": 4, "seconds": 1.0, "device": "cpu"}
    metrics |= {f"{key}_{name}": 0.5 for key in ("psnr", "ssim", "nmse") for name in names}
    metrics |= {"psnr_final": final, "psnr_oracle": oracle, "step_oracle": 10}
    print_report(metrics, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    scored = [line for line in lines if " PSNR " in line]
    assert any("oracle" in line for line in scored) == told
    assert len({line.index(" PSNR ") for line in scored}) == 1  # one below the other
