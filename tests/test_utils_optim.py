"""The loss term and the gradient step against closed forms."""

import numpy as np
import pytest
import torch

from models.unet import UNet
from utils.optim import DISTANCES, Update, adam, minimise, sqnorm


def test_sqnorm_is_the_squared_distance():
    a = torch.randn(1, 2, 5, 7, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    b = torch.randn(1, 2, 5, 7, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    expected = np.linalg.norm((a - b).numpy().ravel()) ** 2
    assert np.isclose(sqnorm(a, b).item(), expected)
    assert np.isclose(sqnorm(a.real, b.real).item(), ((a.real - b.real).numpy() ** 2).sum())
    assert sqnorm(a, a).item() == 0.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_the_distances_and_their_gradients_are_the_closed_forms(dtype):
    a, b = (torch.randn(3, 5, dtype=dtype, generator=generator(seed)) for seed in range(2))
    d = (a - b).numpy()
    n = d.size * (2 if dtype.is_complex else 1)
    squares = (np.abs(d) ** 2).sum()
    expected = {
        "squares": (squares, 2 * d),
        "norms": (np.sqrt(squares), d / np.sqrt(squares)),
        "means": (squares / n, 2 * d / n),
    }
    assert DISTANCES.keys() == expected.keys()
    for name, (value, gradient) in expected.items():
        x = a.clone().requires_grad_()
        loss = DISTANCES[name](x, b)
        loss.backward()
        assert np.isclose(loss.item(), value)
        assert np.allclose(x.grad.numpy(), gradient)


@pytest.mark.parametrize("name", DISTANCES)
def test_a_distance_of_nothing_has_no_gradient(name):
    x = torch.ones(3, requires_grad=True)
    DISTANCES[name](x, torch.ones(3)).backward()
    assert x.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize(
    "a, b",
    [
        (torch.zeros(1, 2, 4, 4), torch.zeros(4, 4)),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 2, 4, 4)),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.complex64)),
        (torch.zeros(4), torch.zeros(4, dtype=torch.float64)),
    ],
)
def test_a_distance_never_broadcasts_or_mixes_types(a, b, name):
    with pytest.raises(ValueError, match="one shape and dtype"):
        DISTANCES[name](a, b)


def generator(seed):
    return torch.Generator().manual_seed(seed)


class Scale(torch.nn.Module):
    """f(z) = w z: a network whose every gradient is known."""

    def __init__(self, w):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, z):
        return self.w * z


def test_steps_are_adams_closed_form_and_its_state_lives_on():
    z = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    y = torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)
    lam, lr, (beta1, beta2), eps = 0.7, 0.05, (0.9, 0.999), 1e-8
    net = Scale(0.3)

    def objective(z):
        x = net(z)
        data_term, autoencoding_term = sqnorm(x, y), sqnorm(x, z)
        return x, {"loss": data_term + lam * autoencoding_term, "data_term": data_term}

    update = Update(objective, torch.optim.Adam(net.parameters(), lr))
    w, m, v = 0.3, 0.0, 0.0
    zs = [z, z, 2 * z]  # the input changes before the third step
    for t, z_t in enumerate(zs, start=1):
        loss = ((w * z_t - y) ** 2).sum() + lam * ((w * z_t - z_t) ** 2).sum()
        gradient = (2 * z_t * (w * z_t - y) + 2 * lam * z_t * (w * z_t - z_t)).sum().item()
        m, v = beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient**2
        x, w_before = update(z_t), w
        w -= lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        assert torch.allclose(x, w_before * z_t) and not x.requires_grad
        assert np.isclose(update.terms["loss"].item(), loss.item())
        assert np.isclose(net.w.item(), w, rtol=1e-10)


