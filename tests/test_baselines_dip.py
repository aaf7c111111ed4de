"""The deep image priors: each against its equation, against Vanilla DIP, and interrupted."""

import copy
import importlib
import inspect
import pkgutil
import random

import numpy as np
import pytest
import skimage.data
import torch
from skimage.transform import resize
from torch import Tensor, nn

import baselines
from baselines import find
from baselines.ref_guided_dip import ref_guided_dip
from baselines.self_guided_dip import self_guided_dip
from baselines.sgld_dip import sgld_dip
from baselines.tv import tv
from baselines.tv_dip import total_variation, tv_dip
from baselines.vanilla_dip import vanilla_dip
from models import members
from models.unet import ComplexNet, UNet
from operators.mri import MultiCoilMRI
from operators.pixels import Identity, PixelMask
from operators.radon import Radon
from operators.subset import Subset
from utils.callback import Callback
from utils.errors import CannotRun
from utils.metrics import image_metrics
from utils.randomness import stream
from utils.reference import nearest_reference

SHAPE = (3, 20, 18)
METHODS = {  # every part of a method at work
    vanilla_dip: dict(input_noise=0.1),
    tv_dip: dict(input_noise=0.1, lambda_tv=0.3),
    sgld_dip: dict(input_noise=0.1, burn_in=0.3, thin=2),
    self_guided_dip: dict(),
    ref_guided_dip: dict(z0=torch.rand(1, *SHAPE, generator=stream(0, "reference"))),
}
IMAGE_TO_IMAGE = {self_guided_dip, ref_guided_dip}  # the others feed 8 channels of noise
HELPERS = {"classical", "primal_dual"}  # modules of baselines/ that several methods share
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)


def make_net(method, seed=0, width=4, channels=3):
    in_channels = channels if method in IMAGE_TO_IMAGE else 8
    generator = torch.Generator().manual_seed(seed)
    return UNet(in_channels, channels, width, depth=2, init_std=0.2, generator=generator)


def make_problem(seed=0):
    """Return y and A: a random picture with a fifth of its pixels missing."""
    x = torch.rand(1, *SHAPE, generator=stream(seed, "picture"))
    A = PixelMask(torch.rand(SHAPE[1:], generator=stream(seed, "mask")) > 0.2, channels=3)
    return A(x), A


class Recorder(Callback):
    """Keep what a method tells."""

    def __init__(self):
        self.xs, self.terms = [], []

    def start(self, z0=None, **state):
        self.state = state
        return super().start(z0, **state)

    def record(self, k, x, terms):
        assert k == len(self.xs) + 1 and not x.requires_grad
        self.xs.append(x.clone())
        self.terms.append({name: term.item() for name, term in terms.items()})


class Interruption(Recorder):
    """Stop after step k_stop and keep the state; or go on from the state that another kept."""

    def __init__(self, k_stop=None, before=None):
        super().__init__()
        self.k_stop, self.before = k_stop, before

    def start(self, z0=None, **state):
        super().start(z0, **state)
        if self.before is None:
            return z0
        self.xs = list(self.before.xs)
        assert state.keys() == self.before.saved.keys()
        for name, part in state.items():
            saved = self.before.saved[name]
            if isinstance(part, Tensor):
                with torch.no_grad():
                    part.copy_(saved)
            elif isinstance(part, torch.Generator):
                part.set_state(saved)
            else:
                part.load_state_dict(saved)
        return self.xs[-1]

    def outer(self, n):
        for k in range(len(self.xs) + 1, n + 1):
            if len(self.xs) == self.k_stop:
                return
            yield k

    def record(self, k, x, terms):
        super().record(k, x, terms)
        if k == self.k_stop:
            self.saved = {name: self.state_of(part) for name, part in self.state.items()}

    @staticmethod
    def state_of(part):
        if isinstance(part, Tensor):
            return part.detach().clone()
        if isinstance(part, torch.Generator):
            return part.get_state()
        return copy.deepcopy(part.state_dict())


def reconstruct(method, net=None, callback=None, steps=6, **options):
    y, A = make_problem()
    net = make_net(method) if net is None else net
    return method(y, A, net, steps=steps, callback=callback, **METHODS[method] | options)


