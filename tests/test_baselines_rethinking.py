"""Rethinking DIP: its risk estimate, its stopping and its average against closed forms."""

import copy

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from torch import nn

from baselines.rethinking_dip import divergence, perturbed, rethinking_dip
from models.s2snet import S2SNet
from operators.base import Operator
from operators.pixels import Identity, PixelMask
from utils.callback import Callback
from utils.metrics import psnr
from utils.randomness import stream

SIGMA = 25 / 255


class Recorder(Callback):
    """Keep all records, and a deep copy of the state at step `save_at`."""

    def __init__(self, save_at=None):
        self.save_at = save_at
        self.records = {}

    def start(self, z0=None, **state):
        assert z0 is None
        self.state = state
        return z0

    def record(self, k, x, terms):
        assert not x.requires_grad
        self.records[k] = (x, {name: term.item() for name, term in terms.items()})
        if k == self.save_at:
            self.saved = {name: copy.deepcopy(content(part)) for name, part in self.state.items()}


class Resumed(Recorder):
    """Go on from what a Recorder saved, as after a checkpoint."""

    def __init__(self, recorder):
        super().__init__()
        self.recorder = recorder

    def start(self, z0=None, **state):
        assert state.keys() == self.recorder.saved.keys()
        for name, part in state.items():
            saved = copy.deepcopy(self.recorder.saved[name])
            if isinstance(part, torch.Tensor):
                part.copy_(saved)
            elif isinstance(part, torch.Generator):
                part.set_state(saved)
            else:
                part.load_state_dict(saved)
        return super().start(z0, **state)

    def outer(self, n):
        yield from range(self.recorder.save_at + 1, n + 1)


def content(part):
    if isinstance(part, torch.Tensor):
        return part
    return part.get_state() if isinstance(part, torch.Generator) else part.state_dict()


class Linear(nn.Module):
    """x = M z for all pixels of an image together."""

    def __init__(self, matrix, shape):
        super().__init__()
        self.matrix, self.shape = nn.Parameter(matrix), shape

    def forward(self, z):
        return (self.matrix @ z.flatten()).view(1, *self.shape)


class Scale(nn.Module):
    """x = w z."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(float(w), dtype=torch.float64))

    def forward(self, z):
        return self.w * z


class Constant(nn.Module):
    """x = w everywhere, whatever z is."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(float(w), dtype=torch.float64))

    def forward(self, z):
        return self.w + 0 * z


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def striped_picture():
    """Return a grey picture with less noise than SIGMA: a constant's loss falls below zero."""
    stripes = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(50)
    return 0.5 + 0.9 * SIGMA * stripes.view(1, 1, 10, 10)


def losses(net, y, **options):
    recorder = Recorder()
    A = Identity(tuple(y.shape[1:]))
    rethinking_dip(y, A, net, callback=recorder, **({"sigma": SIGMA} | options))
    return [terms["loss"] for _, terms in recorder.records.values()]


# The risk estimate --------------------------------------------------------------------------


def test_divergence_is_the_trace_exactly_over_a_basis_and_on_average_over_b():
    matrix = normal(30, 30)
    net, z = Linear(matrix, (2, 3, 5)), normal(1, 2, 3, 5, seed=1).requires_grad_()
    basis = torch.eye(30, dtype=torch.float64).view(30, 1, 2, 3, 5)
    trace = sum(divergence(net(z), z, b) for b in basis)
    torch.testing.assert_close(trace, matrix.trace())
    b = normal(1, 2, 3, 5, seed=2)
    torch.testing.assert_close(divergence(net(z), z, b), b.flatten() @ matrix @ b.flatten())
    probes = normal(4000, 1, 2, 3, 5, seed=3)
    mean = torch.stack([divergence(net(z), z, b).detach() for b in probes]).mean()
    deviation = ((matrix + matrix.T) ** 2).sum().sqrt() / 2**0.5  # of b^T M b
    assert abs(mean - matrix.trace()) < 3 * deviation / 4000**0.5


