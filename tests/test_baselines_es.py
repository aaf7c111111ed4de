"""ES-DIP returns an image of the deep image prior's own sequence."""

import numpy as np
import pytest
import torch
from test_utils_stopping import decide, exponential_variances, window_variances

from baselines.es_dip import es_dip
from baselines.vanilla_dip import vanilla_dip
from models.unet import UNet
from operators.pixels import Identity
from utils.callback import Callback

SHAPE = (3, 16, 24)
SETTINGS = {"steps": 40, "lr": 0.02, "input_noise": 0.05, "seed": 3}


class Recorder(Callback):
    def __init__(self):
        self.images = []

    def record(self, k, x, terms):
        assert k == len(self.images) + 1 and not x.requires_grad
        self.images.append(x.clone())


def problem():
    generator = torch.Generator().manual_seed(0)
    y = 0.5 + 0.3 * torch.randn(1, *SHAPE, generator=generator)
    return y, Identity(SHAPE), UNet(4, 3, width=4, depth=2, generator=generator)


def run(method, **settings):
    y, A, net = problem()
    recorder, state = Recorder(), torch.get_rng_state()
    x_hat = method(y, A, net, **(SETTINGS | settings), callback=recorder)
    assert torch.equal(torch.get_rng_state(), state)
    return x_hat, recorder.images


def test_wmv_returns_the_iterate_that_the_deep_image_prior_had_at_the_minimum():
    _, images = run(vanilla_dip)
    best, last = decide(window_variances(images, 5), patience=6)
    assert 5 <= best < last < 40  # so the case tells something
    x_hat, seen = run(es_dip, window=5, patience=6)
    assert len(seen) == last and torch.equal(x_hat, images[best - 1])
    assert all(torch.equal(a, b) for a, b in zip(seen, images))


def test_emv_returns_the_average_at_the_minimum():
    _, images = run(vanilla_dip)
    values, averages = exponential_variances(images, alpha=0.4)
    judged = np.where(np.arange(40) > 3, values, np.inf)
    best, last = decide(judged, patience=4)
    x_hat, seen = run(es_dip, variant="emv", alpha=0.4, skip=3, patience=4)
    assert len(seen) == (last or 40)
    np.testing.assert_allclose(x_hat.numpy(), averages[best - 1], atol=1e-6)


def test_a_minimum_that_is_never_confirmed_is_returned():
    _, images = run(vanilla_dip)
    best, last = decide(window_variances(images, 5), patience=100)
    x_hat, seen = run(es_dip, window=5, patience=100)
    assert last is None and len(seen) == 40 and torch.equal(x_hat, images[best - 1])
    x_hat, _ = run(es_dip)  # fewer steps than the window
    assert torch.equal(x_hat, images[-1])


def test_two_runs_are_equal_to_the_bit():
    first, _ = run(es_dip, window=5, patience=6)
    second, _ = run(es_dip, window=5, patience=6)
    assert torch.equal(first, second)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="wmv or emv, got var"):
        run(es_dip, variant="var")
