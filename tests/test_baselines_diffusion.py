"""The methods with a diffusion prior, against Gaussian priors, whose network is exact."""

import math
import signal

import numpy as np
import pytest
import running
import torch
from gaussian import fake_priors, gaussian_prior, write_prior
from running import call, digest, metrics, run_folder
from test_methods import SCRIPTS, flags_of

from baselines import udig_dip
from baselines.ddnm import ddnm
from baselines.dds import dds
from baselines.dps import deviation, dps
from baselines.mcg import mcg, unmeasured
from baselines.score_mri import predictor_step, score_mri
from operators.blur import CameraBlur, LinearBlur
from operators.downsample import Downsample
from operators.mri import MultiCoilMRI
from operators.pixels import Identity, PixelMask
from operators.radon import Radon
from utils.callback import Callback
from utils.errors import InputError
from utils.loop import Loop
from utils.randomness import stream
from utils.sampling import draw, langevin_step, peak

F64 = torch.float64


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, dtype=F64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=rng(seed))


class Watch(Callback):
    """Keep what a sampler's state and image were after each step; end after the last one wanted."""

    def __init__(self, steps=10**6):
        self.steps, self.states, self.images = steps, [], []

    def start(self, z0=None, **state):
        self.u = state["u"]
        self.first = self.u.detach().clone()

    def outer(self, n):
        yield from range(1, min(n, self.steps) + 1)

    def record(self, k, x, terms):
        assert not self.u.requires_grad and not x.requires_grad
        self.states.append(self.u.clone())
        self.images.append(x)


def mri(height=8, width=6, n_coils=3, share=0.5, dtype=torch.complex128):
    maps = random(n_coils, height, width, dtype=dtype, seed=1)
    maps = maps / maps.abs().square().sum(dim=0).sqrt()
    return MultiCoilMRI(maps, torch.rand(height, width, generator=rng(2)) < share)


def matrix(A, dtype):
    n = math.prod(A.in_shape)
    return A(torch.eye(n, dtype=dtype).view(n, *A.in_shape)).reshape(n, -1).T


def test_dds_in_one_step_is_the_posterior_mean():
    """Of x ~ N(mu, I) and noise of variance 1 / gamma: from pure noise the prior expects mu."""
    A, gamma = mri(), 3.0
    y = A(random(1, 1, 8, 6, dtype=torch.complex128))
    mu = random(2, 8, 6, seed=3)
    # In the prior's units, of peak 1.
    watch = Watch()
    prior = gaussian_prior(mu, 1e-6, channels=2)
    x = dds(y, A, prior=prior, n_steps=1, gamma=gamma, cg_steps=200, callback=watch)
    M = matrix(A, torch.complex128)
    peak = peak_of(y, A)
    x_mu = (peak * torch.complex(mu[0], mu[1])).flatten()
    eye = torch.eye(48, dtype=torch.complex128)
    right = x_mu + gamma * M.mH @ y.flatten()
    expected = torch.linalg.solve(eye + gamma * M.mH @ M, right)
    assert torch.allclose(x.flatten(), expected, atol=1e-4)
    assert torch.equal(watch.images[-1], x)


def peak_of(y, A):
    M = matrix(A, y.dtype)
    eye = torch.eye(M.shape[1], dtype=y.dtype)
    return torch.linalg.solve(M.mH @ M + 1e-3 * eye, M.mH @ y.flatten()).abs().max()


def test_dds_ends_at_the_measurements_for_large_gamma():
    A = mri()
    y = A(random(1, 1, 8, 6, dtype=torch.complex128))
    prior = gaussian_prior(0.0, 0.2, "ve", channels=1)  # real and imaginary part apart
    x = dds(y, A, prior=prior, n_steps=10, gamma=1e6, cg_steps=100)
    assert torch.linalg.vector_norm(A(x) - y) < 1e-4 * torch.linalg.vector_norm(y)


