"""Upsampling and its own backward pass against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from models.skip import SkipNet
from models.unet import UNet
from models.upsampling import upsample


def bilinear(x, align_corners):
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=align_corners)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("shape", [(5, 7), (1, 3), (8, 1), (16, 16)])
def test_backward_is_the_transpose_of_the_interpolation(shape, align_corners):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *shape, dtype=torch.float64, generator=draw).requires_grad_()
    expected = bilinear(x, align_corners)
    v = torch.randn(expected.shape, dtype=torch.float64, generator=draw)
    found = upsample(x, align_corners)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    (by_pytorch,) = torch.autograd.grad(expected, x, v)
    (ours,) = torch.autograd.grad(found, x, v)
    # PyTorch computes the weights in single precision when corners are aligned.
    torch.testing.assert_close(ours, by_pytorch, rtol=0, atol=1e-6 if align_corners else 1e-12)
    assert torch.isclose((found * v).sum(), (x * ours).sum(), rtol=1e-6, atol=0)


def test_it_can_be_differentiated_twice():
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradgradcheck(lambda x: upsample(x, False).pow(3), x.requires_grad_())


@pytest.mark.parametrize("make", [UNet, SkipNet])
def test_networks_have_the_gradients_of_the_plain_form(make, monkeypatch):
    draw = torch.Generator().manual_seed(1)
    z = torch.rand(1, 2, 70, 66, generator=draw)
    gradients = []
    for form in (upsample, bilinear):
        monkeypatch.setattr("models.unet.upsample", form)
        monkeypatch.setattr("models.skip.upsample", form)
        net = make(2, 2, 8, generator=torch.Generator().manual_seed(2))
        net(z).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    ours, plain = gradients
    assert (ours - plain).norm() < 1e-5 * plain.norm()


def test_bfloat16_stays_bfloat16():
    x = torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    low = x.bfloat16().requires_grad_()
    found = upsample(low, True)
    v = torch.ones_like(found)
    (gradient,) = torch.autograd.grad(found, low, v)
    assert found.dtype == gradient.dtype == torch.bfloat16
    x.requires_grad_()
    (exact,) = torch.autograd.grad(bilinear(x, True), x, v.float())
    assert (gradient.float() - exact).abs().max() < 0.03 * exact.abs().max()
