"""The network of Deep Image Prior: its size, its gradients, its borders, any image size."""

import math

import pytest
import torch

from models.skip import Conv, LateSkipNet, SkipNet, initialise


def make_net(width=8, depth=3, seed=0, **options):
    return SkipNet(5, 3, width, 4, depth, generator=torch.Generator().manual_seed(seed), **options)


def noise(*shape, seed=1, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unsettle(net):
    """Move every parameter off its initial value, where some gradients vanish by symmetry."""
    generator = torch.Generator().manual_seed(9)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return net


def test_parameters_are_those_of_the_public_network_without_what_batchnorm_cancels():
    n_params = sum(p.numel() for p in SkipNet(32, 3).parameters())
    cancelled_biases = 5 * (4 + 4 * 128)  # of the skip, of two convolutions down and two up
    cancelled_shifts = 5 * (4 + 128)  # after joining
    assert n_params == 2_217_831 - cancelled_biases - cancelled_shifts == 2_214_591
    assert SkipNet(32, 3).in_channels == 32


def test_late_skips_have_the_parameters_of_the_public_code_for_inpainting():
    n_params = sum(p.numel() for p in LateSkipNet(3, 3).parameters())
    assert n_params == 2_843_239 - 5 * (4 + 4 * 128) - 5 * (4 + 128)


@pytest.mark.parametrize("shape", [(32, 32), (37, 31), (9, 50)])
def test_late_skips_keep_any_size_and_every_parameter_has_a_gradient(shape):
    net = unsettle(LateSkipNet(5, 3, 8, 2, 2, torch.Generator().manual_seed(0)).double())
    x = net(noise(2, 5, *shape, dtype=torch.float64))
    assert x.shape == (2, 3, *shape)
    x.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-8, name


def test_late_skips_let_nothing_of_full_resolution_pass():
    """Each output pixel pair comes from one pixel of the last scale, but for the final 3x3."""
    net = LateSkipNet(3, 3, 8, 2, 2, torch.Generator().manual_seed(0))
    seen = []
    net.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    net(noise(1, 3, 16, 16))
    (x,) = seen
    assert torch.equal(x, x[..., ::2, ::2].repeat_interleave(2, -2).repeat_interleave(2, -1))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_every_parameter_has_a_gradient(depth):
    net = unsettle(make_net(depth=depth).double())
    net(noise(1, 5, 32, 48, dtype=torch.float64)).square().sum().backward()
    for name, parameter in net.named_parameters():  # a cancelled one is left with some 1e-16
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-8, name


@pytest.mark.parametrize("shape", [(32, 32), (37, 31), (9, 50), (40, 47)])
def test_any_size_is_kept(shape):
    x = make_net()(noise(2, 5, *shape))
    assert x.shape == (2, 3, *shape)
    assert x.min() > 0 and x.max() < 1


def test_too_small_an_image_is_refused():
    assert make_net(depth=3)(noise(1, 5, 9, 9)).shape == (1, 3, 9, 9)
    with pytest.raises(ValueError, match="sides above 8 pixels, got 8x20"):
        make_net(depth=3)(noise(1, 5, 8, 20))


def test_one_scale_is_its_formula():
    net = unsettle(make_net(depth=1).double())
    weights = [m.weight for m in net.modules() if isinstance(m, Conv)]
    scales = [(m.weight, m.bias) for m in net.modules()
              if isinstance(m, torch.nn.BatchNorm2d)]  # fmt: skip

    def conv(x, weight, stride=1):
        pad = weight.shape[-1] // 2
        x = torch.nn.ReflectionPad2d(pad)(x)
        return torch.conv2d(x, weight, stride=stride)

    def norm(x, scale, shift):
        mean = x.mean((0, 2, 3), keepdim=True)
        var = x.var((0, 2, 3), keepdim=True, correction=0)
        x = (x - mean) / (var + 1e-5).sqrt() * scale.view(1, -1, 1, 1)
        return x if shift is None else x + shift.view(1, -1, 1, 1)

    def block(x, i_conv, i_norm, stride=1):
        x = norm(conv(x, weights[i_conv], stride), *scales[i_norm])
        return torch.where(x > 0, x, 0.2 * x)

    z = noise(1, 5, 12, 13, dtype=torch.float64)
    skipped = block(z, 0, 0)
    deeper = block(block(z, 1, 1, stride=2), 2, 2)
    up = torch.nn.Upsample(scale_factor=2, mode="bilinear")(deeper)[..., :13]
    x = block(block(norm(torch.cat((skipped, up), 1), *scales[3]), 3, 4), 4, 5)
    expected = 1 / (1 + torch.exp(-conv(x, weights[5]) - net.head[0].bias.view(1, 3, 1, 1)))
    assert scales[3][1] is None and len(weights) == 6 and len(scales) == 6
    torch.testing.assert_close(net(z), expected, rtol=1e-12, atol=1e-12)


def test_every_scale_halves_and_is_joined_with_what_it_halved():
    net = make_net(depth=3)
    seen = {}
    for scale in range(3):
        for part in ("skips", "encoder", "decoder"):
            getattr(net, part)[scale].register_forward_hook(
                lambda module, args, result, key=(part, scale): seen.update({key: (*args, result)})
            )
    z = noise(1, 5, 36, 22)
    net(z)
    sizes = [(36, 22), (18, 11), (9, 6), (5, 3)]
    for scale in range(3):
        above, skipped = seen["skips", scale]
        assert above.shape[-2:] == skipped.shape[-2:] == sizes[scale]
        assert above is seen["encoder", scale][0]
        assert seen["encoder", scale][1].shape[-2:] == sizes[scale + 1]
        joined, result = seen["decoder", scale]
        assert joined.shape[-2:] == result.shape[-2:] == sizes[scale]
        torch.testing.assert_close(joined[:, :4], skipped, rtol=0, atol=0)
    assert seen["encoder", 0][0] is z


def test_train_and_eval_mode_agree_and_nothing_is_remembered():
    net = make_net()
    z = noise(1, 5, 32, 32)
    first = net.train()(z)
    net(5 * z + 3)
    torch.testing.assert_close(net.eval()(z), first, rtol=0, atol=0)
    assert not list(net.buffers())


def test_memory_format_does_not_matter():
    net, z = make_net().double(), noise(1, 5, 33, 30, dtype=torch.float64)
    expected = net(z)
    torch.testing.assert_close(net(z.to(memory_format=torch.channels_last)), expected)
    net = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(z.to(memory_format=torch.channels_last)), expected)


def test_initial_weights_follow_pytorchs_law():
    conv = Conv(50, 40, bias=True)
    initialise(conv, torch.Generator().manual_seed(0))
    bound = 1 / math.sqrt(50 * 9)
    for weights in (conv.weight, conv.bias):
        assert weights.abs().max() <= bound < 1.1 * weights.abs().max()
    assert abs(conv.weight.std() * math.sqrt(3) / bound - 1) < 0.02
    default = torch.nn.Conv2d(50, 40, 3)
    assert abs(conv.weight.std() / default.weight.std() - 1) < 0.02


def test_weights_come_from_the_generator_alone():
    state = torch.random.get_rng_state()
    same, again, other = make_net(seed=5), make_net(seed=5), make_net(seed=6)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(same.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert not torch.equal(same.head[0].weight, other.head[0].weight)
    torch.manual_seed(3)
    first = SkipNet(5, 3, 8, 4, 2)
    assert not torch.equal(first.head[0].weight, SkipNet(5, 3, 8, 4, 2).head[0].weight)