def assert_same_course(a, b, net_a, net_b):
    """Check that two recorded runs and their final weights agree bit for bit."""
    assert len(a.xs) == len(b.xs) > 1
    assert all(torch.equal(x, x_other) for x, x_other in zip(a.xs, b.xs))
    assert not torch.equal(a.xs[0], a.xs[-1])
    for w, w_other in zip(net_a.parameters(), net_b.parameters(), strict=True):
        assert torch.equal(w, w_other)


# One interface ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", sorted({m.name for m in pkgutil.iter_modules(baselines.__path__)} - HELPERS)
)
def test_every_baseline_has_one_signature_and_never_sees_the_truth(name):
    method = getattr(importlib.import_module(f"baselines.{name}"), name)
    parameters = inspect.signature(method).parameters
    positional = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    keyword = [p for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert [p.name for p in positional] == ["y", "A", "net"]
    assert len(positional) + len(keyword) == len(parameters)  # no *args, no **kwargs
    assert {"z0", "callback"} <= {p.name for p in keyword}
    assert all(parameters[name].default is None for name in ("z0", "callback"))
    for parameter in parameters.values():
        assert parameter.annotation is not parameter.empty, parameter
        assert not {"true", "truth", "gt"} & set(parameter.name.lower().split("_")), parameter
    assert inspect.signature(method).return_annotation is Tensor


@every_method
def test_two_runs_agree_bit_for_bit_and_leave_the_global_random_state(method):
    nets, recorders = [make_net(method) for _ in range(2)], [Recorder(), Recorder()]
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    x_hat, again = (reconstruct(method, net, r) for net, r in zip(nets, recorders))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all() and random.getstate() == before[2]
    assert torch.equal(x_hat, again) and x_hat.shape == (1, *SHAPE) and not x_hat.requires_grad
    assert_same_course(*recorders, *nets)
    if "seed" in inspect.signature(method).parameters:
        assert not torch.equal(x_hat, reconstruct(method, seed=1))


@every_method
@pytest.mark.parametrize("task", ["denoising", "inpainting"])
def test_a_real_picture_becomes_better(method, task):
    face = skimage.data.astronaut()[:192, 128:320] / 255
    pixels = resize(face, (32, 32), anti_aliasing=True)
    x_true = torch.from_numpy(pixels).float().movedim(-1, 0)[None]
    if task == "denoising":
        A = Identity(x_true.shape[1:])
        y = x_true + 25 / 255 * torch.randn(x_true.shape, generator=stream(0, "noise"))
    else:
        A = PixelMask(torch.rand(32, 32, generator=stream(0, "mask")) > 0.5, channels=3)
        y = A(x_true)
    options = {
        tv_dip: dict(lambda_tv=0.1),
        sgld_dip: dict(temperature=0.2, input_noise=0.0, burn_in=0.5, thin=10),
        self_guided_dip: dict(lr=2e-2),
        ref_guided_dip: dict(lr=1e-2, z0=x_true.flip(-1)),
    }.get(method, {})
    net = make_net(method, width=8)
    x_hat = method(y, A, net, steps=100, **options)
    before, after = (image_metrics(x, x_true)["psnr"] for x in (A.pinv(y), x_hat))
    assert after > before + 1


# Each equation ---------------------------------------------------------------------------


class Scale(nn.Module):
    """f(z) = w z: a network whose every gradient is known; it keeps what it is fed with."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))
        self.seen = []

    def forward(self, z):
        self.seen.append(z.detach().clone())
        return self.w * z


class Adam:
    """Adam's closed form, in NumPy."""

    def __init__(self, lr):
        self.lr, self.m, self.v, self.t = lr, 0.0, 0.0, 0

    def step(self, w, gradient):
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return w - self.lr * m / (np.sqrt(v) + 1e-8)


def linear_problem():
    """Return z, y and A = I of 2 x 3 pixels in double precision."""
    z = torch.tensor([[[[1.0, 2.0, -1.0], [0.5, 0.2, 3.0]]]], dtype=torch.float64)
    y = torch.tensor([[[[3.0, 1.0, 0.5], [-0.4, 0.3, 2.0]]]], dtype=torch.float64)
    return z, y, Identity((1, 2, 3))


@pytest.mark.parametrize("method", [vanilla_dip, tv_dip, sgld_dip, ref_guided_dip])
def test_steps_with_a_fixed_input_are_the_closed_form(method):
    z, y, A = linear_problem()
    options = {
        tv_dip: dict(lambda_tv=0.7),
        sgld_dip: dict(weight_decay=0.6, burn_in=0.0, thin=1, input_noise=0.0),
    }.get(method, {})
    net, recorder = Scale(0.3), Recorder()
    method(y, A, net, z0=z, steps=5, lr=0.05, callback=recorder, **options)
    w, adam = 0.3, Adam(0.05)
    zn, yn = z.numpy(), y.numpy()
    tv = np.abs(np.diff(zn, axis=-2)).sum() + np.abs(np.diff(zn, axis=-1)).sum()
    for x, terms in zip(recorder.xs, recorder.terms, strict=True):
        np.testing.assert_allclose(x.numpy(), w * zn, rtol=1e-6)
        data_term = ((w * zn - yn) ** 2).sum()
        gradient = (2 * zn * (w * zn - yn)).sum()
        loss = data_term
        if method is tv_dip:
            loss, gradient = loss + 0.7 * abs(w) * tv, gradient + 0.7 * np.sign(w) * tv
        if method is sgld_dip:  # as its authors write it: the mean, and Adam's own decay
            gradient = gradient / y.numel() + 0.6 * w
        assert np.isclose(terms["loss"], loss) and np.isclose(terms["data_term"], data_term)
        w = adam.step(w, gradient)
    assert np.isclose(net.w.item(), w, rtol=1e-6)


@pytest.mark.parametrize(
    "noise_share, n_draws, loss",
    [(0.0, 1, "squares"), (0.5, 3, "squares"), (0.9, 2, "squares"), (0.5, 2, "norms")],
)
def test_self_guided_steps_are_the_closed_form(noise_share, n_draws, loss):
    z, y, A = linear_problem()
    net, recorder = Scale(0.3), Recorder()
    settings = dict(
        lr=0.02, lr_z=0.05, alpha=1.5, noise_share=noise_share, n_draws=n_draws, loss=loss
    )
    x_hat = self_guided_dip(y, A, net, z0=z, steps=4, seed=7, callback=recorder, **settings)
    noise = stream(7, "input noise")
    w, zn, yn = 0.3, z.numpy(), y.numpy()
    adam_w, adam_z = Adam(0.02), Adam(0.05)
    for x, terms in zip(recorder.xs, recorder.terms, strict=True):
        us = [torch.rand(z.shape, generator=noise, dtype=z.dtype).numpy() for _ in range(n_draws)]
        v = zn + noise_share * zn.max() * np.mean(us, axis=0)  # the mean input
        data, denoising = w * v - yn, w * v - zn
        np.testing.assert_allclose(x.numpy(), w * v, rtol=1e-9)
        if loss == "norms":  # of ||d|| the gradient is d / ||d||
            terms_now = [np.linalg.norm(data), np.linalg.norm(denoising)]
            data, denoising = data / terms_now[0] / 2, denoising / terms_now[1] / 2
        else:
            terms_now = [(data**2).sum(), (denoising**2).sum()]
        assert np.isclose(terms["data_term"], terms_now[0])
        assert np.isclose(terms["denoising_term"], terms_now[1])
        assert np.isclose(terms["loss"], terms_now[0] + 1.5 * terms_now[1])
        gradient_w = (2 * v * data + 1.5 * 2 * v * denoising).sum()
        gradient_z = 2 * w * data + 1.5 * 2 * (w - 1) * denoising  # max(z) is a constant
        w, zn = adam_w.step(w, gradient_w), adam_z.step(zn, gradient_z)
    assert np.isclose(net.w.item(), w, rtol=1e-9)
    np.testing.assert_allclose(recorder.state["z"].detach().numpy(), zn, rtol=1e-9)
    assert torch.equal(z, linear_problem()[0])  # the caller's z0
    assert torch.equal(x_hat, recorder.xs[-1])


# What they have in common with Vanilla DIP -----------------------------------------------


@pytest.mark.parametrize("input_noise", [0.0, 0.1])
@pytest.mark.parametrize(
    "method, settings",
    [
        (tv_dip, dict(lambda_tv=0.0)),
        (sgld_dip, dict(temperature=0.0, weight_decay=0.0, burn_in=0.0, thin=1)),
    ],
)
def test_without_what_it_adds_a_method_is_vanilla_dip(method, settings, input_noise):
    y, A = make_problem()
    nets, recorders = [make_net(method), make_net(vanilla_dip)], [Recorder(), Recorder()]
    common = dict(steps=6, lr=0.02, z_scale=0.3, input_noise=input_noise, seed=3)
    method(y, A, nets[0], callback=recorders[0], **common, **settings)
    vanilla_dip(y, A, nets[1], callback=recorders[1], **common)
    assert_same_course(*recorders, *nets)
    assert [t["loss"] for t in recorders[0].terms] == [t["loss"] for t in recorders[1].terms]


@pytest.mark.parametrize(
    "method, settings",
    [
        (self_guided_dip, dict(lr_z=0.0, alpha=0.0, noise_share=0.0, n_draws=1)),
        (ref_guided_dip, {}),
    ],
)
def test_with_a_frozen_image_as_input_a_method_is_vanilla_dip(method, settings):
    y, A = make_problem()
    z0 = torch.rand(1, *SHAPE, generator=stream(5, "z0"))
    nets, recorders = [make_net(method), make_net(method)], [Recorder(), Recorder()]
    method(y, A, nets[0], z0=z0, steps=6, lr=0.02, callback=recorders[0], **settings)
    vanilla_dip(y, A, nets[1], z0=z0, steps=6, lr=0.02, callback=recorders[1])
    assert_same_course(*recorders, *nets)


@pytest.mark.parametrize("method", [vanilla_dip, tv_dip, sgld_dip])
def test_the_fixed_input_is_uniform_noise_of_its_own(method):
    y, A = make_problem()

    def inputs(**options):
        net = Scale(1.0)
        net.in_channels = 3  # so that f(z) is an image
        settings = METHODS[method] | dict(z_scale=0.3, input_noise=0.0) | options
        method(y, A, net, steps=3, lr=0.0, **settings)
        return torch.cat(net.seen)

    z = inputs()
    assert z.shape == (3, *SHAPE) and torch.equal(z[0], z[1]) and torch.equal(z[1], z[2])
    assert z.min() >= 0 and z.max() < 0.3 and abs(z[0].mean() - 0.15) < 0.01
    assert torch.equal(z, inputs(seed=0)) and not torch.equal(z, inputs(seed=1))
    eta = inputs(input_noise=0.5) - z
    assert abs(eta.std() - 0.5) < 0.02 and abs(eta.mean()) < 0.03
    assert abs(torch.corrcoef(torch.stack([*eta.flatten(1), z[0].flatten()])).triu(1)).max() < 0.15


# TV-DIP ----------------------------------------------------------------------------------


def test_total_variation_is_the_sum_of_all_differences():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 2, 5, 4)) + 1j * rng.normal(size=(1, 2, 5, 4))

    def by_hand(x):
        total = 0.0
        for channel in x[0]:
            for i in range(5):
                for j in range(4):
                    total += abs(channel[i + 1, j] - channel[i, j]) if i < 4 else 0
                    total += abs(channel[i, j + 1] - channel[i, j]) if j < 3 else 0
        return total

    for part in (x, x.real.copy(), x.imag.copy()):
        assert np.isclose(total_variation(torch.from_numpy(part)).item(), by_hand(part))
    turned = torch.from_numpy(x * np.exp(0.7j))  # the phase of an MR image is arbitrary
    assert np.isclose(total_variation(turned).item(), by_hand(x))
    step = torch.zeros(1, 1, 6, 7)
    step[..., 2:, :] = 0.5
    assert total_variation(step).item() == 0.5 * 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_total_variation_of_a_flat_image_has_a_gradient(dtype):
    x = torch.full((1, 3, 6, 5), 0.4, dtype=dtype, requires_grad=True)
    total_variation(x).backward()
    assert torch.equal(x.grad, torch.zeros_like(x))
    bump = torch.zeros(1, 1, 5, 5, dtype=dtype)
    bump[0, 0, 2, 2] = 0.3
    bump.requires_grad_()
    total_variation(bump).backward()
    expected = torch.tensor([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], dtype=dtype)
    torch.testing.assert_close(bump.grad[0, 0, 1:4, 1:4], expected)


