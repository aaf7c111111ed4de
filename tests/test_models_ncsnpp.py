"""NCSN++: size and names of the public files, and its parts against formulas and scipy."""

import math

import numpy as np
import scipy.signal
import torch
import torch.nn.functional as F

from models import ncsnpp
from models.ncsnpp import NIN, Attention, Fourier, NCSNpp, Pyramid, ResBlock

SIGMAS = torch.logspace(2, -2, 20, dtype=torch.float64)  # as in a file, from the highest


def rand(*shape, seed=1, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unsettled(module):
    module = module.double()
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(0.3 * rand(*parameter.shape, seed=10 + number))
    return module


def silu(x):
    return x / (1 + (-x).exp())


def by_hand_norm(x, norm, groups):
    parts = x.reshape(len(x), groups, -1)
    parts = (parts - parts.mean(-1, keepdim=True)) / (
        parts.var(-1, keepdim=True, unbiased=False) + 1e-6
    ).sqrt()
    return parts.reshape(x.shape) * norm.weight[:, None, None] + norm.bias[:, None, None]


def test_the_public_network_has_this_size_and_these_parts():
    with torch.device("meta"):
        net = NCSNpp(1, 128, SIGMAS)
    trained = [p for p in net.parameters() if p.requires_grad]
    frozen = [p for p in net.parameters() if not p.requires_grad]
    assert sum(p.numel() for p in trained) == 61_433_473
    assert [p.shape for p in frozen] == [(128,)]
    layers = net.all_modules
    assert len(layers) == 54 and net.multiple == 8
    blocks = {n: m for n, m in enumerate(layers) if isinstance(m, ResBlock)}
    ends = {n: (m.Conv_0.in_channels, m.Conv_0.out_channels) for n, m in blocks.items()}
    expected = (
        dict.fromkeys((4, 5, 6, 7, 8), (128, 128))
        | {10: (128, 256)}
        | dict.fromkeys((11, 12, 13, 14, *range(16, 21), *range(22, 27), 28), (256, 256))
        | dict.fromkeys((*range(29, 34), *range(35, 40), *range(41, 45)), (512, 256))
        | dict.fromkeys((34, 40, 46), (256, 256))
        | {45: (384, 256), 47: (384, 128)}
        | dict.fromkeys(range(48, 52), (256, 128))
    )
    assert ends == expected
    pyramid = {
        n: tuple(m.Conv2d_0.weight.shape) for n, m in enumerate(layers) if isinstance(m, Pyramid)
    }
    assert pyramid == {9: (128, 1, 3, 3), 15: (256, 128, 3, 3), 21: (256, 256, 3, 3)}
    assert [n for n, m in enumerate(layers) if isinstance(m, Attention)] == [27]


def test_names_and_their_order_are_score_sdes():
    net = NCSNpp(1, 8, SIGMAS)
    names = [name for name, _ in net.named_parameters()]
    assert names[:7] == [
        "all_modules.0.W", "all_modules.1.weight", "all_modules.1.bias", "all_modules.2.weight",
        "all_modules.2.bias", "all_modules.3.weight", "all_modules.3.bias",
    ]  # fmt: skip
    block = [n.removeprefix("all_modules.8.") for n in names if n.startswith("all_modules.8.")]
    parts = ("GroupNorm_0", "Conv_0", "Dense_0", "GroupNorm_1", "Conv_1", "Conv_2")
    assert block == [f"{part}.{w}" for part in parts for w in ("weight", "bias")]
    attention = [
        n.removeprefix("all_modules.27.") for n in names if n.startswith("all_modules.27.")
    ]
    assert attention == ["GroupNorm_0.weight", "GroupNorm_0.bias"] + [
        f"NIN_{i}.{w}" for i in range(4) for w in ("W", "b")
    ]
    assert "all_modules.9.Conv2d_0.weight" in names
    assert [name for name, _ in net.named_buffers()] == ["sigmas"]


def along_both(x, **how):
    for axis in (-2, -1):
        x = scipy.signal.upfirdn(axis=axis, x=x, **how)
    return x


def test_resampling_is_scipys_upfirdn():
    x = rand(2, 3, 6, 4)
    taps = np.array([1.0, 3, 3, 1]) / 8
    up = along_both(x.numpy(), h=2 * taps, up=2)
    # Of the whole response the reference keeps what begins one sample later.
    padded = np.pad(up, ((0, 0), (0, 0), (0, 1), (0, 1)))[..., 1:13, 1:9]
    np.testing.assert_allclose(ncsnpp.upsampled(x), padded, atol=1e-12)
    down = along_both(x.numpy(), h=taps)[..., 2::2, 2::2][..., :3, :2]
    np.testing.assert_allclose(ncsnpp.downsampled(x), down, atol=1e-12)
    flat = torch.ones(1, 1, 8, 8, dtype=torch.float64)  # the gain is 1 away from the border
    torch.testing.assert_close(
        ncsnpp.upsampled(flat)[..., 2:-2, 2:-2],
        torch.ones_like(flat[..., :1, :1]).expand(1, 1, 12, 12),
    )
    torch.testing.assert_close(ncsnpp.downsampled(flat)[..., 1:-1, 1:-1], flat[..., :2, :2])


def test_the_pyramid_filters_then_convolves_every_second_pixel():
    layer = unsettled(Pyramid(2, 5))
    x = rand(1, 2, 8, 6)
    taps = np.array([1.0, 3, 3, 1]) / 8
    whole = along_both(x.numpy(), h=taps)  # of all that the filter reaches, one sample less
    kept = torch.from_numpy(whole[..., 1 : 1 + 9, 1 : 1 + 7])
    conv = layer.Conv2d_0
    expected = F.conv2d(kept, conv.weight, conv.bias, stride=2)
    torch.testing.assert_close(layer(x), expected)
    assert layer(x).shape == (1, 5, 4, 3)


def test_blocks_are_their_formulas():
    block = unsettled(ResBlock(8, 16, 12))
    x, emb = rand(2, 8, 6, 4), rand(2, 12, seed=5)
    h = silu(by_hand_norm(x, block.GroupNorm_0, 2))
    h = F.conv2d(h, block.Conv_0.weight, block.Conv_0.bias, padding=1)
    h = h + (silu(emb) @ block.Dense_0.weight.T + block.Dense_0.bias)[..., None, None]
    h = silu(by_hand_norm(h, block.GroupNorm_1, 4))
    h = F.conv2d(h, block.Conv_1.weight, block.Conv_1.bias, padding=1)
    skip = F.conv2d(x, block.Conv_2.weight, block.Conv_2.bias)
    torch.testing.assert_close(block(x, emb), (skip + h) / math.sqrt(2))
    same = ResBlock(8, 8, 12)
    assert same.Conv_2 is None and ResBlock(8, 8, 12, "up").Conv_2 is not None

    attention = unsettled(Attention(16))
    x = rand(1, 16, 3, 4)
    h = by_hand_norm(x, attention.GroupNorm_0, 4)
    q, k, v = (
        torch.einsum("bchw,cd->bdhw", h, nin.W) + nin.b[:, None, None]
        for nin in (attention.NIN_0, attention.NIN_1, attention.NIN_2)
    )
    weight = torch.einsum("bchw,bcij->bhwij", q, k) / 4
    weight = weight.flatten(3).softmax(-1).reshape(weight.shape)
    h = torch.einsum("bhwij,bcij->bchw", weight, v)
    last = attention.NIN_3
    h = torch.einsum("bchw,cd->bdhw", h, last.W) + last.b[:, None, None]
    torch.testing.assert_close(attention(x), (x + h) / math.sqrt(2))
    assert isinstance(last, NIN)


def test_the_noise_level_is_embedded_as_sines_then_cosines():
    layer = Fourier(8)
    log_sigma = torch.tensor([-2.0, 1.5])
    angles = 2 * np.pi * log_sigma.numpy()[:, None] * layer.W.detach().numpy()
    expected = np.concatenate((np.sin(angles), np.cos(angles)), axis=1)
    np.testing.assert_allclose(layer(log_sigma).numpy(), expected, atol=2e-4)
    assert not layer.W.requires_grad


def test_levels_ascend_and_images_are_centred():
    net = unsettled(NCSNpp(1, 8, SIGMAS))
    seen = {}
    net.all_modules[0].register_forward_pre_hook(lambda m, a: seen.update(level=a[0]))
    net.all_modules[3].register_forward_pre_hook(lambda m, a: seen.update(image=a[0]))
    net.all_modules[-1].register_forward_hook(lambda m, a, out: seen.update(out=out))
    x = rand(2, 1, 16, 24)
    eps = net(x, torch.tensor([0, 19]))
    torch.testing.assert_close(
        seen["level"].exp(), torch.tensor([0.01, 100.0], dtype=torch.float64)
    )
    torch.testing.assert_close(seen["image"], 2 * x - 1)
    torch.testing.assert_close(eps, -seen["out"])  # score = out / sigma = -eps / sigma
    assert eps.shape == x.shape
    eps.square().sum().backward()
    assert all(bool(p.grad.any()) for p in net.parameters() if p.requires_grad)