def test_divergence_of_a_nonlinear_map_is_that_at_z_and_has_gradients():
    w = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    z, b = normal(1, 1, 4, 5).requires_grad_(), normal(1, 1, 4, 5, seed=1)
    slope = divergence((w * z) ** 3, z, b)
    torch.testing.assert_close(slope, (b**2 * 3 * w**3 * z**2).sum())
    (gradient,) = torch.autograd.grad(slope, w)
    torch.testing.assert_close(gradient, (b**2 * 9 * w**2 * z**2).sum())


def test_the_identity_is_estimated_at_the_noises_variance():
    y = normal(1, 3, 40, 41) * SIGMA
    estimates = losses(Scale(1.0), y, steps=60, lr=0.0, input_noise=0.0)
    # Its data term is 0; 2 sigma^2 |b|^2 / n is on average 2 sigma^2.
    expected = SIGMA**2
    tolerance = 3 * 2 * SIGMA**2 * (2 / y.numel() / 60) ** 0.5
    assert abs(np.mean(estimates) - expected) < tolerance < 0.02 * expected


def test_zero_is_estimated_at_the_power_of_y_less_the_noises():
    y = 0.5 + normal(1, 3, 8, 9)
    (estimate,) = losses(Constant(0.0), y, steps=1)
    assert np.isclose(estimate, y.square().mean().item() - SIGMA**2, rtol=1e-12)


def test_the_estimate_is_the_true_error_of_a_linear_network():
    """Over many noisy pictures, with input noise; 0.6 z has trace 0.6 n and error known by hand."""
    x_true = torch.rand(1, 1, 50, 50, generator=torch.Generator().manual_seed(0)).double()
    estimates, errors = [], []
    for seed in range(40):
        y = x_true + SIGMA * normal(1, 1, 50, 50, seed=100 + seed)
        recorder = Recorder()
        net = Scale(0.6)
        outputs = []
        net.register_forward_hook(
            lambda module, args, x, outputs=outputs: outputs.append(x.detach())
        )
        rethinking_dip(y, Identity((1, 50, 50)), net, sigma=SIGMA, steps=1, input_noise=2.0,
                       seed=seed, callback=recorder)  # fmt: skip
        estimates.append(recorder.records[1][1]["loss"])
        errors.append((outputs[0] - x_true).square().mean().item())
    spread = np.std(np.subtract(estimates, errors)) / 40**0.5
    assert abs(np.mean(estimates) - np.mean(errors)) < 3 * spread < 0.01 * np.mean(errors)


def test_terms_make_up_the_loss():
    y = torch.rand(1, 3, 40, 36, generator=torch.Generator().manual_seed(0))
    recorder = Recorder()
    net = S2SNet(3, 3, torch.Generator().manual_seed(0))
    rethinking_dip(y, Identity((3, 40, 36)), net, sigma=SIGMA, steps=2, callback=recorder)
    for _, terms in recorder.records.values():
        risk = (terms["data_term"] + 2 * SIGMA**2 * terms["divergence"]) / y.numel() - SIGMA**2
        assert np.isclose(terms["loss"], risk, rtol=1e-5)


# The steps ----------------------------------------------------------------------------------