def test_a_larger_weight_makes_a_smoother_image():
    def last_tv(lambda_tv):
        recorder = Recorder()
        x_hat = reconstruct(tv_dip, steps=40, lambda_tv=lambda_tv, callback=recorder)
        return total_variation(x_hat).item()

    assert last_tv(3.0) < last_tv(0.3) < last_tv(0.0)


# SGLD-DIP --------------------------------------------------------------------------------


class Still(nn.Module):
    """A network whose gradient is zero: all that moves its weights is noise."""

    in_channels = 1

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(32, 32, 5)
        self.linear = nn.Linear(300, 300)
        self.norm = nn.BatchNorm2d(1000)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()

    def forward(self, z):
        self.z = z
        return z + 0 * sum(parameter.sum() for parameter in self.parameters())


@pytest.mark.parametrize("temperature, lr, steps", [(1.0, 0.01, 1), (0.5, 0.03, 1), (1.0, 0.01, 9)])
def test_the_noise_has_its_deviation_and_moves_kernels_only(temperature, lr, steps):
    net, y = Still(), torch.zeros(1, 1, 160, 160)
    settings = dict(steps=steps, lr=lr, temperature=temperature, weight_decay=0.0, input_noise=0.1)
    sgld_dip(y, Identity((1, 160, 160)), net, z0=y, burn_in=0.0, thin=1, **settings)
    kernel = net.conv.weight.detach()  # 25,600 entries, as z has
    std = 2 * temperature * lr * steps**0.5
    assert abs(kernel.std() / std - 1) < 0.02 and abs(kernel.mean()) < 0.02 * std
    assert abs((kernel.abs() < std).float().mean() - 0.6827) < 0.01  # Gaussian
    assert abs(torch.corrcoef(torch.stack([kernel.flatten(), net.z.flatten()]))[0, 1]) < 0.03
    for name, parameter in net.named_parameters():
        assert name == "conv.weight" or not parameter.any(), name


