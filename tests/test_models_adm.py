"""ADM's U-Net: sizes and names of the public files, and its blocks against their formulas."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.adm import ADM, Attention, ResBlock, architecture, embedding
from utils.precision import place

FILES = {
    "FFHQ": (93_563_910, dict(in_channels=3, out_channels=6, width=128, mults=(1, 1, 2, 2, 4, 4), blocks=1, attention=(4,))),
    "ImageNet": (552_814_086, dict(in_channels=3, out_channels=6, width=256, mults=(1, 1, 2, 2, 4, 4), blocks=2, attention=(3, 4, 5))),
    "AAPM256": (374_022_658, dict(in_channels=1, out_channels=2, width=256, mults=(1, 1, 2, 2, 4, 4), blocks=1, attention=(4,))),
    "fastMRI": (361_428_228, dict(in_channels=2, out_channels=4, width=256, mults=(1, 1, 2, 2, 4, 4), blocks=1, attention=())),
}  # fmt: skip


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def rand(*shape, seed=1, dtype=torch.float64):
    return torch.randn(shape, generator=rng(seed), dtype=dtype)


def unsettled(module, seed=2):
    """Draw every weight, also those that start at zero."""
    module = module.double()
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(0.3 * rand(*parameter.shape, seed=seed + number))
    return module


def small_net(**settings):
    given = dict(in_channels=2, out_channels=2, width=32, mults=(1, 2), attention=(1,)) | settings
    net = ADM(**given)
    net.initialise(rng())
    return net


def by_hand_norm(x, norm):
    groups = x.reshape(len(x), 32, -1)
    mean, variance = groups.mean(-1, keepdim=True), groups.var(-1, keepdim=True, unbiased=False)
    y = ((groups - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return y * norm.weight.view(shape) + norm.bias.view(shape)


def silu(x):
    return x / (1 + (-x).exp())


@pytest.mark.parametrize("name", FILES)
def test_public_files_have_these_sizes_and_are_told_by_their_shapes(name):
    n_params, settings = FILES[name]
    with torch.device("meta"):
        net = ADM(**settings)
    assert sum(p.numel() for p in net.parameters()) == n_params
    assert architecture(net.state_dict()) == settings
    assert not list(net.buffers())


def layout(name, side):
    """Return slots of each block: (in, out) of a ResBlock, A of attention."""
    with torch.device("meta"):
        net = ADM(**FILES[name][1])
    state, found = net.state_dict(), {}
    for key, value in state.items():
        part, number, slot, *rest = key.split(".")
        if part == side and rest == ["in_layers", "2", "weight"]:
            found.setdefault(int(number), {})[int(slot)] = (value.shape[1], value.shape[0])
        if part == side and rest == ["qkv", "weight"]:
            found.setdefault(int(number), {})[int(slot)] = "A"
    return [[found[n][slot] for slot in sorted(found[n])] for n in sorted(found)]


def test_blocks_of_fastmri_and_aapm_are_those_of_the_files():
    r = [(256, 256)] * 4 + [(256, 512), *[(512, 512)] * 3, (512, 1024), *[(1024, 1024)] * 2]
    assert layout("fastMRI", "input_blocks") == [[x] for x in r]
    aapm = [[x] for x in r]
    aapm[8].append("A")  # input_blocks.9, after the convolution
    assert layout("AAPM256", "input_blocks") == aapm
    out = [(2048, 1024), (2048, 1024), (2048, 1024), (1536, 1024), (1536, 512), (1024, 512),
           (1024, 512), (768, 512), (768, 256), (512, 256), (512, 256), (512, 256)]  # fmt: skip
    up = {1: 1024, 3: 1024, 5: 512, 7: 512, 9: 256}
    plain = [[x, *((up[n], up[n]) for _ in range(n in up))] for n, x in enumerate(out)]
    assert layout("fastMRI", "output_blocks") == plain
    plain[2].insert(1, "A")
    plain[3].insert(1, "A")
    assert layout("AAPM256", "output_blocks") == plain


def test_attention_and_ups_of_imagenet_are_those_of_the_file():
    inside, out = layout("ImageNet", "input_blocks"), layout("ImageNet", "output_blocks")
    assert len(inside) == 17 and len(out) == 18
    assert [n for n, x in enumerate(inside, start=1) if "A" in x] == [10, 11, 13, 14, 16, 17]
    assert [n for n, x in enumerate(out) if "A" in x] == [*range(9)]
    ups = {n: len(x) - 1 for n, x in enumerate(out) if len(x) > 1 and x[-1] != "A"}
    assert ups == {2: 2, 5: 2, 8: 2, 11: 1, 14: 1}


def test_names_of_the_parts_are_openais():
    keys = set(small_net().state_dict())
    block = {
        f"{part}.{w}"
        for part in ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3")
        for w in ("weight", "bias")
    }
    attention = {f"{p}.{w}" for p in ("norm", "qkv", "proj_out") for w in ("weight", "bias")}
    assert {
        k.removeprefix("middle_block.0.") for k in keys if k.startswith("middle_block.0.")
    } == block
    assert {
        k.removeprefix("middle_block.1.") for k in keys if k.startswith("middle_block.1.")
    } == attention
    assert "input_blocks.3.0.skip_connection.weight" in keys  # 32 to 64 channels
    assert "input_blocks.1.0.skip_connection.weight" not in keys
    assert {"time_embed.0.bias", "time_embed.2.bias", "out.0.bias", "out.2.bias"} <= keys


def test_embedding_is_cosines_then_sines():
    t, channels = np.array([0, 3, 999]), 64
    i = np.arange(32)
    angles = t[:, None] * np.exp(-math.log(1e4) * i / 32)
    expected = np.concatenate((np.cos(angles), np.sin(angles)), axis=1)
    got = embedding(torch.from_numpy(t), channels).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4)  # float32 angles of up to 999


@pytest.mark.parametrize("resample", [None, "up", "down"])
@pytest.mark.parametrize("out_channels", [32, 64])
def test_resblock_is_its_formula(resample, out_channels):
    block = unsettled(ResBlock(32, out_channels, 16, resample))
    x, emb = rand(2, 32, 6, 4), rand(2, 16, seed=7)

    def resampled(v):
        if resample == "up":
            return v.repeat_interleave(2, -1).repeat_interleave(2, -2)
        if resample == "down":
            return v.reshape(*v.shape[:2], v.shape[2] // 2, 2, v.shape[3] // 2, 2).mean((3, 5))
        return v

    first, last = block.in_layers[2], block.out_layers[3]
    h = resampled(silu(by_hand_norm(x, block.in_layers[0])))
    h = F.conv2d(h, first.weight, first.bias, padding=1)
    film = silu(emb) @ block.emb_layers[1].weight.T + block.emb_layers[1].bias
    scale, shift = film[:, :out_channels], film[:, out_channels:]
    h = by_hand_norm(h, block.out_layers[0]) * (1 + scale[..., None, None]) + shift[..., None, None]
    h = F.conv2d(silu(h), last.weight, last.bias, padding=1)
    x = resampled(x)
    if out_channels != 32:
        skip = block.skip_connection
        x = torch.einsum("bchw,dc->bdhw", x, skip.weight[..., 0, 0]) + skip.bias[:, None, None]
    torch.testing.assert_close(block(x=rand(2, 32, 6, 4), emb=emb), x + h)


def test_attention_takes_heads_first_then_q_k_v():
    block = unsettled(Attention(128))
    x = rand(2, 128, 3, 5)
    pixels = x.flatten(2)
    qkv = torch.einsum("bcn,dc->bdn", by_hand_norm(pixels, block.norm), block.qkv.weight[..., 0])
    qkv = qkv + block.qkv.bias[:, None]
    outputs = []
    for head in range(2):
        q, k, v = qkv[:, 192 * head : 192 * (head + 1)].split(64, dim=1)
        weight = torch.einsum("bct,bcs->bts", q * 64**-0.25, k * 64**-0.25).softmax(-1)
        outputs.append(torch.einsum("bts,bcs->bct", weight, v))
    out = torch.einsum("bcn,dc->bdn", torch.cat(outputs, 1), block.proj_out.weight[..., 0])
    expected = x + (out + block.proj_out.bias[:, None]).reshape(x.shape)
    torch.testing.assert_close(block(x), expected)


def test_a_skip_connection_follows_what_comes_from_below():
    net = unsettled(small_net())  # an untrained middle would change nothing
    seen = {}
    net.middle_block.register_forward_hook(lambda m, a, out: seen.update(middle=out))
    net.input_blocks[-1].register_forward_hook(lambda m, a, out: seen.update(skip=out))
    net.output_blocks[0].register_forward_pre_hook(lambda m, a: seen.update(joined=a[0]))
    net(rand(1, 2, 8, 12), torch.tensor([5]))
    torch.testing.assert_close(seen["joined"], torch.cat((seen["middle"], seen["skip"]), 1))


def test_every_weight_has_a_gradient_and_sides_stay():
    net = unsettled(small_net(mults=(1, 2, 2)))
    assert net.multiple == 4
    x = net(rand(2, 2, 12, 20), torch.tensor([3, 700]))
    assert x.shape == (2, 2, 12, 20)
    x.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())


def test_an_untrained_network_predicts_zero_and_comes_from_its_generator_alone():
    state = torch.random.get_rng_state()
    net, again = small_net(), small_net()
    net.initialise(rng(4))
    again.initialise(rng(4))
    torch.testing.assert_close(net.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert not net(rand(1, 2, 8, 8, dtype=torch.float32), torch.tensor([1])).any()
    torch.random.set_rng_state(state)


def test_bfloat16_is_near_float32_with_and_without_gradients():
    net = small_net()
    torch.nn.init.normal_(net.out[-1].weight, 0.0, 0.05, generator=rng(3))
    x, t = rand(1, 2, 16, 16, dtype=torch.float32), torch.tensor([40])
    exact = net(x, t)
    rounded = place(net, torch.device("cpu"), "bf16")
    with torch.no_grad():
        plain = rounded(x, t)
    x.requires_grad_()
    followed = rounded(x, t)
    assert plain.dtype == followed.dtype == torch.float32
    for y in (plain, followed):
        assert (y - exact).norm() < 0.02 * exact.norm()
