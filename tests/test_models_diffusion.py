"""Priors: a Gaussian's exact denoiser, and every kind of file."""

import hashlib

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from torch import nn

from models.adm import ADM
from models.diffusion import KIND, Preconditioned, Prior, load_prior, starts, ve_levels, vp_levels
from models.ncsnpp import NCSNpp
from utils.errors import InputError
from utils.precision import place

MEAN, VARIANCE = 0.3, 0.04
BETA = torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64)
ABAR = torch.cumprod(1 - BETA, 0)
SCHEDULES = {
    "VP": (((1 - ABAR) / ABAR).sqrt(), ABAR.sqrt()),
    "VE": (torch.logspace(-2, 2, 50, dtype=torch.float64), torch.ones(50, dtype=torch.float64)),
}


class GaussianNet(nn.Module):
    """The exact eps of images whose pixels are independent, N(MEAN, VARIANCE)."""

    def __init__(self, sigma, scale, learned_variance=False):
        super().__init__()
        self.sigma, self.scale, self.learned_variance = sigma, scale, learned_variance
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x_t, t):
        assert t.shape == (len(x_t),) and t.dtype == torch.int64
        sigma, scale = (values[t][:, None, None, None] for values in (self.sigma, self.scale))
        x = x_t / scale
        eps = self.weight * sigma * (x - MEAN) / (sigma**2 + VARIANCE)
        return torch.cat((eps, 0 * eps + 0.25), 1) if self.learned_variance else eps


def gaussian_prior(kind, learned_variance=False, tiled=False):
    sigma, scale = SCHEDULES[kind]
    net = GaussianNet(sigma, scale, learned_variance)
    return Prior(net, sigma, scale, 2, 8, 1, 0, 1, {}, tiled)