@pytest.mark.parametrize(
    "steps, burn_in, thin, sampled",
    [
        (12, 0.35, 2, [6, 8, 10, 12]),
        (10, 0.5, 5, [10]),
        (7, 0.0, 3, [3, 6]),
        (4, 0.25, 1, [2, 3, 4]),
    ],
)
def test_the_result_is_the_mean_of_the_sampled_images(steps, burn_in, thin, sampled):
    recorder = Recorder()
    x_hat = reconstruct(sgld_dip, None, recorder, steps=steps, burn_in=burn_in, thin=thin)
    samples = torch.stack([recorder.xs[k - 1] for k in sampled])
    torch.testing.assert_close(x_hat, samples.mean(dim=0), rtol=1e-5, atol=1e-6)
    assert len(sampled) == 1 or not torch.allclose(x_hat, recorder.xs[-1], atol=1e-3)


def test_a_run_stopped_before_the_first_sample_gives_its_last_image():
    stopped = Interruption(k_stop=5)
    x_hat = reconstruct(sgld_dip, callback=stopped, steps=20, burn_in=0.5, thin=2)
    assert len(stopped.xs) == 5 and torch.equal(x_hat, stopped.xs[-1])
    stopped = Interruption(k_stop=15)
    x_hat = reconstruct(sgld_dip, callback=stopped, steps=20, burn_in=0.5, thin=2)
    torch.testing.assert_close(x_hat, (stopped.xs[11] + stopped.xs[13]) / 2)