def test_a_step_is_radams_on_the_formula():
    """x = w z: the loss is a parabola in w, made by hand from the same random streams."""
    y, lr, seed = 0.5 + SIGMA * normal(1, 1, 6, 7), 0.05, 3
    w = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.RAdam([w], lr)
    gamma_rng, probe_rng = stream(seed, "input noise"), stream(seed, "divergence probe")
    expected = []
    for step in range(1, 13):
        optimizer.param_groups[0]["lr"] = lr * 0.5 ** ((step - 1) // 5)
        std = 0.5 * SIGMA * torch.rand((), generator=gamma_rng, dtype=torch.float64)
        z = y + std * torch.randn(y.shape, generator=gamma_rng, dtype=torch.float64)
        b = torch.randn(y.shape, generator=probe_rng, dtype=torch.float64)
        loss = ((w * z - y) ** 2).mean() + 2 * SIGMA**2 * w * (b**2).mean() - SIGMA**2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    actual = losses(Scale(0.2), y, steps=12, lr=lr, lr_decay=0.5, lr_every=5, seed=seed)
    assert min(expected) > 0
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


def test_input_noise_has_a_standard_deviation_between_zero_and_its_largest():
    z, rng = torch.zeros(1, 1, 100, 100), torch.Generator().manual_seed(0)
    stds = np.array([perturbed(z, 0.4, rng).std().item() for _ in range(400)])
    assert 0 <= stds.min() < 0.01 and 0.39 < stds.max() < 0.4 * 1.03
    assert abs(stds.mean() - 0.2) < 3 * 0.4 / 12**0.5 / 20


def test_the_input_is_y_or_z0():
    y, inputs = normal(1, 1, 8, 9), []
    net = Scale(1.0)
    net.register_forward_hook(lambda module, args, x: inputs.append(args[0].detach()))
    A = Identity((1, 8, 9))
    rethinking_dip(y, A, net, sigma=SIGMA, steps=1, input_noise=0.0)
    rethinking_dip(y, A, net, z0=y + 1, sigma=SIGMA, steps=1, input_noise=0.0)
    torch.testing.assert_close(inputs, [y, y + 1], rtol=0, atol=0)
    assert not y.requires_grad


def test_it_stops_where_the_loss_computed_by_hand_falls_below_zero():
    """x = w: L = (w - 0.5)^2 + 0.9^2 sigma^2 - sigma^2."""
    w = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.RAdam([w], 0.1)
    outputs = []
    while (w.item() - 0.5) ** 2 >= (1 - 0.9**2) * SIGMA**2:
        outputs.append(w.item())
        optimizer.zero_grad()
        ((w - 0.5) ** 2).backward()
        optimizer.step()
    y, recorder = striped_picture(), Recorder()
    x_hat = rethinking_dip(y, Identity((1, 10, 10)), Constant(0.0), sigma=SIGMA, ste_decay=0.8,
                           callback=recorder)  # fmt: skip
    T = len(outputs)
    assert 5 < T < 100 and list(recorder.records) == list(range(1, T + 2))
    seen = [terms["loss"] for _, terms in recorder.records.values()]
    assert min(seen[:-1]) >= 0 > seen[-1]
    weights = 0.8 ** np.arange(T)[::-1]
    average = (weights * outputs).sum() / weights.sum()
    torch.testing.assert_close(x_hat, torch.full_like(y, average))
    # The record of a step is what the method would return if it ended there.
    torch.testing.assert_close(recorder.records[T][0], x_hat, rtol=0, atol=0)
    torch.testing.assert_close(recorder.records[T + 1][0], x_hat, rtol=0, atol=0)
    torch.testing.assert_close(recorder.records[1][0], torch.zeros_like(y))


def test_without_a_crossing_it_returns_the_average_of_all_outputs():
    y, net, outputs = normal(1, 1, 10, 10) + 0.5, Constant(0.0), []
    net.register_forward_hook(lambda module, args, x, outputs=outputs: outputs.append(x.detach()))
    x_hat = rethinking_dip(y, Identity((1, 10, 10)), net, sigma=SIGMA, steps=30, ste_decay=0.9)
    assert len(outputs) == 30
    weights = 0.9 ** torch.arange(29, -1, -1, dtype=torch.float64)
    average = (weights.view(-1, 1, 1, 1, 1) * torch.stack(outputs)).sum(0) / weights.sum()
    torch.testing.assert_close(x_hat, average)


def test_a_crossing_in_the_first_step_leaves_its_output():
    y, recorder = torch.full((1, 1, 4, 5), 0.3, dtype=torch.float64), Recorder()
    x_hat = rethinking_dip(y, Identity((1, 4, 5)), Constant(0.31), sigma=SIGMA, callback=recorder)
    assert list(recorder.records) == [1]
    torch.testing.assert_close(x_hat, torch.full_like(y, 0.31))


# Resuming -----------------------------------------------------------------------------------


def small_problem():
    y = torch.rand(1, 3, 36, 34, generator=torch.Generator().manual_seed(0))
    options = dict(sigma=SIGMA, lr_every=4, lr_decay=0.5, seed=1)
    return y, Identity((3, 36, 34)), lambda: S2SNet(3, 3, stream(0, "weights")), options


def test_two_runs_are_equal_and_seeds_differ():
    y, A, make_net, options = small_problem()
    first = rethinking_dip(y, A, make_net(), steps=5, **options)
    state = torch.random.get_rng_state()
    torch.testing.assert_close(
        rethinking_dip(y, A, make_net(), steps=5, **options), first, rtol=0, atol=0
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    other = rethinking_dip(y, A, make_net(), steps=5, **(options | {"seed": 2}))
    assert not torch.equal(other, first)


@pytest.mark.parametrize("steps", [50, 4000])
def test_a_run_interrupted_at_its_last_step_returns_the_same_image(steps):
    """Below zero at some step before the 50th; interrupted there, or one step before."""
    y, A = striped_picture(), Identity((1, 10, 10))
    recorder = Recorder()
    expected = rethinking_dip(y, A, Constant(0.0), sigma=SIGMA, steps=steps, callback=recorder)
    last = max(recorder.records)
    assert last < 50
    for save_at in (last - 1, last):
        recorder = Recorder(save_at)
        rethinking_dip(y, A, Constant(0.0), sigma=SIGMA, steps=steps, callback=recorder)
        resumed = Resumed(recorder)
        x_hat = rethinking_dip(y, A, Constant(0.0), sigma=SIGMA, steps=steps, callback=resumed)
        assert list(resumed.records) == list(range(save_at + 1, last + 1))
        torch.testing.assert_close(x_hat, expected, rtol=0, atol=0)


# Use ----------------------------------------------------------------------------------------


def test_only_denoising_with_a_known_sigma_is_accepted():
    y, net = torch.rand(1, 3, 8, 8), Scale(1.0)
    for A in (PixelMask(torch.ones(8, 8, dtype=torch.bool), 3), Operator((3, 8, 8), (3, 8, 8))):
        with pytest.raises(ValueError, match="expected A to be operators.pixels.Identity"):
            rethinking_dip(y, A, net, sigma=SIGMA)
    for sigma in (0.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="expected sigma above 0"):
            rethinking_dip(y, Identity((3, 8, 8)), net, sigma=sigma)
    for setting in (dict(ste_decay=1.0), dict(ste_decay=-0.1), dict(lr_every=0)):
        with pytest.raises(ValueError, match="expected ste_decay from 0 to below 1 and lr_every"):
            rethinking_dip(y, Identity((3, 8, 8)), net, sigma=SIGMA, **setting)


def test_it_denoises_a_photograph():
    pixels = astronaut()[20:212:2, 130:322:2]  # the face, 96x96
    x_true = torch.from_numpy(pixels / np.float32(255)).movedim(-1, 0)[None]
    y = x_true + SIGMA * normal(*x_true.shape, dtype=torch.float32)
    net = S2SNet(3, 12, stream(0, "weights"))
    x_hat = rethinking_dip(y, Identity((3, 96, 96)), net, sigma=SIGMA, steps=60,
                           ste_decay=0.9)  # fmt: skip
    support = torch.ones(96, 96, dtype=torch.bool)
    assert psnr(x_hat, x_true, support, 1.0) > psnr(y, x_true, support, 1.0) + 2
