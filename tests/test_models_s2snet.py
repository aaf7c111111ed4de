"""The network of Rethinking DIP: its size, its first and second derivatives, any image size."""

import pytest
import torch

from models.s2snet import S2SNet


def make_net(width=6, seed=0, channels=3):
    return S2SNet(channels, width, generator=torch.Generator().manual_seed(seed))


def noise(*shape, seed=1, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unsettle(net):
    """Move every parameter off its initial value, where some gradients vanish by symmetry."""
    generator = torch.Generator().manual_seed(9)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return net


def test_parameters_are_those_of_the_public_network_without_what_batchnorm_cancels():
    n_params = sum(p.numel() for p in S2SNet(3).parameters())
    cancelled_biases = 5 * 2 * 48 + 96 + 4 * 2 * 96 + 64 + 32
    cancelled_shifts = 4 * (48 + 96)  # after joining
    assert n_params == 1_140_627 - cancelled_biases - cancelled_shifts == 1_138_611
    assert S2SNet(1).in_channels == 1


def test_width_scales_every_layer():
    for full, small in zip(S2SNet(3, 48).modules(), S2SNet(3, 12).modules()):
        if isinstance(full, torch.nn.Conv2d):
            expected = [3 if n == 3 else 99 - 72 if n == 99 else n // 4
                        for n in (full.in_channels, full.out_channels)]  # fmt: skip
            assert [small.in_channels, small.out_channels] == expected
    for width in (0, 8):
        with pytest.raises(ValueError, match="multiple of 3"):
            S2SNet(3, width)


def test_every_parameter_has_a_gradient():
    net = unsettle(make_net().double())
    net(noise(1, 3, 64, 80, dtype=torch.float64)).square().sum().backward()
    for name, parameter in net.named_parameters():  # a cancelled one is left with some 1e-16
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-8, name


def test_second_derivatives_are_right():
    net = unsettle(make_net(3).double())
    z = noise(1, 3, 34, 33, dtype=torch.float64).requires_grad_()
    b = noise(1, 3, 34, 33, seed=2, dtype=torch.float64)
    weight = net.encoder[1][0][0].weight

    def slope():  # b^T J b
        (product,) = torch.autograd.grad((b * net(z)).sum(), z, create_graph=True)
        return (b * product).sum()

    direction = noise(*weight.shape, seed=3, dtype=torch.float64)
    gradient = (torch.autograd.grad(slope(), weight)[0] * direction).sum()
    step, values = 1e-5, []
    for sign in (1, -1):
        weight.data += sign * step * direction
        values.append(slope().item())
        weight.data -= sign * step * direction
    expected = (values[0] - values[1]) / (2 * step)
    assert abs(expected) > 1
    assert abs(gradient - expected) < 1e-5 * abs(expected)


@pytest.mark.parametrize("shape", [(64, 64), (37, 45), (33, 50), (70, 47)])
def test_any_size_is_kept(shape):
    x = make_net()(noise(2, 3, *shape))
    assert x.shape == (2, 3, *shape)
    assert x.min() > 0 and x.max() < 1


def test_too_small_an_image_is_refused():
    with pytest.raises(ValueError, match="sides above 32 pixels, got 40x32"):
        make_net()(noise(1, 3, 40, 32))


def test_upsampling_repeats_pixels_and_the_input_is_joined_last():
    net = make_net().double()
    joined = []
    net.decoder[0].register_forward_pre_hook(lambda module, args: joined.append(args[0]))
    net.head.register_forward_pre_hook(lambda module, args: joined.append(args[0]))
    z = noise(1, 3, 64, 64, dtype=torch.float64)
    net(z)
    below = joined[0][:, 6:]  # after the six channels of the encoder's fourth scale
    assert below.shape == (1, 12, 4, 4)
    coarse = below[..., ::2, ::2]
    repeated = coarse.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(below, repeated, rtol=0, atol=0)
    torch.testing.assert_close(joined[1][:, :3], z, rtol=0, atol=0)


def test_train_and_eval_mode_agree_and_nothing_is_remembered():
    net = make_net()
    z = noise(1, 3, 40, 40)
    first = net.train()(z)
    net(5 * z + 3)
    torch.testing.assert_close(net.eval()(z), first, rtol=0, atol=0)
    assert not list(net.buffers())


def test_memory_format_does_not_matter():
    net, z = make_net().double(), noise(1, 3, 41, 38, dtype=torch.float64)
    expected = net(z)
    torch.testing.assert_close(net(z.to(memory_format=torch.channels_last)), expected)
    net = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(z.to(memory_format=torch.channels_last)), expected)


def test_weights_come_from_the_generator_alone():
    state = torch.random.get_rng_state()
    same, again, other = make_net(seed=5), make_net(seed=5), make_net(seed=6)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(same.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert not torch.equal(same.bottom[0].weight, other.bottom[0].weight)