@pytest.mark.parametrize("steps, burn_in, thin", [(10, 0.35, 50), (100, 1.0, 50), (60, 0.9, 50)])
def test_too_few_steps_for_a_sample_are_refused_at_once(steps, burn_in, thin):
    net = make_net(sgld_dip)
    weights = copy.deepcopy(net.state_dict())
    with pytest.raises(CannotRun, match=f"no step is sampled: got {steps} steps"):
        reconstruct(sgld_dip, net, steps=steps, burn_in=burn_in, thin=thin)
    torch.testing.assert_close(net.state_dict(), weights, rtol=0, atol=0)


# Self-Guided DIP -------------------------------------------------------------------------


def test_the_identity_has_no_denoising_term_and_z_goes_down_the_data_gradient():
    z, y, A = linear_problem()
    recorder = Recorder()
    settings = dict(z0=z, steps=30, lr_z=0.1, noise_share=0.0, n_draws=1, callback=recorder)
    self_guided_dip(y, A, nn.Identity(), **settings)
    assert all(terms["denoising_term"] == 0.0 for terms in recorder.terms)
    torch.testing.assert_close(recorder.xs[1], z - 0.1 * (z - y).sign())  # Adam's first step
    assert recorder.terms[-1]["loss"] < 0.1 * recorder.terms[0]["loss"]


