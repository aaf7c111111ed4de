"""An interrupted run goes on to the bytes of an undisturbed one: every method, every task."""

import signal

import numpy as np
import pytest
from running import call, digest, log_of, metrics, run_folder, stop_half_way
from test_methods import ITERATIVE, SAMPLERS, SCRIPTS, STEPS, flags_of, settings_for

from baselines import split_dip
from utils import runs
from utils.stopping import AtNoise

# Each method is interrupted in the first task that has it, aSeqDIP in every task and with every
# rule of --stop.
METHODS = {
    name: task for task in reversed(ITERATIVE) for name in (*ITERATIVE[task], *SAMPLERS[task])
}
pytestmark = pytest.mark.usefixtures("gaussian_priors", "no_figures")
CASES = [
    *((task, "aseqdip", "fixed") for task in SCRIPTS),
    *((task, name, "fixed") for name, task in METHODS.items()),
    ("denoising", "split_dip", "fixed"),
    ("ct", "split_dip", "noise"),
    ("ct", "aseqdip", "noise"),
    ("deblurring", "split_dip", "fixed"),
    ("denoising", "aseqdip", "es_wmv"),
    ("mri", "aseqdip", "holdout"),
    ("ct", "vanilla_dip", "holdout"),
    ("inpainting", "vanilla_dip members=3", "fixed"),
]


class AtHalf(AtNoise):
    """Stop within the few steps of a test."""

    def __init__(self, A, y, limit, decay):
        super().__init__(A, y, 0.45 * y.norm().item(), decay)


@pytest.mark.parametrize("task, method, stop", CASES)
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    task, method, stop, tmp_path, monkeypatch, kspace, capsys
):
    monkeypatch.setattr(split_dip, "EVERY", 3)  # several of its images in the steps of a test
    method, *more = method.split()
    flags = flags_of(task, tmp_path, kspace, "--method", method, *settings_for(method))
    flags += ["--stop", stop, *(["--set", *more] if more else [])]
    if stop == "noise":
        flags += ["--photons", 3000, "--pixel-mm", 1, "--lr", "0.003"]
        flags += ["--result", "average", "--ema-decay", "0.5"]
        monkeypatch.setattr(runs, "AtNoise", AtHalf)
    assert call(monkeypatch, SCRIPTS[task], *flags, "--out", tmp_path / "whole") == 0
    whole = run_folder(tmp_path / "whole", task, "item", method)
    found = metrics(whole)
    assert 0 < found["steps"] <= STEPS and np.isfinite(found["psnr_final"])
    assert "psnr_oracle" in found
    assert stop != "noise" or found["steps"] < STEPS
    assert (found["n_params"] > 0) == (method not in SAMPLERS[task])
    k_stop = 3 if method == "aseqdip" else min(7, found["steps"] - 1)
    stop_half_way(monkeypatch, SCRIPTS[task], flags, k_stop)
    capsys.readouterr()
    assert call(monkeypatch, SCRIPTS[task], *flags) == 0
    said = capsys.readouterr().out
    assert f"resumed after outer step {k_stop}" in said and "note:" not in said
    resumed = run_folder(tmp_path / "out", task, "item", method)
    assert digest(whole) == digest(resumed)
    for path in whole.glob("*.npy"):
        assert path.read_bytes() == (resumed / path.name).read_bytes(), path.name
    for a, b in zip(log_of(whole), log_of(resumed), strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    same = metrics(whole).keys() - {"seconds"}
    assert {k: metrics(resumed)[k] for k in same} == {k: metrics(whole)[k] for k in same}


@pytest.mark.parametrize("stop", ["fixed", "holdout"])
def test_what_a_method_has_prepared_is_kept(stop, tmp_path, monkeypatch, kspace, capsys):
    flags = flags_of("mri", tmp_path, kspace, "--method", "split_dip", "--stop", stop)
    flags += settings_for("split_dip")
    assert call(monkeypatch, SCRIPTS["mri"], *flags, "--out", tmp_path / "whole") == 0
    made, classical = [], split_dip.classical

    def signalled(*arguments, **settings):
        made.append(arguments)
        if len(made) == 3:  # z is the first
            signal.raise_signal(signal.SIGINT)
        return classical(*arguments, **settings)

    monkeypatch.setattr(split_dip, "classical", signalled)
    assert call(monkeypatch, SCRIPTS["mri"], *flags) == 130
    assert "after classical image 2 of 3; repeat" in capsys.readouterr().err and len(made) == 3
    assert call(monkeypatch, SCRIPTS["mri"], *flags) == 0
    said = capsys.readouterr().out
    assert "resumed before the first step" in said and "note:" not in said
    assert len(made) == 5  # z once more, and the third part
    whole, resumed = (
        run_folder(tmp_path / name, "mri", "item", "split_dip") for name in ("whole", "out")
    )
    assert digest(whole) == digest(resumed)