MASK = torch.rand(6, 8, generator=rng(4)) < 0.5


@pytest.mark.parametrize(
    "A",
    [
        PixelMask(MASK, 3),
        Downsample((3, 6, 8), 2, "average").double(),
        Downsample((3, 6, 8), 2, "bicubic").double(),
        Identity((3, 6, 8)),
    ],
)
def test_ddnm_explains_the_measurements_at_each_step(A):
    y = A(torch.rand(1, 3, 6, 8, dtype=F64, generator=rng()))
    watch = Watch()
    prior = gaussian_prior(0.1, 0.2, channels=3, low=-1.0, multiple=4)
    x = ddnm(y, A, prior=prior, n_steps=20, callback=watch)
    for image in watch.images:
        assert torch.allclose(A(image), y, atol=1e-5)  # A^+ is stored in float32
    assert torch.equal(x, watch.images[-1]) and len(watch.images) == 20


def test_ddnm_takes_of_the_prior_what_is_missing():
    """Pixels that nothing is known of follow the prior; those that depend on known ones, them."""
    n = 20000
    # Pairs of a known and a missing pixel: (a, b) with variances 0.5 and correlation 0.9.
    basis = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=F64) / math.sqrt(2)
    prior = gaussian_prior(0.0, 1.0, channels=1)
    prior.net = Pairs(basis, torch.tensor([0.95, 0.05], dtype=F64), prior)
    A = PixelMask(torch.tensor([True, False]).expand(n, 2).contiguous(), 1)
    y = A(torch.full((1, 1, n, 2), 0.6, dtype=F64))
    x = ddnm(y, A, prior=prior, n_steps=200)
    assert (x[..., 0] == y[..., 0]).all()
    assert x[..., 1].mean().item() == pytest.approx(0.9 * 0.6, abs=0.04)


class Pairs(torch.nn.Module):
    """The exact noise of images (n, 2), each row Gaussian with its own covariance."""

    def __init__(self, basis, variances, prior):
        super().__init__()
        self.basis, self.variances = basis, variances
        self.sigma, self.scale = prior.sigma, prior.scale

    def forward(self, x_t, t):
        sigma = self.sigma[t]
        turned = (x_t / self.scale[t]) @ self.basis
        return (sigma * turned / (self.variances + sigma**2)) @ self.basis.T