def test_with_norms_alpha_is_in_units_of_the_operators_norm():
    A = Radon((12, 12), torch.arange(5, dtype=torch.float64) * torch.pi / 5)
    z0 = torch.rand(1, 1, 12, 12, generator=stream(5, "z0"))
    y = A(torch.ones(1, 1, 12, 12))
    for operator in (A, Subset(A, torch.ones(A.out_shape, dtype=torch.bool))):
        recorder = Recorder()
        settings = dict(steps=1, alpha=0.3, loss="norms", callback=recorder)
        self_guided_dip(y, operator, Scale(0.9), z0=z0, **settings)
        (terms,) = recorder.terms
        expected = terms["data_term"] + 0.3 * A.norm() * terms["denoising_term"]
        torch.testing.assert_close(terms["loss"], expected)


def test_it_starts_from_total_variation():
    A = Radon((12, 12), torch.arange(5, dtype=torch.float64) * torch.pi / 5)
    y = A(torch.rand(1, 1, 12, 12, generator=stream(5, "z0")))
    recorder = Recorder()
    self_guided_dip(y, A, Scale(1.0), steps=1, lr_z=0.0, start="tv", callback=recorder)
    assert torch.equal(recorder.state["z"], tv(y, A))
    noise = 0.1 * A.norm()
    assert find("self_guided_dip").takes == ("sigma",)  # so the scripts tell it
    recorder = Recorder()
    self_guided_dip(y, A, Scale(1.0), steps=1, lr_z=0.0, start="tv", sigma=noise, callback=recorder)
    assert torch.equal(recorder.state["z"], tv(y, A, sigma=noise))
    assert not torch.allclose(recorder.state["z"], tv(y, A))
    with pytest.raises(ValueError, match="start=tv: .* got Subset, .*not go with --stop holdout"):
        held = Subset(A, torch.ones(A.out_shape, dtype=torch.bool))
        self_guided_dip(y, held, Scale(1.0), steps=1, start="tv")


