"""The loop's callback, and how far it tells that it is."""

import re
import threading
import time

import pytest
import torch

import aseqdip_denoising
from operators.pixels import Identity
from utils import progress
from utils.callback import Callback
from utils.errors import InputError
from utils.folder import RunFolder
from utils.loop import Loop
from utils.methods import Method
from utils.progress import Lines, duration


@pytest.fixture
def loop(tmp_path):
    """Return a function that makes the loop of one run folder, as often as it is called."""

    def make():
        args = aseqdip_denoising.Args(out=tmp_path, ema_decay=0.8, log_every=100)
        folder = RunFolder(args, "denoising", "method", "item", ())
        A = Identity((1, 4, 5))
        return Loop(folder, args, lambda x: {}, torch.zeros(1, 1, 4, 5), A, inner=2)

    return make


def test_the_average_is_the_normalised_exponential_one(loop):
    generator = torch.Generator().manual_seed(0)
    iterates = torch.randn(7, 1, 1, 4, 5, dtype=torch.complex64, generator=generator)
    run = loop()
    run.start()
    for k in run.outer(7):
        run.record(k, iterates[k - 1], {"loss": torch.tensor(1.0)})
        weights = 0.8 ** torch.arange(k - 1, -1, -1, dtype=torch.float32)
        expected = torch.einsum(
            "k,k...->...", (weights / weights.sum()).to(iterates.dtype), iterates[:k]
        )
        torch.testing.assert_close(run.averaged(), expected)


def test_random_numbers_of_another_kind_of_device_are_refused(loop):
    generator = torch.Generator().manual_seed(3)
    run = loop()
    run.start(noise=generator)
    for k in run.outer(1):
        run.record(k, torch.ones(1, 1, 4, 5), {"loss": torch.tensor(1.0)})
    path = run.folder.path / "checkpoint.pt"
    del run  # it holds the folder
    again = loop()
    again.start(noise=torch.Generator())
    saved = torch.load(path, weights_only=True)
    saved["state"]["noise"] = torch.zeros(16, dtype=torch.uint8)  # as a GPU's
    torch.save(saved, path)
    with pytest.raises(InputError, match="another kind of device"):
        again.start(noise=torch.Generator())


def test_times_are_written_for_people():
    times = {0.12: "0.1 s", 34: "34 s", 119: "119 s", 300: "5 min", 12240: "3.4 h"}
    assert {seconds: duration(seconds) for seconds in times} == times


def take(run, steps, seconds=0.0):
    """Take steps that last so long."""
    run.start()
    for k in run.outer(steps):
        time.sleep(seconds)
        run.record(k, torch.ones(1, 1, 4, 5), {"loss": torch.tensor(1.0)})


def test_hours_are_told_before_the_first_step_ends(loop, monkeypatch, capsys):
    monkeypatch.setattr("utils.loop.WARM_UP_SECONDS", 0.05)
    monkeypatch.setattr("utils.loop.HOURS_AHEAD", 0.0)
    run = loop()
    run.start()
    steps = run.outer(100_000)
    next(steps)
    time.sleep(0.2)
    said = capsys.readouterr().err
    assert "the 200000 updates that are left take more than 83 min" in said
    steps.close()
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_the_estimate_is_of_the_first_step_where_it_is_slow(loop, monkeypatch, capsys):
    monkeypatch.setattr("utils.loop.WARM_UP_SECONDS", 0.05)
    monkeypatch.setattr("utils.loop.LONG_RUN_SECONDS", 0.1)
    take(loop(), 6, seconds=0.1)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "On this CPU" in line]
    assert "10 updates that are left take about 0." in line  # five steps of two


def test_a_slow_first_step_among_quick_ones_is_no_long_run(loop, monkeypatch, capsys):
    monkeypatch.setattr("utils.loop.LONG_RUN_SECONDS", 5.0)
    run = loop()
    run.start()
    for k in run.outer(200):
        time.sleep(0.3 if k == 1 else 0)  # 200 of those would be a minute
        run.record(k, torch.ones(1, 1, 4, 5), {"loss": torch.tensor(1.0)})
    assert "On this CPU" not in capsys.readouterr().err


def test_a_log_gets_a_line_each_tenth_and_each_minute(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def lines(seconds, total, done=0):
        with Lines(total, done) as told:
            for _ in range(total - done):
                now[0] += seconds
                told.set_postfix({"PSNR": "20.00 dB"})
                told.update()
        return capsys.readouterr().err.splitlines()

    said = lines(1.0, 100)
    assert len(said) == 10 and "\r" not in "".join(said)
    assert said[0] == "step 10 of 100, PSNR 20.00 dB, 10 s, about 90 s left"
    assert said[-1] == "step 100 of 100, PSNR 20.00 dB, 100 s"
    assert len(lines(0.001, 100)) == 1  # a short run: its end alone
    with Lines(10, 0) as told:  # scores that come once a while are shown once
        told.set_postfix({"PSNR": "20.00 dB"})
        for _ in range(2):
            now[0] += 70
            told.update()
    assert ["PSNR" in line for line in capsys.readouterr().err.splitlines()] == [True, False]
    slow = lines(30.0, 100)
    assert len(slow) == 50 and slow[0].startswith("step 2 of 100")
    assert lines(1.0, 100, done=50)[0] == "step 60 of 100, PSNR 20.00 dB, 10 s, about 40 s left"


def test_a_method_without_steps_and_the_last_step_are_told_while_they_last(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SILENCE", 0.05)
    ended = threading.active_count()
    slow = Method("slow", "Slow", lambda y, A, net, *, callback: time.sleep(0.2))
    slow(None, None, None, Callback())
    said = capsys.readouterr().err.splitlines()
    assert 2 <= len(said) <= 4 and re.fullmatch(r"slow: at work for 0\.\d s", said[0])
    with pytest.raises(InputError, match="slow: no"), progress.at_work("the last step"):
        time.sleep(0.12)
        raise InputError("slow: no")
    assert "the last step: at work for 0." in capsys.readouterr().err
    assert threading.active_count() == ended


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    assert isinstance(progress.progress(3, 0), Lines)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress.progress(3, 1) as bar:
        assert type(bar).__name__ == "tqdm" and bar.n == 1