@pytest.mark.parametrize("eta", [0.0, 0.85, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_ddnm_plus_follows_its_recursion(eta, masked):
    """Mean and variance over pixels of one grey value, from the level of y's noise downwards."""
    n, sigma, mu, a = 20000, 0.3, 0.5, 0.02
    # In the prior's units, from -1 to 1, all is twice as large.
    prior = gaussian_prior(2 * mu - 1, 4 * a, channels=1, low=-1.0)
    watch = Watch()
    shape = (1, n, 2)
    mask = torch.tensor([True, not masked]).expand(n, 2).contiguous()
    A = PixelMask(mask, 1) if masked else Identity(shape)
    y = A(torch.full((1, *shape), 0.9, dtype=F64))
    x = ddnm(y, A, prior=prior, sigma=sigma, n_steps=60, eta=eta, callback=watch)
    levels = (prior.sigma[torch.linspace(999, 0, 60, dtype=F64).round().long()] / 2).tolist()
    d, v = 0.0, 0.0  # of u at a level: its distance from mu, its variance
    for u, s, s_next in zip(watch.states, levels, [*levels[1:], 0.0], strict=True):
        share = a / (a + s**2)  # of a distance from mu, what the prior keeps
        if s_next >= sigma:
            d, v = 0.9 - mu, s_next**2 - sigma**2
            known = (u[..., 0] + 1) / 2
            assert known.mean().item() == pytest.approx(mu + d, abs=4 * math.sqrt(v / n))
            assert known.var().item() == pytest.approx(v, rel=0.05)
            continue
        weight = s_next * math.sqrt(1 - eta**2) / sigma
        d = (1 - weight) * share * d + weight * (0.9 - mu)
        v = ((1 - weight) * share) ** 2 * v + (eta * s_next) ** 2
    known = x[..., 0]
    assert known.mean().item() == pytest.approx(mu + d, abs=4 * math.sqrt(v / n) + 1e-9)
    assert known.var().item() == pytest.approx(v, rel=0.05, abs=1e-9)
    if masked:  # and what is not measured follows the prior
        assert x[..., 1].mean().item() == pytest.approx(mu, abs=0.01)


@pytest.mark.parametrize("kind", ["vp", "ve"])
@pytest.mark.parametrize("v", [None, 0.4])
def test_a_step_of_dps_is_that_of_its_paper(kind, v):
    """In the paper's coordinates: variance-preserving, images and measurements in [-1, 1]."""
    kind = "rescaled" if kind == "ve" else kind
    if kind == "rescaled" and v is not None:
        pytest.skip("variance-exploding networks have no learned variance")
    mu = torch.where(MASK.roll(1, 1), 0.2, 1.3).double()  # where it is 1.3, x_0 is clipped
    a, zeta = 0.3, 0.7
    prior = gaussian_prior(mu, a, kind, channels=3, low=-1.0, v=v)
    A = PixelMask(MASK, 3)
    y = A(torch.rand(1, 3, 6, 8, dtype=F64, generator=rng()))
    watch = Watch(2)
    dps(y, A, prior=prior, zeta=zeta, n_steps=1000, callback=watch)
    abar = 1 / (1 + prior.sigma**2)
    noise = stream(0, "sampling")
    draw(watch.first, noise)
    x_t = watch.first * abar[999].sqrt()
    for t, found in zip((999, 998), watch.states):
        beta = 1 - abar[t] / abar[t - 1]
        # x0 is linear in x_t, but where it is clipped: there it has no gradient.
        slope = a / (a + prior.sigma[t] ** 2) / abar[t].sqrt()
        free = mu + a / (a + prior.sigma[t] ** 2) * (x_t / abar[t].sqrt() - mu)
        x0 = free.clamp(-1, 1)
        r = MASK * (x0 - (2 * y - 1))
        gradient = slope * r / torch.linalg.vector_norm(r) * (free == x0)
        mean = abar[t - 1].sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - abar[t - 1]) * x_t
        mean = mean / (1 - abar[t])
        small = beta * (1 - abar[t - 1]) / (1 - abar[t])
        f = 0.0 if v is None else (v + 1) / 2
        std = (f * beta.log() + (1 - f) * small.log()).exp().sqrt()
        x_t = mean + std * draw(x_t, noise) - zeta * gradient
        assert torch.allclose(found * abar[t - 1].sqrt(), x_t, rtol=1e-6, atol=1e-9)


def test_the_unit_of_dps_does_not_depend_on_the_prior_s_range():
    """The same images in [0, 1] and in [-1, 1]: a step of zeta is the same."""
    A = Identity((1, 4, 4))
    y = torch.rand(1, 1, 4, 4, dtype=F64, generator=rng())
    changes = []
    for low in (0.0, -1.0):
        span = 1 - low
        prior = gaussian_prior(low + 0.5 * span, 0.1 * span**2, "ve", low=low)
        prior.sigma, prior.net.sigma = (span * prior.sigma,) * 2
        with_step, without = Watch(1), Watch(1)
        dps(y, A, prior=prior, zeta=0.5, callback=with_step)
        dps(y, A, prior=prior, zeta=0.0, callback=without)
        factor = math.sqrt((1 + prior.sigma[-1] ** 2) * (1 + prior.sigma[-2] ** 2))
        changes.append((with_step.states[0] - without.states[0]) / span / factor)
    assert torch.allclose(*changes, rtol=0.05)  # the first step's slope hardly differs


def test_the_learned_variance_lies_between_its_bounds():
    s, s_next, ratio = 2.0, 1.5, 0.9
    low, high = deviation(s, s_next, ratio, None), math.sqrt((s**2 - s_next**2) * ratio**2)
    for v, expected in ((-1.0, low), (1.0, high), (0.0, math.sqrt(low * high))):
        assert deviation(s, s_next, ratio, torch.tensor(v)).item() == pytest.approx(expected)


def test_predictor_and_corrector_change_the_variance_as_computed_by_hand():
    a, s, s_next, snr = 0.3, 2.0, 1.2, 0.5
    prior = gaussian_prior(0.0, a, "ve")
    prior.sigma[500:502] = prior.net.sigma[500:502] = torch.tensor([s_next, s], dtype=F64)
    u = math.sqrt(a + s**2) * random(1, 1, 500, 500)
    u = predictor_step(u, prior.eps(u, 501), s, s_next, random(1, 1, 500, 500, seed=1))
    gap = s**2 - s_next**2
    expected = (a + s**2) * (1 - gap / (a + s**2)) ** 2 + gap
    assert u.var().item() == pytest.approx(expected, rel=0.02)
    u = math.sqrt(a + s_next**2) * random(2, 1, 500, 500, seed=2)
    u[1] *= 1e-3  # norms of each image: of one that is too small the step is larger
    z = random(2, 1, 500, 500, seed=3)
    u = langevin_step(u, prior.eps(u, 500), snr, s_next, z)
    assert u[0].var().item() == pytest.approx((a + s_next**2) * (1 + 4 * snr**4), rel=0.02)
    assert u[1].var().item() > 1e3 * u[0].var().item()


@pytest.mark.parametrize("channels", [1, 2])
def test_score_mri_ends_at_the_measured_k_space(channels):
    maps = torch.ones(1, 8, 6, dtype=torch.complex128)
    A = MultiCoilMRI(maps, torch.rand(8, 6, generator=rng(2)) < 0.5)
    y = A(random(1, 1, 8, 6, dtype=torch.complex128))
    x = score_mri(y, A, prior=gaussian_prior(0.0, 0.1, "ve", channels=channels), n_steps=15)
    assert torch.allclose(A(x), y, atol=1e-10)
    full = MultiCoilMRI(maps, torch.ones(8, 6, dtype=torch.bool))
    y = full(random(1, 1, 8, 6, dtype=torch.complex128))
    x = score_mri(y, full, prior=gaussian_prior(0.0, 0.1, channels=channels), n_steps=5)
    assert torch.allclose(x, full.adjoint(y))


def radon(side=10, views=4):
    return Radon((side, side), torch.arange(views, dtype=F64) * torch.pi / views, dtype=F64)


def test_mcg_s_projection_leaves_measured_views_as_they_are():
    A = radon()
    g = random(1, 1, 10, 10)
    found = unmeasured(g, A, steps=100)
    assert A(found).abs().max() < 1e-5 * A(g).abs().max()
    M = matrix(A, F64)  # 60 singular values or fewer: the other directions are not seen
    unseen = torch.linalg.svd(M).Vh[torch.linalg.matrix_rank(M) :]
    assert len(unseen) >= 40
    assert torch.allclose(unseen @ found.flatten(), unseen @ g.flatten(), atol=1e-9)
    few = unmeasured(g, A, steps=10)  # the default's number
    assert A(few).norm() < 0.05 * A(g).norm()


def test_mcg_finds_in_the_prior_what_the_views_lack():
    A = radon(16, 6)
    x_true = torch.rand(1, 1, 16, 16, dtype=F64, generator=rng())
    y = A(x_true)
    unit = peak(y, A)
    prior = gaussian_prior(0.8 * x_true[0] / unit, 1e-4, "ve")

    def error(x):
        return ((x - x_true).norm() / x_true.norm()).item()

    assert error(A.pinv(y)) > 0.3 and error(0.8 * x_true) == pytest.approx(0.2)
    assert error(mcg(y, A, prior=prior, n_steps=60)) < 0.12


def test_mcg_leaves_alone_what_no_ray_passes():
    angles = torch.tensor([40, 45, 50], dtype=F64).deg2rad()
    A = Radon((16, 16), angles, 15, dtype=F64)  # corners lie outside the detector
    unseen = A.adjoint(A(torch.ones(1, 1, 16, 16, dtype=F64))) == 0
    assert unseen.any()
    y = A(torch.rand(1, 1, 16, 16, dtype=F64, generator=rng()))
    prior = gaussian_prior(torch.zeros(1, 16, 16, dtype=F64), 1e-4, "ve")
    assert mcg(y, A, prior=prior, n_steps=4).isfinite().all()


def samplers():
    photo = torch.rand(1, 3, 8, 8, generator=rng())
    mask = PixelMask(torch.rand(8, 8, generator=rng(1)) < 0.5, 3)
    A = mri(dtype=torch.complex64)
    A_ct = Radon((16, 16), torch.arange(4, dtype=F64) * torch.pi / 4)
    rgb = dict(channels=3)
    return {
        "dds": (dds, A, A(random(1, 1, 8, 6, dtype=torch.complex64)), dict(channels=2), {}),
        "ddnm": (ddnm, mask, mask(photo), rgb, {}),
        "ddnm+": (ddnm, mask, mask(photo), rgb, {"sigma": 0.1}),
        "dps": (dps, mask, mask(photo), rgb, {}),
        "score_mri": (
            score_mri, A, A(random(1, 1, 8, 6, dtype=torch.complex64)), dict(channels=2), {}
        ),
        "mcg": (mcg, A_ct, A_ct(torch.rand(1, 1, 16, 16, generator=rng())), {}, {}),
    }  # fmt: skip


@pytest.mark.parametrize("name", samplers())
def test_the_same_levels_give_the_same_image_in_either_coordinates(name):
    method, A, y, facts, settings = samplers()[name]
    images = [
        method(y, A, prior=gaussian_prior(0.4, 0.1, kind, **facts), n_steps=8, **settings)
        for kind in ("vp", "rescaled")
    ]
    assert images[0].shape == (1, *A.in_shape) and images[0].isfinite().all()
    assert torch.allclose(*images, atol=2e-4)


@pytest.mark.parametrize("name", samplers())
def test_a_sampler_asks_nothing_of_the_device_in_its_loop(name, monkeypatch):
    method, A, y, facts, settings = samplers()[name]
    prior = gaussian_prior(0.4, 0.1, **facts)

    class Strict(Callback):
        def outer(self, n):
            for attribute in ("item", "__bool__", "__float__", "__int__", "nonzero"):
                monkeypatch.setattr(torch.Tensor, attribute, waited)
            yield from range(1, n + 1)
            monkeypatch.undo()

    def waited(*arguments):
        raise AssertionError("the loop waits for the device")

    # What a network does of itself is not the sampler's: here one that asks nothing.
    monkeypatch.setattr(prior, "predict", lambda u, t: (0.1 * u, None))
    monkeypatch.setattr(prior, "eps", lambda u, t: 0.1 * u)
    method(y, A, prior=prior, n_steps=3, callback=Strict(), **settings)


def test_non_linear_and_noisy_problems_are_refused_with_a_reason():
    blur = CameraBlur(torch.full((1, 3, 3), 1 / 9), torch.ones(1, 8, 8), (3, 8, 8))
    y = torch.rand(1, 3, 8, 8, generator=rng())
    prior = gaussian_prior(0.5, 0.1, channels=3)
    for method in (ddnm, dds):
        with pytest.raises(ValueError, match="linear problems only, which CameraBlur is not"):
            method(y, blur, prior=prior)
    linear = LinearBlur(torch.full((3, 3), 1 / 9), (3, 8, 8))
    with pytest.raises(ValueError, match="without noise.*sigma 0.1 and LinearBlur"):
        ddnm(y, linear, prior=prior, sigma=0.1)
    x = ddnm(linear(y), linear, prior=prior, n_steps=10)
    assert (linear(x) - linear(y)).norm() < 0.03 * linear(y).norm()
    for bad in (
        lambda: dps(y, blur, prior=prior, zeta=-1.0),
        lambda: ddnm(y, linear, prior=prior, eta=2.0),
        lambda: mcg(y, linear, prior=prior),
        lambda: dps(y, blur, prior=prior, n_steps=0),
    ):
        with pytest.raises(ValueError, match="expected"):
            bad()


# uDiG-DIP -----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["ct", "deblurring"])
def test_with_the_identity_as_purifier_it_is_aseqdip_bit_for_bit(
    task, tmp_path, monkeypatch, kspace
):
    fake_priors(monkeypatch)
    calls = []
    monkeypatch.setattr(udig_dip, "purified", lambda x, *more: calls.append(1) or x)
    flags = flags_of(task, tmp_path, kspace, "--method", "aseqdip,udig_dip", "--lr", "1e-3")
    prior = write_prior(tmp_path / "prior.json", {"mri": 2, "ct": 1}.get(task, 3))
    flags += ["--prior", prior, "--set", "purifications=3"]
    assert call(monkeypatch, SCRIPTS[task], *flags) == 0
    digests = [
        digest(run_folder(tmp_path / "out", task, "item", name)) for name in ("aseqdip", "udig_dip")
    ]
    assert digests[0] == digests[1] and len(calls) == 3


def test_purifications_lie_evenly_and_none_comes_last():
    for K, n, expected in ((8, 3, [2, 4, 6]), (2, 1, [1]), (3, 9, [1, 2]), (5, 0, [])):
        assert [k for k in range(1, K + 1) if udig_dip.is_due(k, K, n)] == expected
    assert sum(udig_dip.is_due(k, 2000, 20) for k in range(1, 2001)) == 20


def test_the_purified_image_is_the_next_input(monkeypatch):
    A = Identity((1, 4, 4))
    y = torch.rand(1, 1, 4, 4, generator=rng())
    net = torch.nn.Conv2d(1, 1, 1)
    inputs = []
    net.register_forward_pre_hook(lambda module, given: inputs.append(given[0].clone()))
    prior = gaussian_prior(0.5, 1e-12)  # all images are grey
    x = udig_dip.udig_dip(y, A, net, prior=prior, steps=4, N=2, purifications=1, noise_level=0.2)
    assert torch.equal(inputs[0], y) and torch.equal(inputs[2], y)
    assert torch.allclose(inputs[3], torch.full_like(y, 0.5), atol=1e-4)
    assert torch.allclose(x, net(inputs[3]))


def test_in_the_released_order_it_starts_from_dds_and_purifies_nothing(monkeypatch):
    A = Identity((1, 4, 4))
    y = torch.rand(1, 1, 4, 4, generator=rng())
    monkeypatch.setattr(udig_dip, "purified", None)
    starts = []
    net = torch.nn.Conv2d(1, 1, 1)
    net.register_forward_pre_hook(lambda module, given: starts.append(given[0].clone()))
    prior = gaussian_prior(0.5, 0.1)
    udig_dip.udig_dip(y, A, net, prior=prior, steps=2, order="released", seed=3)
    assert torch.equal(starts[0], dds(y, A, prior=prior, seed=3))
    blur = CameraBlur(torch.full((1, 3, 3), 1 / 9), torch.ones(1, 8, 8), (1, 8, 8))
    never = Callback()
    never.start = None
    with pytest.raises(ValueError, match="linear problems only, which CameraBlur is not"):
        udig_dip.udig_dip(y, blur, net, prior=prior, steps=2, order="released", callback=never)


def test_a_resumed_run_in_the_released_order_does_not_sample_again(tmp_path, monkeypatch, kspace):
    fake_priors(monkeypatch)
    calls, record = [], Loop.record
    monkeypatch.setattr(udig_dip, "dds", lambda *a, **more: calls.append(1) or dds(*a, **more))
    flags = flags_of("ct", tmp_path, kspace, "--method", "udig_dip", "--set", "order=released")
    flags += ["--prior", write_prior(tmp_path / "prior.json")]
    assert call(monkeypatch, SCRIPTS["ct"], *flags, "--out", tmp_path / "whole") == 0

    def signalled(self, k, x, terms):
        record(self, k, x, terms)
        if k == 1:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "record", signalled)
        assert call(patch, SCRIPTS["ct"], *flags) == 130
    assert call(monkeypatch, SCRIPTS["ct"], *flags) == 0
    assert len(calls) == 2  # of the whole run, and of the interrupted one
    digests = [
        digest(run_folder(tmp_path / out, "ct", "item", "udig_dip")) for out in ("whole", "out")
    ]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("known", ["sha256", "file_sha256"])
