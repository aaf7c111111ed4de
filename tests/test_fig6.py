"""Figure 6: the descent and its closed forms."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from running import call
from torch import nn

from scripts import fig6


def run(monkeypatch, *flags):
    return call(monkeypatch, fig6, *flags)


def small_net(seed=0, **changes):
    setting = fig6.Setting(**({"width": 3, "init": "he"} | changes))
    return fig6.ResidualCNN(setting, torch.Generator().manual_seed(seed))


def randn(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dtype=torch.float64, generator=generator)


class Linear(nn.Module):
    """f(z) = z + B w, linear in its weights w."""

    def __init__(self, n, p):
        super().__init__()
        self.basis = randn(n * p, 1).reshape(n, p)
        self.w = nn.Parameter(randn(p, 2))

    def forward(self, z):
        return z + self.basis @ self.w


def test_the_network_is_the_paper_s():
    net = small_net()
    z = randn(20, 0)
    convs = [layer for layer in net.g if isinstance(layer, nn.Conv1d)]
    x = z.numpy()[None]
    for number, conv in enumerate(convs):  # by numpy, zeros around
        padded = np.pad(x, ((0, 0), (1, 1)))
        weight, bias = (t.detach().numpy() for t in (conv.weight, conv.bias))
        x = np.stack([
            sum(np.correlate(padded[i], weight[o, i], "valid") for i in range(len(padded)))
            + bias[o]
            for o in range(len(weight))
        ])  # fmt: skip
        x = np.maximum(x, 0) if number < 4 else x
    assert len(convs) == 5
    np.testing.assert_allclose(net(z).detach().numpy(), z.numpy() + x[0], atol=1e-12)


def test_the_weights_are_he_s_or_pytorch_s():
    for conv in (layer for layer in small_net(width=64).g if isinstance(layer, nn.Conv1d)):
        fan_in = conv.in_channels * 3
        expected = math.sqrt(2 / fan_in)
        assert abs(conv.weight.std().item() / expected - 1) < 4 / math.sqrt(conv.weight.numel())
        assert (conv.bias == 0).all()
    for conv in (m for m in small_net(width=64, init="pytorch").g if isinstance(m, nn.Conv1d)):
        bound = 1 / math.sqrt(conv.in_channels * 3)
        assert 0.9 * bound < conv.weight.abs().max() <= bound
        assert 0 < conv.bias.abs().max() <= bound


def test_the_kernel_is_that_of_finite_differences():
    net, z, step = small_net(), randn(12, 3), 1e-6
    columns = []
    for weight in net.parameters():
        for i in range(weight.numel()):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    weight.view(-1)[i] += sign * step
                    ends.append(net(z))
                    weight.view(-1)[i] -= sign * step
            columns.append((ends[0] - ends[1]) / (2 * step))
    J = torch.stack(columns, dim=1)
    torch.testing.assert_close(fig6.tangent_kernel(net, z), J @ J.T, rtol=1e-6, atol=1e-7)


def test_a_network_linear_in_its_weights_follows_the_closed_form():
    net = Linear(15, 6)  # fewer weights than samples: some eigenvalues are 0
    y, z = randn(15, 4), randn(15, 5)
    kernel = fig6.tangent_kernel(net, z)
    torch.testing.assert_close(kernel, net.basis @ net.basis.T)
    f_0, steps = net(z).detach(), [0, 1, 7, 300]
    recorded, outputs = fig6.gradient_descent(net, z, y, 0.01, steps)
    assert recorded == steps
    torch.testing.assert_close(
        outputs, fig6.closed_form(y, f_0, kernel, 0.01, steps), rtol=1e-10, atol=1e-10
    )


def test_the_closed_form_starts_where_it_should_and_leaves_y_alone():
    kernel = fig6.tangent_kernel(small_net(), randn(12, 0))
    y, z = randn(12, 1), randn(12, 2)
    torch.testing.assert_close(fig6.closed_form(y, z, kernel, 1e-3, [0])[0], z)
    torch.testing.assert_close(  # Remark A.2: the input y gives y at all iterations
        fig6.closed_form(y, y, kernel, 1e-3, [0, 5, 1000]), y.expand(3, 12)
    )


@pytest.mark.parametrize("loss", ["mean", "half sum"])
def test_the_descent_is_sgd_on_the_loss_that_is_named(loss):
    setting = fig6.Setting(init="he", loss=loss, width=3)
    y, z = randn(fig6.N_SAMPLES, 1), randn(fig6.N_SAMPLES, 2)
    net = small_net()
    sgd = torch.optim.SGD(net.parameters(), setting.lr)
    for _ in range(10):
        squares = (net(z) - y).square()
        sgd.zero_grad()
        (squares.mean() if loss == "mean" else squares.sum() / 2).backward()
        sgd.step()
    _, outputs = fig6.gradient_descent(small_net(), z, y, setting.rate, [0, 10])
    torch.testing.assert_close(outputs[-1], net(z).detach(), rtol=1e-12, atol=1e-12)


def test_wider_networks_stay_nearer_to_the_linearised_one():
    largest = []
    for width in (8, 128):
        setting = fig6.Setting("he", "mean", lr=5e-4 * 64 / width, width=width, iterations=60)
        parts = [fig6.measure(setting, seed, "noise") for seed in range(2)]
        largest.append(np.mean([max(part["from_linearised"]) for part in parts]))
    assert largest[1] < 0.5 * largest[0]


def test_repeated_windows_of_the_input_leave_a_kernel_without_full_rank():
    """With two periods, samples i and i + 50 see the same window: their outputs stay equal."""
    setting = fig6.Setting(periods=2.0, padding="circular", width=8)
    x = fig6.draw(setting, 0)["x"]
    net = fig6.ResidualCNN(setting, torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(x)[:50], net(x)[50:])
    eigenvalues = torch.linalg.eigvalsh(fig6.tangent_kernel(net, x))
    assert (eigenvalues < 1e-9 * eigenvalues[-1]).sum() >= 50


def test_a_descent_ends_where_it_fits_and_where_it_diverges():
    net, z = Linear(5, 5), torch.zeros(5, dtype=torch.float64)
    steps, outputs = fig6.gradient_descent(net, z, net.basis @ randn(5, 0), 0.05, [0, 10**4, 10**5])
    assert steps == [0, 10**4] and len(outputs) == 2
    wild = fig6.measure(fig6.Setting(lr=100.0, width=4, iterations=200), 0, "noise")
    assert fig6.diverged(wild) and wild["steps"][-1] < 200
    row = fig6.summary([wild], 200)
    assert row["y fitted after"] == "1 of 1 diverged" and row["error at the end"] == "diverged"


def test_the_script_writes_what_it_measured_and_measures_once(tmp_path, monkeypatch, capsys):
    flags = ["--iterations", 30, "--width", 4, "--seeds", 2, "--out", tmp_path]
    assert run(monkeypatch, *flags) == 0
    folder = tmp_path / "figures" / "fig6"
    names = {"fig6.png", "table.csv", "table.md", "distances.csv", "notes.md", "settings.json"}
    assert names <= {path.name for path in folder.iterdir()}
    parts = {}
    for name in fig6.INPUTS:
        paths = sorted(folder.glob(f"parts/*_{name}_*"))
        parts[name] = [json.loads(path.read_text())["result"] for path in paths]
    assert [len(p) for p in parts.values()] == [2, 2, 2]
    with open(folder / "table.csv", newline="") as file:
        rows = dict(zip(fig6.INPUTS, csv.DictReader(file)))
    for name, row in rows.items():
        first = [part["error"][0] for part in parts[name]]
        assert row["error at the start"].startswith(f"{np.mean(first):.3g} +- ")
        signals = fig6.draw(fig6.Setting(), 0)
        best = torch.tensor(parts[name][0]["best"])
        error = (best - signals["x"]).square().mean().item()
        assert error == pytest.approx(min(parts[name][0]["error"]))
    before = capsys.readouterr().out
    monkeypatch.setattr(fig6, "measure", None)  # nothing may be measured again
    (folder / "sensitivity.csv").write_text("of,an\nearlier,call\n")
    assert run(monkeypatch, *flags) == 0
    assert not (folder / "sensitivity.csv").exists()
    assert capsys.readouterr().out == before
    next(folder.glob("parts/*")).write_text("{")
    assert run(monkeypatch, *flags) == 2
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [("--seeds", 0), ("--iterations", 1), ("--lr", -1), ("--sensitivity", "--lr", 1e-3)],
)
def test_bad_flags_are_one_line(flags, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, *flags, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {flags[0]}") and len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()
