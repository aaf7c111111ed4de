"""Precision concerns the network and nothing around it."""

import json

import pytest
import running
import skimage.data
import torch
from PIL import Image

import aseqdip_denoising
import aseqdip_mri
from models.unet import ComplexNet, OffsetNet, UNet
from utils import cli
from utils.optim import Update, adam, sqnorm
from utils.precision import Bfloat16, place

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def not_yet_said():
    cli.say_once.cache_clear()


def make_net(kind="plain"):
    unet = UNet(2, 2, 8, 2, 0.1, torch.Generator().manual_seed(0))
    if kind == "complex":
        return ComplexNet(unet)
    return OffsetNet(unet, torch.tensor(0.5)) if kind == "offset" else unet


def make_input(kind="plain"):
    noise = torch.Generator().manual_seed(1)
    if kind == "complex":
        return torch.randn(1, 1, 20, 18, dtype=torch.complex64, generator=noise)
    return torch.rand(1, 2, 20, 18, generator=noise)


@pytest.mark.parametrize("kind", ["plain", "complex", "offset"])
def test_bf16_rounds_the_network_and_keeps_dtypes(kind):
    z = make_input(kind)
    exact = place(make_net(kind), CPU, "fp32")(z)
    net = place(make_net(kind), CPU, "bf16")
    rounded = net(z)
    assert rounded.dtype == z.dtype and net.in_channels == 2
    error = (rounded - exact).abs().max() / exact.abs().max()
    assert 1e-5 < error < 0.1  # 2^-9 for each of its roundings; float32 would give 1e-6


def test_features_are_bfloat16_from_end_to_end():
    net = place(make_net("complex"), CPU, "bf16")
    inside = {}
    for name, module in net.named_modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda module, args, output, name=name: inside.update({name: output.dtype})
            )
    net(make_input("complex"))
    assert len(inside) > 20 and set(inside.values()) == {torch.bfloat16}


def test_an_offset_is_added_in_float32():
    """A picture's level in bfloat16 would have steps of 1/512."""
    net = place(make_net("offset"), CPU, "bf16")
    with torch.no_grad():
        for parameter in net.net.net.head.parameters():
            parameter.zero_()
    net.level.fill_(0.5003)
    assert torch.equal(net(make_input()), torch.full((1, 2, 20, 18), 0.5003))


@pytest.mark.parametrize("speedup, taken", [(2.0, "bf16"), (0.3, "fp32")])
def test_auto_takes_what_is_quicker_here(speedup, taken, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("utils.processor.bfloat16_speedup", lambda device: speedup)
    photo = tmp_path / "photo.png"
    Image.fromarray(skimage.data.astronaut()[60:92, 190:222]).save(photo)
    flags = [
        "--data",
        photo,
        "--quick",
        "--method",
        "aseqdip",
        "--K",
        "2",
        "--width",
        "4",
        "--device",
        "cpu",
    ]
    out = tmp_path / "out"
    assert running.call(monkeypatch, aseqdip_denoising, *flags, "--out", out) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert f"precision {taken} (here bf16 is {speedup} times as fast" in first
    folder = running.run_folder(out, "denoising", "photo")
    assert json.loads((folder / "config.json").read_text())["settings"]["precision"] == taken
    explicit = ["--precision", taken, "--out", out]
    assert running.call(monkeypatch, aseqdip_denoising, *flags, *explicit) == 0
    assert "finished already" in capsys.readouterr().out  # it is the same run
    for more in (["--precision", "bf16"], ["--precision", "fp32"]):
        running.call(monkeypatch, aseqdip_denoising, *flags, *more, "--out", tmp_path / more[1])
        folder = running.run_folder(tmp_path / more[1], "denoising", "photo")
        precision = json.loads((folder / "config.json").read_text())["settings"]["precision"]
        assert precision == more[1]


def test_losses_weights_and_their_gradients_stay_in_float32():
    net, z = place(make_net(), CPU, "bf16"), make_input()

    def objective(z):
        x = net(z)
        return x, {"loss": sqnorm(x, z)}

    update = Update(objective, adam(net.parameters(), 1e-3))
    update(z)
    assert update.terms["loss"].dtype == torch.float32
    for parameter in net.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        state = update.optimizer.state[parameter]
        assert state["exp_avg"].dtype == torch.float32


def test_on_a_cpu_channels_lie_last_and_weights_stay():
    net = place(make_net(), CPU, "fp32")
    assert not isinstance(net, Bfloat16)
    for (name, a), b in zip(net.state_dict().items(), make_net().state_dict().values()):
        assert torch.equal(a, b)
        if a.ndim == 4 and min(a.shape[1:]) > 1:
            assert a.is_contiguous(memory_format=torch.channels_last), name
    assert net(make_input()).stride(1) == 1


def test_the_precision_is_a_setting(tmp_path, monkeypatch):
    photo = tmp_path / "photo.png"
    Image.fromarray(skimage.data.astronaut()[60:92, 190:222]).save(photo)
    flags = ["--data", photo, "--K", "2", "--width", "4", "--device", "cpu"]
    found = []
    for more in ([], ["--precision", "bf16"]):
        out = tmp_path / "-".join(["out", *more])
        assert running.call(monkeypatch, aseqdip_denoising, *flags, *more, "--out", out) == 0
        folder = running.run_folder(out, "denoising", "photo")
        found.append((folder.name, running.digest(folder)))
    assert found[0][0] != found[1][0] and found[0][1] != found[1][1]


def test_a_precision_that_the_device_has_not_is_refused(tmp_path, monkeypatch, capsys):
    arguments = ["--precision", "tf32", "--device", "cpu", "--out", tmp_path / "out"]
    running.refused(monkeypatch, capsys, tmp_path, aseqdip_mri, arguments, "--precision tf32")