def test_each_learning_rate_acts_on_its_own_part():
    z0 = torch.rand(1, *SHAPE, generator=stream(5, "z0"))
    for lr, lr_z in [(0.0, 0.1), (0.01, 0.0), (0.01, 0.1)]:
        net, recorder = make_net(self_guided_dip), Recorder()
        reconstruct(self_guided_dip, net, recorder, z0=z0, lr=lr, lr_z=lr_z)
        start = make_net(self_guided_dip).state_dict()
        moved = any(not torch.equal(w, start[name]) for name, w in net.state_dict().items())
        assert moved == (lr > 0)
        assert torch.equal(recorder.state["z"], z0) == (lr_z == 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_every_draw_is_a_pass_of_its_own_with_noise_of_its_own(dtype):
    A, net = Identity((1, 30, 40)), Scale(1.0)
    y = torch.zeros(1, 1, 30, 40, dtype=dtype)
    recorder = Recorder()
    settings = dict(steps=2, lr=0.0, lr_z=0.0, noise_share=0.4, n_draws=3)
    self_guided_dip(y, A, net, callback=recorder, **settings)
    z = recorder.state["z"].detach()
    parts = torch.stack([torch.view_as_real(v) if v.is_complex() else v for v in (z, *net.seen)])
    z, seen = parts[0], parts[1:]
    assert z.shape[:4] == (1, 1, 30, 40) and len(seen) == 6
    assert 0 <= z.min() < 0.01 and 0.99 < z.max() < 1 and abs(z.mean() - 0.5) < 0.03
    u = (seen - z) / (0.4 * z.max())
    assert u.min() > -1e-9 and u.max() < 1 and abs(u.mean() - 0.5) < 0.01
    columns = torch.cat([u.flatten(1), z.flatten()[None]])
    if dtype.is_complex:
        columns = torch.cat([columns[:, 0::2], columns[:, 1::2]])
    assert abs(torch.corrcoef(columns).triu(1)).max() < 0.15


@pytest.mark.parametrize("method", [self_guided_dip, ref_guided_dip])
def test_complex_images_are_reconstructed_from_kspace(method):
    sens_maps = torch.randn(4, 24, 20, dtype=torch.complex64, generator=stream(0, "maps"))
    sens_maps = sens_maps / sens_maps.abs().square().sum(dim=0).sqrt()
    A = MultiCoilMRI(sens_maps, torch.rand(24, 20, generator=stream(0, "mask")) > 0.4)
    x_true = torch.randn(1, 1, 24, 20, dtype=torch.complex64, generator=stream(0, "image"))
    net = ComplexNet(make_net(method, channels=2))
    recorder = Recorder()
    z0 = {ref_guided_dip: x_true.abs().to(x_true.dtype)}.get(method)
    x_hat = method(A(x_true), A, net, z0=z0, steps=30, lr=0.01, callback=recorder)
    assert x_hat.dtype == torch.complex64 and x_hat.shape == x_true.shape
    losses = [terms["loss"] for terms in recorder.terms]
    assert losses[-1] < 0.9 * losses[0]


# Ref-Guided DIP --------------------------------------------------------------------------


def test_a_reference_is_required():
    with pytest.raises(ValueError, match="needs a reference image"):
        reconstruct(ref_guided_dip, z0=None)
    y, A = make_problem()
    with pytest.raises(ValueError, match="at least one candidate"):
        nearest_reference([], y, A)


def test_candidates_are_compared_after_the_measurement():
    generator = stream(0, "candidates")
    truth = torch.rand(1, 3, 16, 16, generator=generator)
    A = PixelMask(torch.rand(16, 16, generator=generator) > 0.5, channels=3)
    close = truth + 0.05 * torch.rand(truth.shape, generator=generator)
    other = torch.rand(truth.shape, generator=generator)
    in_the_hole = torch.where(A.mask, truth, 5.0)  # nothing of this is measured
    candidates = [other, close, torch.zeros_like(truth), 3 * in_the_hole]
    index, distances = nearest_reference(candidates, A(truth), A)
    known = [(A.mask * c).numpy().ravel() for c in (truth, other, close)]
    unit = [v / np.linalg.norm(v) for v in known]
    assert index == 3 and distances[3] < 1e-6
    assert np.isclose(distances[0], np.linalg.norm(unit[1] - unit[0]), rtol=1e-5)
    assert np.isclose(distances[1], np.linalg.norm(unit[2] - unit[0]), rtol=1e-4)
    assert np.isclose(distances[2], 1.0)
    assert nearest_reference(candidates[:3], A(truth), A)[0] == 1


def test_real_magnitudes_are_candidates_for_a_complex_image():
    sens_maps = torch.ones(1, 16, 12, dtype=torch.complex64)
    A = MultiCoilMRI(sens_maps, torch.ones(16, 12, dtype=torch.bool))  # so that pinv is exact
    generator = stream(0, "candidates")
    magnitude = torch.rand(1, 1, 16, 12, generator=generator)
    phase = 6 * torch.rand(1, 1, 16, 12, generator=generator)
    candidates = [torch.rand(1, 1, 16, 12, generator=generator), 7 * magnitude]
    index, distances = nearest_reference(candidates, A(torch.polar(magnitude, phase)), A)
    assert index == 1 and distances[1] < 1e-5 < 0.1 < distances[0]


def test_candidates_may_have_another_precision():
    A = Radon((16, 16), torch.linspace(0, 3, 7, dtype=torch.float64))  # refuses all but float32
    x = torch.rand(1, 1, 16, 16, generator=stream(0, "candidates"))
    index, distances = nearest_reference([x.flip(-1).double(), x.double()], A(x), A)
    assert index == 1 and distances[1] < 1e-5 < 0.1 < distances[0]


def test_each_network_of_vanilla_dip_has_an_input_of_its_own(monkeypatch):
    y, A = make_problem()
    nets = [Scale(1.0), Scale(3.0)]
    for net in nets:
        net.in_channels = 3  # so that f(z) is an image
    monkeypatch.setattr(members, "with_shuffled_weights", lambda net, rng: nets[1])
    x = vanilla_dip(y, A, nets[0], members=2, steps=2, lr=0.0)
    first, second = (torch.cat(net.seen) for net in nets)
    assert torch.equal(first[0], first[1]) and torch.equal(second[0], second[1])
    assert not torch.allclose(first, second, rtol=0.1)
    torch.testing.assert_close(x, (first[:1] + 3 * second[:1]) / 2)
    with pytest.raises(ValueError, match="members.* at least 1, got 0"):
        vanilla_dip(y, A, nets[0], members=0)
