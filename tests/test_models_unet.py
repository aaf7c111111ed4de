"""The shared U-Net: its size, its gradients, any image size."""

import numpy as np
import pytest
import torch

from models.unet import ComplexNet, OffsetNet, UNet


def make_net(width=8, depth=3, seed=0, **options):
    return UNet(2, 2, width, depth, generator=torch.Generator().manual_seed(seed), **options)


def test_parameters_are_those_of_the_public_network_without_dead_biases():
    n_params = sum(p.numel() for p in UNet(2, 2).parameters())
    dead_biases = 2 * 64 + 2 * 128 + 4 * 256 + (256 + 128) + (128 + 64) + (64 + 64)
    assert n_params == 4_283_842 - dead_biases == 4_281_730


def test_the_shallow_form_is_that_of_the_public_code_for_pictures():
    n_params = sum(p.numel() for p in UNet(3, 3, depth=2, widest=2).parameters())
    dead_biases = 2 * 64 + 4 * 128 + (128 + 64) + (64 + 64)
    assert n_params == 1_036_995 - dead_biases


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_every_parameter_has_a_gradient(depth):
    net = make_net(depth=depth)
    z = torch.randn(1, 2, 32, 48, generator=torch.Generator().manual_seed(1))
    net(z).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("shape", [(32, 32), (37, 31), (33, 50), (40, 47)])
def test_any_size_is_kept(shape):
    x = make_net()(torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(1)))
    assert x.shape == (1, 2, *shape)


def test_input_is_padded_with_zeros():
    net = make_net()
    z = torch.zeros(1, 2, 40, 40)
    z[..., :37, :35] = torch.randn(1, 2, 37, 35, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(z)[..., :37, :35], net(z[..., :37, :35]), rtol=0, atol=0)


def test_train_and_eval_mode_agree_and_nothing_is_remembered():
    net = make_net()
    z = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(1))
    first = net.train()(z)
    net(5 * z + 3)
    torch.testing.assert_close(net.eval()(z), first, rtol=0, atol=0)
    assert not list(net.buffers())


def test_initial_weights_follow_init_std_and_the_generator():
    net = make_net(width=32, init_std=0.3)
    weights = torch.cat([m.weight.flatten() for m in net.modules()
                         if isinstance(m, torch.nn.Conv2d)]).detach()  # fmt: skip
    assert abs(weights.std() - 0.3) < 0.003 and abs(weights.mean()) < 0.003
    same, other = make_net(seed=5), make_net(seed=6)
    torch.testing.assert_close(same.state_dict(), make_net(seed=5).state_dict(), rtol=0, atol=0)
    assert not torch.equal(same.stem[0].weight, other.stem[0].weight)


def test_complex_net_is_the_two_channel_network():
    net = make_net()
    z = torch.randn(1, 1, 37, 31, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    channels = torch.from_numpy(np.stack([z[0].real, z[0].imag], axis=1))
    channels = channels.contiguous(memory_format=torch.channels_last)
    expected = net(channels)
    x = ComplexNet(net)(z)
    assert x.shape == z.shape and x.dtype == z.dtype
    torch.testing.assert_close(x.real, expected[:, :1], rtol=0, atol=0)
    torch.testing.assert_close(x.imag, expected[:, 1:], rtol=0, atol=0)
    assert torch.equal(ComplexNet(net)(channels), x)  # as noise would come
    for wrong in (channels[:, :1], z[0], torch.cat((z, z), dim=1)):
        with pytest.raises(ValueError, match="complex"):
            ComplexNet(net)(wrong)


def test_an_offset_network_works_around_its_level():
    z = torch.rand(1, 3, 8, 9)
    same = torch.nn.Identity()
    same.in_channels = 3
    nothing = OffsetNet(same, torch.tensor(0.3))
    torch.testing.assert_close(nothing(z), z)
    affine = OffsetNet(torch.nn.Conv2d(3, 3, 1, bias=False), torch.tensor(0.3))
    torch.nn.init.zeros_(affine.net.weight)
    torch.testing.assert_close(affine(z), torch.full_like(z, 0.3))
    affine.net.weight.data[:, :, 0, 0] = 2 * torch.eye(3)
    torch.testing.assert_close(affine(z), 0.3 + 2 * (z - 0.3))
    assert not [name for name in affine.state_dict() if "level" in name]  # it comes from y
