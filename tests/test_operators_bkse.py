"""BKSE's generator: the names and sizes of the public weights, and the graph step by step."""

import pytest
import torch
import torch.nn.functional as F

from operators.bkse import BlurNet, kernel_shape

UP_AND_DOWN = {  # of each level, from the outermost: down (out, in), up (in, out)
    "": ((64, 64), (128, 64)),
    "submodule.": ((128, 64), (256, 64)),
    "submodule.submodule.": ((256, 128), (512, 128)),
    "submodule.submodule.submodule.": ((512, 256), (1024, 256)),
    "submodule.submodule.submodule.submodule.": ((512, 512), (1024, 512)),
}


def public_shapes():
    """Return names and shapes of the public weights without the kernel extractor."""
    shapes = {}

    def convolution(name, c_out, c_in):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (c_out, c_in, 3, 3), (c_out,)

    def block(name):
        convolution(f"{name}.conv1", 64, 64)
        convolution(f"{name}.conv2", 64, 64)

    for index, c_in in ((0, 3), (2, 64), (4, 64)):
        convolution(f"feature_extractor.{index}", 64, c_in)
    for index in range(6, 16):
        block(f"feature_extractor.{index}")
    for level, (down, up) in UP_AND_DOWN.items():
        shapes[f"adapter.model.{level}down.{1 if level else 0}.weight"] = (*down, 4, 4)
        shapes[f"adapter.model.{level}up.1.weight"] = (*up, 4, 4)
    shapes["adapter.model.up.1.bias"] = (64,)
    for index in range(20):
        block(f"recon_trunk.{index}")
    for index, c_out in ((20, 256), (23, 256), (26, 64), (28, 3)):
        convolution(f"recon_trunk.{index}", c_out, 64)
    return shapes


def random_state(seed=0):
    """Return weights under which each part of the graph moves the result."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in public_shapes().items():
        fan_in = shape[0] * 4 if ".up." in name else torch.Size(shape[1:]).numel()
        scale = 0.1 if len(shape) == 1 else (1.5 / fan_in) ** 0.5
        state[name] = scale * torch.randn(shape, generator=generator)
    return state


def make_net(seed=0):
    with torch.device("meta"):
        net = BlurNet()
    net = net.to_empty(device="cpu")
    net.load_state_dict(random_state(seed))
    return net


def random_input(batch, height, width, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(batch, 3, height, width, dtype=dtype, generator=generator)
    size = (batch, 512, height // 128, width // 128)
    return x, 1.2 * torch.randn(size, dtype=dtype, generator=generator)


def step_by_step(state, x, kernel):
    """Compute the graph from the weights alone, the way the public code does."""

    def convolution(name, x, stride=1):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding=1)

    def block(name, x):
        return x + convolution(f"{name}.conv2", F.relu(convolution(f"{name}.conv1", x)))

    def down(level, x):
        index = 1 if level else 0
        return F.conv2d(x, state[f"adapter.model.{level}down.{index}.weight"], None, 2, 1)

    def up(level, x):
        bias = None if level else state["adapter.model.up.1.bias"]
        weight = state[f"adapter.model.{level}up.1.weight"]
        return F.conv_transpose2d(F.relu(x), weight, bias, 2, 1)

    h = x
    for index, stride in ((0, 1), (2, 2), (4, 2)):
        h = F.leaky_relu(convolution(f"feature_extractor.{index}", h, stride), 0.1)
    for index in range(6, 16):
        h = block(f"feature_extractor.{index}", h)
    a, b, c, d, e = UP_AND_DOWN
    # The public code's in-place activation changes what the skip connection carries, too.
    h1 = F.leaky_relu(down(a, h), 0.2)
    h2 = F.leaky_relu(down(b, h1), 0.2)
    h3 = F.leaky_relu(down(c, h2), 0.2)
    h4 = F.leaky_relu(down(d, h3), 0.2)
    u = up(e, torch.cat((down(e, h4), kernel), 1))
    u = up(d, torch.cat((u, h4), 1))
    u = up(c, torch.cat((u, h3), 1))
    u = up(b, torch.cat((u, h2), 1))
    h = torch.tanh(up(a, torch.cat((u, h1), 1)))
    for index in range(20):
        h = block(f"recon_trunk.{index}", h)
    for index in (20, 23):
        h = F.leaky_relu(F.pixel_shuffle(convolution(f"recon_trunk.{index}", h), 2), 0.1)
    h = F.leaky_relu(convolution("recon_trunk.26", h), 0.1)
    return x + convolution("recon_trunk.28", h)


def test_names_and_shapes_are_those_of_the_public_weights():
    with torch.device("meta"):
        net = BlurNet()
    assert {name: tuple(p.shape) for name, p in net.state_dict().items()} == public_shapes()


def test_numbers_of_parameters_are_those_of_the_public_network():
    with torch.device("meta"):
        net = BlurNet()
    parts = [net.feature_extractor, net.adapter, net.recon_trunk]
    counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert counts == [814_208, 21_037_120, 1_811_203]
    assert sum(p.numel() for p in net.parameters()) == sum(counts) == 23_662_531


def test_the_graph_is_that_of_the_public_code():
    net = make_net().double()
    x, kernel = random_input(2, 128, 128, torch.float64)
    with torch.no_grad():
        y = net(x, kernel)
        expected = step_by_step(net.state_dict(), x, kernel)
    assert y.shape == x.shape and (y - x).std() > 0.1
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)


def test_the_kernel_and_the_image_move_the_result_and_nothing_clamps_it():
    net = make_net()
    x, kernel = random_input(1, 128, 256)
    with torch.no_grad():
        y = net(x, kernel)
        assert y.shape == x.shape and y.min() < 0 and y.max() > 1
        assert (net(x, -kernel) - y).abs().max() > 0.01
        assert (net(1 - x, kernel) - y).abs().max() > 0.01


def test_image_and_every_parameter_have_a_gradient():
    net = make_net()
    x, kernel = random_input(1, 128, 128)
    net(x.requires_grad_(), kernel).square().sum().backward()
    assert x.grad.abs().max() > 0
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_sizes_that_do_not_fit_are_refused_with_both_shapes():
    with torch.device("meta"):
        net = BlurNet()
        for shape in [(1, 3, 128, 130), (1, 3, 64, 128), (1, 3, 0, 128)]:
            with pytest.raises(ValueError, match=f"multiples of 128 .* got {shape[2]}x{shape[3]}"):
                net(torch.zeros(shape), torch.zeros(1, 512, 1, 1))
        for shape in [(1, 1, 128, 128), (3, 128, 128)]:
            with pytest.raises(ValueError, match=r"expected .* \(B, 3, H, W\), got"):
                net(torch.zeros(shape), torch.zeros(1, 512, 1, 1))
        for shape in [(1, 512, 1, 1), (2, 512, 2, 2), (1, 256, 1, 2), (512, 1, 2)]:
            with pytest.raises(ValueError, match=r"expected a kernel of shape \(1, 512, 1, 2\)"):
                net(torch.zeros(1, 3, 128, 256), torch.zeros(shape))
    assert kernel_shape(256, 512) == (512, 2, 4)