def test_the_autoencoding_term_of_the_identity_is_exactly_zero():
    z = torch.randn(1, 1, 9, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    assert sqnorm(torch.nn.Identity()(z), z).item() == 0.0


def test_adam_s_state_goes_on_in_another_memory_layout():
    """As where one device resumes what another began: their layouts differ."""
    noise = torch.Generator().manual_seed(0)
    y, z = torch.rand(2, 1, 2, 16, 16, generator=noise)

    def make(layout):
        net = UNet(2, 2, 4, 2, 0.1, torch.Generator().manual_seed(1)).to(memory_format=layout)

        def objective(z):
            x = net(z)
            return x, {"loss": sqnorm(x, y)}

        return net, Update(objective, adam(net.parameters(), 1e-2))

    net, update = make(torch.contiguous_format)
    for _ in range(3):
        update(z)
    other, resumed = make(torch.channels_last)
    other.load_state_dict(net.state_dict())
    state = update.state_dict()
    resumed.load_state_dict(state)
    update(z)
    resumed(z)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        # Rounding can turn the sign of a gradient, and with it a step as large as the rate.
        assert (a - b).abs().mean() < 0.1 * 1e-2
    assert state["param_groups"][0]["lr"] == 1e-2  # as it was


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_is_pytorch_s_whatever_the_memory_layout(weight_decay):
    weights = []
    for layout in (torch.contiguous_format, torch.channels_last):
        for make in (adam, torch.optim.Adam):
            net = UNet(2, 2, 4, 2, 0.1, torch.Generator().manual_seed(1)).to(memory_format=layout)
            optimizer = make(net.parameters(), lr=1e-2, weight_decay=weight_decay)
            draw = torch.Generator().manual_seed(2)
            for _ in range(3):
                for parameter in net.parameters():
                    # Of another layout than the weight, as some kernels leave it.
                    parameter.grad = torch.randn(parameter.shape, generator=draw)
                optimizer.step()
            weights.append([parameter.detach() for parameter in net.parameters()])
            for parameter, state in optimizer.state.items():
                assert state["exp_avg"].shape == parameter.shape
    for others in weights[1:]:
        torch.testing.assert_close(others, weights[0], rtol=1e-5, atol=1e-7)


def test_adam_makes_no_copies_of_weights_whose_channels_lie_last():
    """Beside those of scalars, which it makes in any layout."""
    copies = []
    for layout in (torch.contiguous_format, torch.channels_last):
        net = UNet(2, 2, 8, 2, 0.1, torch.Generator().manual_seed(1)).to(memory_format=layout)
        optimizer = adam(net.parameters(), 1e-2)
        net(torch.ones(1, 2, 16, 16)).sum().backward()
        optimizer.step()
        with torch.profiler.profile() as profile:
            optimizer.step()
        copies.append({e.key: e.count for e in profile.key_averages() if "copy" in e.key})
    assert copies[0] == copies[1]


def test_adam_takes_groups_and_complex_images():
    z = torch.zeros(2, dtype=torch.complex64, requires_grad=True)
    w = torch.zeros(2, requires_grad=True)
    optimizer = adam([{"params": [w], "lr": 0.5}, {"params": [z]}], 0.25)
    ((w - 1).sum() + (z - 1j).abs().square().sum()).backward()
    optimizer.step()
    torch.testing.assert_close(w.detach(), torch.full((2,), -0.5))
    torch.testing.assert_close(z.detach(), torch.full((2,), 0.25j))


def test_minimise_finds_the_minimum_of_rosenbrocks_valley():
    x = torch.tensor([[-1.2, 1.0]], dtype=torch.float64)

    def valley(u):
        return (1 - u[0, 0]) ** 2 + 100 * (u[0, 1] - u[0, 0] ** 2) ** 2

    with torch.no_grad():
        found = minimise(valley, x, 100)
    assert not found.requires_grad and found.dtype == x.dtype
    torch.testing.assert_close(found, torch.ones_like(x), atol=1e-6, rtol=0)
    assert torch.equal(x, torch.tensor([[-1.2, 1.0]], dtype=torch.float64))