def noisy(prior, t, seed=0):
    g = torch.Generator().manual_seed(seed)
    x0 = MEAN + VARIANCE**0.5 * torch.randn(3, 2, 40, 50, generator=g, dtype=torch.float64)
    return x0, x0 + prior.sigma[t] * torch.randn(x0.shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("t", [0, 20, 49])
def test_x0_is_the_posterior_mean_of_a_gaussian(kind, t):
    prior = gaussian_prior(kind)
    x0, x = noisy(prior, t)
    precision = 1 / VARIANCE + 1 / prior.sigma[t] ** 2
    mean = (MEAN / VARIANCE + x / prior.sigma[t] ** 2) / precision
    torch.testing.assert_close(prior.x0(x, t), mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(prior.eps(x, t), (x - mean) / prior.sigma[t], rtol=1e-9, atol=1e-12)
    # 12000 pixels: the mean squared error is known to 1.3 %.
    error = ((prior.x0(x, t) - x0) ** 2).mean().item()
    assert error == pytest.approx(1 / precision.item(), rel=0.06)


def test_predict_tells_the_variance_from_the_noise():
    prior = gaussian_prior("VP", learned_variance=True)
    x = torch.randn(2, 2, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    eps, v = prior.predict(x, 7)
    assert eps.shape == v.shape == x.shape
    torch.testing.assert_close(v, torch.full_like(v, 0.25))
    eps_alone, v_alone = gaussian_prior("VP").predict(x, 7)
    torch.testing.assert_close(eps_alone, eps, rtol=0, atol=0)
    assert v_alone is None


def test_a_prior_is_frozen_but_differentiable_in_x():
    prior = gaussian_prior("VP")
    assert prior.steps == 1000
    assert not prior.net.training
    x = torch.zeros(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(prior.x0(x, 100).sum(), x)
    expected = VARIANCE / (VARIANCE + prior.sigma[100] ** 2)  # of the posterior mean
    torch.testing.assert_close(gradient, expected.expand_as(gradient))
    assert not any(p.requires_grad for p in prior.parameters())


# Tiles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCHEDULES)
def test_tiles_change_nothing_where_each_pixel_is_seen_alone(kind):
    whole, tiled = (gaussian_prior(kind, learned_variance=True, tiled=t) for t in (False, True))
    x = noisy(whole, 20)[1]
    assert whole.tiles((40, 50)) == ([0], [0]) and tiled.tiles((8, 5)) == ([0], [0])
    for found, expected in zip(tiled.predict(x, 20), whole.predict(x, 20), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [8, 9, 64])
def test_parts_cover_a_side_and_overlap_by_a_quarter(size):
    for side in range(1, 4 * size):
        first = starts(side, size)
        steps = {b - a for a, b in zip(first, first[1:])}
        assert first[0] == 0 and first[-1] == max(side - size, 0)
        assert max(steps, default=0) <= size - size // 4 and len(steps) <= 2
        assert (len(first) == 1) == (side <= size)


class OneNumber(nn.Module):
    """Say of each pixel the mean of its image, plus a blur of x."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x, t):
        blur = nn.functional.avg_pool2d(x, 3, 1, 1)
        return self.weight * (x.square().mean((1, 2, 3), keepdim=True) + blur)


def tiled_mean():
    sigma, scale = SCHEDULES["VE"]
    return Prior(OneNumber(), sigma, scale, 1, 8, 1, 0, 1, {}, tiled=True)


def test_tiles_are_predicted_alone_and_blended_by_hann_s_window():
    x = torch.randn(2, 1, 13, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    window = np.hanning(2 * 8 + 1)[1::2]  # of 8 pixels in 13 rows; the columns fit whole
    total, weight = np.zeros((2, 13, 6)), np.zeros((13, 1))
    for top in (0, 5):
        part = x[:, 0, top : top + 8].numpy()
        blur = uniform_filter(part, (0, 3, 3), mode="constant")
        alone = (part**2).mean((1, 2), keepdims=True) + blur
        total[:, top : top + 8] += window[:, None] * alone
        weight[top : top + 8] += window[:, None]
    found = tiled_mean().eps(x, 3)
    assert np.allclose(found[:, 0].numpy(), total / weight, rtol=1e-6, atol=1e-8)


def test_a_tiled_prior_can_be_differentiated_in_x():
    prior = tiled_mean()
    x = torch.randn(1, 1, 12, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(lambda x: prior.x0(x, 3), x.requires_grad_())


# Files --------------------------------------------------------------------------------------

ADM_FILES = {
    "FFHQ": (3, 6, 128, 1, (4,), (256, -1, 1, "RGB")),
    "ImageNet": (3, 6, 256, 2, (3, 4, 5), (256, -1, 1, "RGB")),
    "AAPM CT": (1, 2, 256, 1, (4,), (256, 0, 1, "grey")),
    "fastMRI knee": (2, 4, 256, 1, (), (320, 0, 1, "complex")),
}


def adm_state(channels, out, width, blocks, attention):
    """Return a public file's weights, all of them zeros that take no memory."""
    with torch.device("meta"):
        net = ADM(channels, out, width, (1, 1, 2, 2, 4, 4), blocks, attention)
    return {k: torch.zeros(1).expand(v.shape) for k, v in net.state_dict().items()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pt"


@pytest.mark.parametrize("name", ADM_FILES)
def test_public_adm_files_are_told_by_their_shapes(name, path):
    *shape, (size, low, high, kind) = ADM_FILES[name]
    torch.save(adm_state(*shape), path)
    prior = load_prior(path)
    assert (prior.channels, prior.size, prior.multiple) == (shape[0], size, 32)
    assert (prior.low, prior.high, prior.steps) == (low, high, 1000)
    assert prior.facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    line = prior.description()
    for word in ("weights.pt", name, kind, f"{size}x{size}", "variance", "VP, 1000 steps"):
        assert word in line
    torch.testing.assert_close(prior.sigma, SCHEDULES["VP"][0])
    torch.testing.assert_close(prior.scale, SCHEDULES["VP"][1])
    assert not prior.tiled
    assert not any(p.requires_grad for p in prior.parameters())


def test_noise_levels_are_those_that_the_papers_give():
    sigma, scale = vp_levels()
    found = [sigma[t].item() for t in (0, 100, 200, 300, 400, 500, 999)]
    assert found == pytest.approx([0.010, 0.342, 0.724, 1.24, 2.04, 3.44, 157], rel=5e-3)
    torch.testing.assert_close(scale**2 * (1 + sigma**2), torch.ones_like(scale))


def test_exploding_levels_are_those_that_score_mri_gives():
    sigma, scale = ve_levels()
    expected = [0.01 * (378 / 0.01) ** (i / 1999) for i in (0, 1, 700, 1999)]
    assert [sigma[i].item() for i in (0, 1, 700, 1999)] == pytest.approx(expected)
    assert len(sigma) == 2000 and bool((scale == 1).all())


def ncsnpp_record(prefix="module.", seed=3):
    """Return a small file as score_sde writes it, and the averaged weights by name."""
    g = torch.Generator().manual_seed(seed)
    sigmas = torch.logspace(2, -2, 40, dtype=torch.float64)
    net = NCSNpp(1, 8, sigmas)
    state = {k: torch.rand(v.shape, generator=g).to(v) for k, v in net.state_dict().items()}
    state["sigmas"] = sigmas
    averages = {
        name: 0.2 * torch.randn(p.shape, generator=g)
        for name, p in net.named_parameters()
        if p.requires_grad
    }
    ema = {"decay": 0.999, "num_updates": 7, "shadow_params": list(averages.values())}
    record = {"model": {prefix + k: v for k, v in state.items()}, "ema": ema, "step": 7}
    net.load_state_dict(state | averages)
    return record, net


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_ncsnpp_takes_the_averages_in_their_order_and_the_rest_by_name(prefix, path):
    record, net = ncsnpp_record(prefix)
    torch.save(record, path)
    prior = load_prior(path)
    assert (prior.channels, prior.multiple, prior.steps) == (1, 8, 40)
    assert prior.sigma[0].item() == pytest.approx(0.01)
    assert prior.sigma[-1].item() == pytest.approx(100)
    assert bool((prior.scale == 1).all()) and "VE, 40 steps" in prior.description()
    x = torch.rand(1, 1, 16, 8, generator=torch.Generator().manual_seed(0))
    expected = net(x, torch.tensor([11]))
    torch.testing.assert_close(prior.eps(x, 11), expected, rtol=0, atol=0)
    assert prior.predict(x, 11)[1] is None


def small_record(seed=0):
    """Return a file as prior_train.py writes it, and its network."""
    net = ADM(2, 2, 32, (1, 2))
    net.initialise(torch.Generator().manual_seed(seed))
    torch.nn.init.normal_(net.out[-1].weight, 0.0, 0.1, generator=torch.Generator().manual_seed(1))
    sigma, scale = vp_levels()
    record = {
        "kind": KIND, "task": "mri", "size": 48, "low": 0.0, "high": 1.0, "data_std": 0.2,
        "sigma": sigma, "scale": scale, "items": [], "state": net.state_dict(),
    }  # fmt: skip
    return record, net


def test_a_file_of_ours_that_does_not_say_what_it_has_seen_is_refused(path):
    record, _ = small_record()
    torch.save(record | {"items": ["a"]}, path)
    with pytest.raises(InputError, match="the facts of each image"):
        load_prior(path)


def test_a_file_of_ours_brings_back_what_its_weights_do_not_tell(path):
    record, net = small_record()
    torch.save(record, path)
    prior = load_prior(path)
    assert (prior.channels, prior.size, prior.multiple, prior.low, prior.high) == (2, 48, 2, 0, 1)
    assert prior.tiled and prior.tiles((64, 40)) == ([0, 16], [0])
    x = torch.randn(1, 2, 8, 12, generator=torch.Generator().manual_seed(2))
    t, s2 = 150, 0.2**2
    sigma = prior.sigma[t].item()
    r2 = sigma**2 + s2
    # Karras et al., table 1: D = c_skip x + c_out F(c_in x).
    f = net(x / r2**0.5, torch.tensor([t]))
    expected = s2 / r2 * x + sigma * s2**0.5 / r2**0.5 * f
    torch.testing.assert_close(prior.x0(x, t), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 2, 8, 9), (1, 1, 8, 8), (2, 8, 8)])
def test_images_that_do_not_fit_are_refused(shape, path):
    torch.save(small_record()[0], path)
    with pytest.raises(ValueError, match="multiples of 2, got"):
        load_prior(path).eps(torch.zeros(shape), 3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_placed_prior_can_be_differentiated_in_x(precision, path):
    torch.save(small_record()[0], path)
    prior = load_prior(path)
    prior.net = place(prior.net, torch.device("cpu"), precision)
    x = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(4), requires_grad=True)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    y = prior.x0(x, 150)
    assert y.dtype == torch.float32
    (gradient,) = torch.autograd.grad(y.sum(), x)
    step = 0.05 * direction
    with torch.no_grad():
        slope = ((prior.x0(x + step, 150) - prior.x0(x - step, 150)).sum() / 0.1).item()
    assert (gradient * direction).sum().item() == pytest.approx(slope, rel=0.1, abs=0.2)


def test_preconditioning_alone_is_exact_for_white_images():
    class Nothing(nn.Module):
        in_channels = 1

        def forward(self, x, t):
            return torch.zeros_like(x)

    sigma, scale = SCHEDULES["VP"]
    prior = Prior(Preconditioned(Nothing(), sigma, scale, 0.3), sigma, scale, 1, 8, 1, 0, 1, {})
    x = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    wiener = 0.09 / (0.09 + sigma[300].item() ** 2) * x
    torch.testing.assert_close(prior.x0(x, 300), wiener, rtol=1e-4, atol=1e-5)


class Unsafe:
    def __reduce__(self):
        return (print, ("executed",))


def broken(kind):
    """Return what a broken file holds, and what its message must tell."""
    record, _ = small_record()
    state = record["state"]
    first = next(iter(state))
    if kind == "renamed":
        state["renamed"] = state.pop(first)
        return record, f"lacks 1 weights, such as `{first}`"
    if kind == "too much":
        state["further"] = torch.zeros(1)
        return record, "also has 1 weights, such as `further`"
    if kind == "wrong shape":
        state["out.0.weight"] = torch.zeros(33)
        return record, "`out.0.weight` is (33,), expected (32,)"
    if kind == "unknown":
        return state, "parameters, which no public file has"
    if kind == "classes":
        return state | {"label_emb.weight": torch.zeros(10, 128)}, "class-conditional"
    if kind == "not levels":
        record["sigma"] = record["sigma"].flip(0)
        return record, "ascend"
    if kind in ("size 0", "size 47"):
        record["size"] = int(kind[5:])
        return record, f"crops of {kind[5:]} pixels, expected a multiple of 2"
    if kind == "list":
        return [1, 2], "expected a dict"
    if kind == "unsafe":
        return {"input_blocks.0.0.weight": Unsafe()}, "no diffusion network"
    short, _ = ncsnpp_record()
    short["ema"]["shadow_params"].pop()
    return short, "averaged weights, got"


KINDS = "size 0, size 47, renamed, too much, wrong shape, unknown, classes, not levels, list, unsafe, averages"


@pytest.mark.parametrize("kind", KINDS.split(", "))
def test_another_network_is_refused_in_one_line(kind, path, capsys):
    saved, fact = broken(kind)
    torch.save(saved, path)
    with pytest.raises(InputError) as error:
        load_prior(path)
    message = str(error.value)
    assert fact in message and str(path) in message and "\n" not in message
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(legacy, share, path):
    torch.save(small_record()[0], path, _use_new_zipfile_serialization=not legacy)
    load_prior(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="no diffusion network|damaged"):
        load_prior(path)


def test_a_flipped_byte_a_folder_and_a_missing_file_are_refused(path):
    torch.save(small_record()[0], path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="checksum"):
        load_prior(path)
    with pytest.raises(InputError, match="got a folder"):
        load_prior(path.parent)
    with pytest.raises(InputError, match="no such file"):
        load_prior(path.parent / "none.pt")