def test_what_a_prior_has_seen_is_no_test_of_it(known, tmp_path, monkeypatch, kspace, capsys):
    fake_priors(monkeypatch)
    flags = flags_of("ct", tmp_path, kspace, "--method", "dds", "--set", "n_steps=3")
    item = SCRIPTS["ct"].load(SCRIPTS["ct"].Args(), tmp_path / "item.npy")
    other = {"source": "another", "sha256": "0", "file_sha256": None}
    prior = write_prior(tmp_path / "prior.json", seen=[other, other | {known: item.facts[known]}])
    said = f"{tmp_path / 'item.npy'}: the prior was trained on"
    running.refused(monkeypatch, capsys, tmp_path, SCRIPTS["ct"], [*flags, "--prior", prior], said)
    np.save(tmp_path / "item.npy", np.load(tmp_path / "item.npy")[::-1])  # another image
    write_prior(prior, seen=[other])
    assert call(monkeypatch, SCRIPTS["ct"], *flags, "--prior", prior) == 0


# VarNet -------------------------------------------------------------------------------------


def test_varnet_loads_strictly_and_reconstructs(tmp_path, monkeypatch, kspace, capsys):
    varnet = pytest.importorskip(
        "fastmri.models.varnet", reason="the optional package fastmri is not installed"
    )
    torch.manual_seed(0)
    model = varnet.VarNet(2, 2, 2, 3, 2).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    flags = flags_of("mri", tmp_path, kspace, "--method", "varnet")
    flags += ["--varnet-weights", tmp_path / "weights.pt"]
    assert call(monkeypatch, SCRIPTS["mri"], *flags) == 0
    assert "training and validation" in capsys.readouterr().out
    folder = run_folder(tmp_path / "out", "mri", "item", "varnet")
    found = np.load(folder / "reconstruction.npy")
    assert np.isfinite(found).all() and "seen" in " ".join(metrics(folder))
    state = model.state_dict()
    state.pop("cascades.1.dc_weight")
    torch.save(state, tmp_path / "weights.pt")
    assert call(monkeypatch, SCRIPTS["mri"], *flags) == 2
    assert "not those of fastmri's VarNet" in capsys.readouterr().err


def test_varnet_is_for_columns(kspace):
    from baselines.varnet import varnet

    A = mri(dtype=torch.complex64)
    with pytest.raises(ValueError, match="whole columns"):
        varnet(torch.zeros(1, 3, 8, 6, dtype=torch.complex64), A, weights={})
    columns = MultiCoilMRI(A.sens_maps, torch.ones_like(A.mask))
    with pytest.raises(InputError, match="varnet: the"):
        varnet(torch.zeros(1, 3, 8, 6, dtype=torch.complex64), columns, weights={})
