"""The loop's callback."""

import pytest
import torch

import aseqdip_denoising
from operators.pixels import Identity
from utils.errors import InputError
from utils.folder import RunFolder
from utils.loop import Loop
from utils.progress import duration


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
