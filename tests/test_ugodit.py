"""UGoDIT: the shared encoder, what is frozen, its training as a user runs it, its files."""

import copy
import json
import math
import sys

import numpy as np
import pytest
import running
import skimage.data
import torch
from PIL import Image
from running import call, log_of, metrics, run_folder, squeezed, stop_half_way

import aseqdip_deblurring
import aseqdip_mri
import aseqdip_superresolution
import ugodit_train
from baselines.ugodit import ugodit
from models.group import Group, encoder_of
from models.skip import SkipNet
from models.unet import UNet
from operators.downsample import Downsample
from operators.pixels import Identity, PixelMask
from operators.stacked import Stacked
from studies import ugodit_study
from utils import encoders
from utils.callback import Callback
from utils.errors import InputError
from utils.flags import cli
from utils.randomness import stream
from utils.tensors import pack, unpack

SHAPES = [(3, 36, 40), (3, 44, 36)]
TINY = ["--K", "4", "--N", "2", "--width", "4", "--log-every", "1", "--device", "cpu"]


def skip_net(seed=0, width=4):
    generator = torch.Generator().manual_seed(seed)
    return SkipNet(3, 3, width, norm_joined=False, generator=generator)


def flat(state):
    return torch.cat([state[name].flatten() for name in sorted(state)])


def picture(shape, seed=0):
    return torch.rand(1, *shape, generator=stream(seed, "picture"))


# Networks and operators ------------------------------------------------------------------


def test_the_networks_have_the_sizes_of_the_public_ones_without_dead_biases():
    """1,336,520 and 846,467 for pictures, 2,327,808 and 1,956,034 for MRI in the public code."""
    for net, encoder, decoder in (
        (SkipNet(3, 3, norm_joined=False), 1_336_520 - 5 * 260, 846_467 - 5 * 256),
        (UNet(2, 2), 2_327_808 - 2 * (64 + 128 + 256 + 256), 1_956_034 - 704),
    ):
        n_encoder = sum(p.numel() for p in encoder_of(net).parameters())
        assert n_encoder == encoder
        assert sum(p.numel() for p in net.parameters()) - n_encoder == decoder


@pytest.mark.parametrize("net", [skip_net(), UNet(3, 3, 4)], ids=["skip", "unet"])
def test_the_image_comes_from_the_encoder_s_features_alone(net):
    """What is no part of the encoder meets z only through it: cut off there, z is cut off."""
    z = picture((3, 40, 40)).requires_grad_()
    net.requires_grad_(False)
    assert net(z).requires_grad
    for part in encoder_of(net).values():
        for block in part if isinstance(part, torch.nn.ModuleList) else [part]:
            block.register_forward_hook(lambda module, args, result: result.detach())
    assert not net(z).requires_grad


def test_each_image_goes_through_its_own_decoder_and_one_encoder():
    nets = [skip_net(seed) for seed in range(2)]
    alone = [copy.deepcopy(net) for net in nets]
    encoder_of(alone[1]).load_state_dict(encoder_of(alone[0]).state_dict())
    group = Group(nets, SHAPES)
    images = [picture(shape, seed) for seed, shape in enumerate(SHAPES)]
    for x, net, image in zip(unpack(group(pack(images)), SHAPES), alone, images, strict=True):
        torch.testing.assert_close(x, net(image), rtol=0, atol=0)
    n_encoder = sum(p.numel() for p in encoder_of(alone[0]).parameters())
    n_both = sum(p.numel() for net in alone for p in net.parameters())
    assert sum(p.numel() for p in group.parameters()) == n_both - n_encoder


def test_the_encoder_learns_from_all_images_and_a_decoder_from_its_own():
    """The gradient of the sum is the sum of the images' own: no image's features are another's."""
    nets = [skip_net(seed) for seed in range(2)]
    group = Group(nets, SHAPES)
    images = [picture(shape, seed) for seed, shape in enumerate(SHAPES)]
    group(pack(images)).square().sum().backward()
    whole = {name: p.grad.clone() for name, p in group.named_parameters()}
    total = {name: torch.zeros_like(grad) for name, grad in whole.items()}
    for number, (net, image) in enumerate(zip(nets, images, strict=True)):
        group.zero_grad()
        net(image).square().sum().backward()
        for name, p in group.named_parameters():
            if p.grad is not None:
                total[name] += p.grad
            own = name.startswith(f"nets.{number}.") or ".encoder." in name or ".skips." in name
            assert (p.grad is not None) == own, name
    for name in whole:
        torch.testing.assert_close(whole[name], total[name], rtol=1e-4, atol=1e-4)


def test_stacked_operators_are_a_block_diagonal_matrix():
    masks = PixelMask(torch.arange(20).reshape(4, 5) % 3 > 0, 3)
    parts = [Downsample((1, 4, 6), 2, "average").double(), masks, Identity((2, 3, 3))]
    A = Stacked(parts)
    assert (A.in_shape, A.out_shape) == ((24 + 60 + 18,), (6 + 60 + 18,))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 102, dtype=torch.float64, generator=generator)
    v = torch.randn(2, 84, dtype=torch.float64, generator=generator)
    blocks = [torch.func.jacrev(P)(torch.zeros(1, *P.in_shape, dtype=torch.float64)) for P in parts]
    matrix = torch.block_diag(
        *(b.reshape(np.prod(P.out_shape), -1) for b, P in zip(blocks, parts, strict=True))
    )
    torch.testing.assert_close(A(x), x @ matrix.T)
    torch.testing.assert_close(A.adjoint(v), v @ matrix)
    torch.testing.assert_close(A.pinv(v)[:, 24:], v[:, 6:] @ matrix[6:, 24:])
    with pytest.raises(ValueError, match=r"image x of shape \(B, 102\), got"):
        A(v)


# The method ------------------------------------------------------------------------------


def test_a_frozen_encoder_keeps_every_bit_and_all_else_moves(tmp_path):
    trained = skip_net(seed=1)
    encoders.save(tmp_path / "e.pt", trained, "superresolution", [], {})
    net = skip_net(seed=2)
    fresh = copy.deepcopy(net.state_dict())
    encoders.fit(net, tmp_path / "e.pt", "superresolution")
    A = Downsample((3, 40, 36), 4, "average")
    ugodit(A(picture((3, 40, 36))), A, net, steps=5, N=2)
    assert encoder_of(net).state_dict().keys() and not list(net.buffers())
    for name, tensor in encoder_of(net).state_dict().items():
        assert torch.equal(tensor, encoder_of(trained).state_dict()[name]), name
    for name, tensor in net.state_dict().items():
        if not name.startswith(("encoder", "skips")):
            assert not torch.equal(tensor, fresh[name]), name


def test_the_frozen_encoder_is_one_function_of_z_in_train_and_eval_mode():
    """Nothing of what it saw before, in training or at test, stays in it."""
    net = skip_net()
    encoder_of(net).requires_grad_(False)
    z = picture((3, 40, 36))
    first = net.train()(z)
    net(5 * picture((3, 44, 40), 1) + 3)
    torch.testing.assert_close(net.eval()(z), first, rtol=0, atol=0)


class Recorder(Callback):
    def __init__(self):
        self.xs, self.terms = [], []

    def record(self, k, x, terms):
        self.xs.append(x.clone())
        self.terms.append({name: value.item() for name, value in terms.items()})


@pytest.mark.parametrize("steps, N", [(6, 2), (5, 3)])
def test_the_loop_is_that_of_aseqdip_over_the_free_weights(steps, N):
    """Replay in bare PyTorch."""
    A = Downsample((3, 40, 36), 4, "average")
    y = A(picture((3, 40, 36)))
    net = skip_net()
    encoder_of(net).requires_grad_(False)
    again, recorder = copy.deepcopy(net), Recorder()
    x_hat = ugodit(y, A, net, steps=steps, N=N, lr=0.02, lambda_ae=0.7, callback=recorder)
    free = [p for name, p in again.named_parameters() if name.startswith(("decoder", "head"))]
    adam, z = torch.optim.Adam(free, lr=0.02, fused=True), A.pinv(y)
    for step in range(1, steps + 1):
        x = again(z)
        loss = ((A(x) - y) ** 2).sum() + 0.7 * ((x - z) ** 2).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        if step % N == 0:
            z = x = again(z).detach()
        assert recorder.terms[step - 1]["loss"] == pytest.approx(loss.item(), rel=1e-5)
        torch.testing.assert_close(recorder.xs[step - 1], x.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x_hat, x.detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="N of at least 1"):
        ugodit(y, A, net, N=0)


# The script ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Fill a folder with three pictures of two sizes and a fourth for the test."""
    monkeypatch.chdir(tmp_path)
    pixels = skimage.data.astronaut()
    for name in ("train", "results"):
        (tmp_path / name).mkdir()
    for number, (height, width) in enumerate([(40, 44), (40, 44), (48, 36)]):
        top = 60 + 50 * number
        part = pixels[top : top + height, 190 : 190 + width]
        Image.fromarray(part).save(f"train/{number}.png")
    Image.fromarray(pixels[300:340, 100:140]).save("test.png")
    return tmp_path


def trained(monkeypatch, task, *flags):
    arguments = [task, *TINY, "--out", "e.pt", "--data", "train", "--M", "3", *flags]
    assert call(monkeypatch, ugodit_train, *arguments) == 0
    return arguments


@pytest.mark.parametrize("task", ["superresolution", "deblurring"])
def test_pictures_of_several_sizes_train_an_encoder_that_a_test_uses(
    task, folder, monkeypatch, capsys
):
    script = {"superresolution": aseqdip_superresolution, "deblurring": aseqdip_deblurring}[task]
    arguments = trained(monkeypatch, task)
    first = (folder / "e.pt").read_bytes()
    done = run_folder(folder / "results", task, "train", "ugodit_train")
    names = {f"reconstruction_{n + 1}_{n}.{kind}" for n in range(3) for kind in ("npy", "png")}
    assert {path.name for path in done.iterdir()} == names | {
        "config.json", "metrics.json", "log.csv", "curve.png", "encoder.pt"
    }  # fmt: skip
    found = metrics(done)
    x = np.load(done / "reconstruction_3_2.npy")
    x_true = np.asarray(Image.open("train/2.png")) / 255
    assert x.shape == x_true.shape == (48, 36, 3)
    assert found["steps"] == 8 and np.isfinite(found["psnr_final"])
    assert [item["item"] for item in found["items"]] == ["0", "1", "2"]
    (folder / "e.pt").unlink()
    capsys.readouterr()
    assert call(monkeypatch, ugodit_train, *arguments) == 0  # finished: the file comes back
    assert "finished already" in capsys.readouterr().out
    assert (folder / "e.pt").read_bytes() == first
    flags = ["--data", "test.png", *TINY, "--encoder", "e.pt", "--method", "ugodit"]
    assert call(monkeypatch, script, *flags) == 0
    found = metrics(run_folder(folder / "results", task, "test", "ugodit"))
    prior = found["prior_measurements"]
    assert [item["source"] for item in prior["items"]] == [f"train/{n}.png" for n in range(3)]
    assert prior["settings"]["K"] == 4 and "commit" in prior
    assert len(found["hyperparameters"]["encoder_sha256"]) == 64


def test_an_interrupted_training_goes_on_to_the_same_encoder(folder, monkeypatch, capsys):
    trained(monkeypatch, "superresolution", "--results", "whole")
    whole = torch.load("e.pt", weights_only=True)
    arguments = ["superresolution", *TINY, "--out", "e2.pt", "--data", "train", "--M", "3"]
    stop_half_way(monkeypatch, ugodit_train, arguments, k_stop=2)
    assert not (folder / "e2.pt").exists()
    assert call(monkeypatch, ugodit_train, *arguments) == 0
    assert "resumed after outer step 2" in capsys.readouterr().out
    resumed = torch.load("e2.pt", weights_only=True)
    for name, tensor in whole["state"].items():
        assert torch.equal(tensor, resumed["state"][name]), name
    logs = [
        log_of(run_folder(folder / out, "superresolution", "train", "ugodit_train"))
        for out in ("whole", "results")
    ]
    for a, b in zip(*logs, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_training_replays_in_bare_pytorch(folder, monkeypatch):
    """Each image through its own decoder, one Adam for the sum, inputs updated after N steps."""
    trained(monkeypatch, "superresolution", "--lr", "0.02", "--lambda-ae", "0.7", "--K", "2")
    x_true = [torch.from_numpy(np.asarray(Image.open(f"train/{n}.png")) / 255).float() for n in
              range(3)]  # fmt: skip
    pool = torch.nn.functional.avg_pool2d
    y = [4 * pool(x.movedim(-1, 0)[None], 4) for x in x_true]
    nets = [
        SkipNet(3, 3, 8, norm_joined=False, generator=stream(0, f"network {n}")).to(
            memory_format=torch.channels_last
        )
        for n in range(3)
    ]
    for net in nets[1:]:
        net.skips, net.encoder = nets[0].skips, nets[0].encoder
    begun = flat(encoder_of(nets[0]).state_dict())
    weights = {id(p): p for net in nets for p in net.parameters()}
    adam = torch.optim.Adam(weights.values(), lr=0.02, fused=True)
    z = [torch.nn.functional.interpolate(v / 4, scale_factor=4, mode="nearest") for v in y]
    rows = log_of(run_folder(folder / "results", "superresolution", "train", "ugodit_train"))
    for k in range(1, 3):
        for _ in range(2):
            x = [net(v) for net, v in zip(nets, z)]
            data_term = sum(((4 * pool(a, 4) - b) ** 2).sum() for a, b in zip(x, y))
            autoencoding_term = sum(((a - b) ** 2).sum() for a, b in zip(x, z))
            adam.zero_grad()
            (data_term + 0.7 * autoencoding_term).backward()
            adam.step()
        z = [net(v).detach() for net, v in zip(nets, z)]
        for name, term in (("data_term", data_term), ("autoencoding_term", autoencoding_term)):
            assert float(rows[k][name]) == pytest.approx(term.item(), rel=3e-2)
    learned = flat(encoder_of(nets[0]).state_dict())
    written = flat(torch.load("e.pt", weights_only=True)["state"])
    # Rounding can decide the sign of one of Adam's first steps, which have the size of lr.
    assert (written - learned).norm() < 0.5 * (learned - begun).norm()


def test_the_truth_never_reaches_the_training(folder, monkeypatch):
    trained(monkeypatch, "superresolution", "--results", "known")
    first = torch.load("e.pt", weights_only=True)["state"]
    (folder / "small").mkdir()
    for path in (folder / "train").iterdir():
        pixels = np.asarray(Image.open(path)) / 255
        tensor = torch.from_numpy(pixels).float().movedim(-1, 0)[None]
        y = Downsample(tuple(tensor.shape[1:]), 4, "average")(tensor) / 4
        np.save(folder / "small" / f"{path.stem}.npy", y[0].movedim(0, -1).numpy())
    trained(monkeypatch, "superresolution", "--data", "small", "--measured")
    second = torch.load("e.pt", weights_only=True)
    found = metrics(run_folder(folder / "results", "superresolution", "small", "ugodit_train"))
    assert found["measured"] and not [key for key in found if key.startswith(("psnr", "ssim"))]
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second["state"][name], rtol=1e-3, atol=1e-4)


def test_mri_trains_on_scans_with_masks_and_noise_of_their_own(tmp_path, monkeypatch, kspace):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()
    np.save("train/a.npy", kspace)
    np.save("train/b.npy", kspace[:, 2:50])
    np.save("test.npy", np.roll(kspace, 1, axis=0))
    seen = []
    build = aseqdip_mri.build_problem
    monkeypatch.setattr(
        aseqdip_mri, "build_problem", lambda *a: (seen.append(build(*a)), seen[-1])[1]
    )
    flags = ["--center-fraction", "0.2"]
    trained(monkeypatch, "mri", "--M", "2", *flags)
    assert [problem.A.in_shape for problem in seen] == [(1, 64, 60), (1, 48, 60)]
    assert not torch.equal(seen[0].A.mask[0], seen[1].A.mask[0])
    for problem in seen:  # the scale is that of the measurement, not of the truth
        assert problem.A.adjoint(problem.y).abs().max().item() == pytest.approx(1)
    more = ["--data", "test.npy", "--encoder", "e.pt", "--method", "ugodit", *flags]
    assert call(monkeypatch, aseqdip_mri, *TINY, *more) == 0
    found = metrics(run_folder(tmp_path / "results", "mri", "test", "ugodit"))
    assert len(found["prior_measurements"]["items"]) == 2
    assert not torch.equal(seen[0].A.mask[0], seen[2].A.mask[0])  # nor is it that of the test


@pytest.mark.parametrize("task", ["mri", "superresolution"])
def test_the_embedded_data_are_not_those_of_the_test(task):
    args = ugodit_train.TASKS[task]()
    items = ugodit_train.choose_items(args)
    assert len(items) == 4 and len({item.source for item in items}) == 4
    test = "examples_overlay" if task == "mri" else "astronaut"
    assert not [item for item in items if test in item.source]


def test_a_picture_of_the_training_is_no_test(folder, monkeypatch, capsys):
    trained(monkeypatch, "superresolution", "--K", "1", "--N", "1")
    (folder / "copy.png").write_bytes((folder / "train" / "1.png").read_bytes())
    np.save("pixels.npy", np.asarray(Image.open("train/1.png")))
    for data in ("train/1.png", "copy.png", "pixels.npy"):
        flags = ["--data", data, "--encoder", "e.pt", "--method", "ugodit", *TINY]
        running.refused(
            monkeypatch, capsys, folder, aseqdip_superresolution, flags,
            "the encoder was trained on it",
        )  # fmt: skip


def test_an_encoder_that_does_not_fit_is_refused(folder, monkeypatch, capsys):
    encoders.save(folder / "e.pt", skip_net(width=8), "superresolution", [], {})
    whole = (folder / "e.pt").read_bytes()
    (folder / "cut.pt").write_bytes(whole[:2000])
    (folder / "bit.pt").write_bytes(whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:])
    torch.save({"weights": torch.zeros(3)}, "other.pt")
    (folder / "text.pt").write_text("no encoder")
    (folder / "nothing").mkdir()
    record = torch.load("e.pt", weights_only=True)
    torch.save(record | {"kind": "UGoDIT encoder 9"}, "later.pt")
    torch.save(record | {"state": dict(list(record["state"].items())[:-1])}, "part.pt")
    Image.fromarray(np.asarray(Image.open("test.png"))[..., 0]).save("grey.png")
    use = ["--method", "ugodit", "--data", "test.png", *TINY, "--encoder"]
    cases = [
        *(([*use, name], f"{name}: .*ugodit_train.py, or damaged")
          for name in ("cut.pt", "bit.pt", "text.pt")),
        ([*use, "other.pt"], "other.pt: not .*ugodit_train.py"),
        ([*use, "later.pt"], "expected UGoDIT encoder 1, got UGoDIT encoder 9"),
        ([*use, "nothing"], "nothing: no such file"),
        ([*use, "part.pt"], "part.pt: damaged"),
        ([*use, "e.pt", "--width", "8"], "width 8,.* 16"),
        ([*use, "e.pt", "--data", "grey.png"], "in_channels 3,.* 1"),
    ]  # fmt: skip
    for arguments, facts in cases:
        running.refused(monkeypatch, capsys, folder, aseqdip_superresolution, arguments, facts)
    facts = "e.pt: .*superresolution.*deblurring"
    running.refused(monkeypatch, capsys, folder, aseqdip_deblurring, [*use, "e.pt"], facts)


def test_what_training_cannot_do_is_said(folder, monkeypatch, capsys):
    use = ["superresolution", "--data", "train", *TINY]
    (folder / "scans").mkdir()
    for name in "abcd":
        (folder / "scans" / f"{name}.npy").touch()
    (folder / "mixed").mkdir()
    Image.open("test.png").save("mixed/a.png")
    Image.open("test.png").convert("L").save("mixed/b.png")
    Image.open("test.png").resize((32, 32)).save("mixed/c.png")
    cases = [
        (["inpainting"], "mri, superresolution, deblurring"),
        (["--data", "train"], "mri, superresolution, deblurring"),
        ([*use], "--M 4: train.* 3"),
        ([*use, "--M", "0"], "--M 0: expected"),
        ([*use, "--M", "2", "--out", "no/e.pt"], "--out no/e.pt: expected a file"),
        ([*use, "--M", "2", "--out", "train"], "--out train: expected a file"),
        ([*use, "--M", "2", "--data", "mixed"], "of RGB and grey"),
        ([*use, "--M", "2", "--K", "0"], "--K 0"),
        ([*use, "--M", "2", "--data", "nowhere"], "nowhere: no such file"),
        ([*use, "--M", "2", "--results", "test.png"], "another --out"),
        (
            ["mri", "--data", "scans", "--measured", "--accel", "8"],
            "--measured takes .*omit --accel",
        ),
        (["mri", "--M", "2", "--slice", "3"], "--slice chooses .*--data"),
        (["mri", "--mask", "m.npy"], "--mask m.npy: expected random or equispaced"),
    ]
    for arguments, facts in cases:
        running.refused(monkeypatch, capsys, folder, ugodit_train, arguments, facts)
    (folder / "mixed" / "b.png").unlink()
    small = [*use, "--M", "2", "--data", "mixed"]
    running.refused(monkeypatch, capsys, folder, ugodit_train, small, "sides above 32")


def test_help_and_flags_that_training_has_not(monkeypatch, capsys):
    assert call(monkeypatch, ugodit_train, "--help") == 0
    assert "{mri,superresolution,deblurring}" in capsys.readouterr().out
    for flags, status, told, untold in (
        (["--help"], 0, "--blur", "--stop"),
        (["--stop", "es_wmv"], 2, "--stop", "Traceback"),
        (["--preset", "best"], 2, "--preset", "Traceback"),
        (["--loss", "norms"], 2, "--loss", "Traceback"),
        (["--depth", "4"], 2, "--depth", "Traceback"),
        (["--init-std", "0.5"], 2, "--init-std", "Traceback"),
    ):
        with pytest.raises(SystemExit) as end:
            call(monkeypatch, ugodit_train, "deblurring", *flags)
        said = "".join(capsys.readouterr())
        assert end.value.code == status and told in said and untold not in said


def test_the_rate_of_mri_is_its_own_unless_it_is_given():
    args = aseqdip_mri.Args()
    assert aseqdip_mri.baselines(args)["ugodit"]["lr"] == 4e-4
    args = aseqdip_mri.Args(lr=1e-2)
    args.changed = ("lr",)
    assert aseqdip_mri.baselines(args)["ugodit"]["lr"] == 1e-2


def test_quick_changes_the_defaults_and_flags_still_win(tmp_path, monkeypatch):
    flags = ["superresolution", "--quick", "--K", "1", "--N", "1", "--width", "4"]
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, ugodit_train, *flags, "--device", "cpu") == 0
    folder = run_folder(tmp_path / "results", "superresolution", "embedded", "ugodit_train")
    config = json.loads((folder / "config.json").read_text())["flags"]
    quick = ugodit_train.QUICK | ugodit_train.QUICK_TASK["superresolution"]
    for name, value in quick.items():
        if name not in ("K", "N", "width"):
            assert config[name] == value
    assert metrics(folder)["steps"] == 1


# The study -------------------------------------------------------------------------------


def study(monkeypatch, *flags):
    monkeypatch.setattr(sys, "argv", ["ugodit_study.py", *map(str, flags)])
    ugodit_study.study(cli(ugodit_study.Args))


def test_the_study_measures_each_variant_once(folder, monkeypatch, capsys):
    for path in (folder / "train").iterdir():
        Image.open(path).resize((40, 40)).save(path)
    flags = ["superresolution", "--train", "train", "--test", "test.png", "--M", 2, "--resize", 40]
    flags += ["--train-K", 1, "--updates", 10, "--width", 4]
    monkeypatch.setattr(ugodit_study, "EVERY", 10)
    monkeypatch.setitem(ugodit_study.RAISED, "superresolution", dict(lr=1e-3, N=5))
    study(monkeypatch, *flags)
    said = capsys.readouterr().out
    made = folder / "results" / "ugodit_study"
    curves = {p.stem.split("test_")[1]: ugodit_study.read_curve(p) for p in made.glob("*.csv")}
    labels = {name: name.replace(", ", "_").replace(" ", "_") for name in ugodit_study.NAMES}
    assert set(curves) == {"input", *labels.values()}
    finals = [curves[label][-1][1] for label in labels.values()]
    assert len(set(finals)) == len(finals)  # all differ
    for name, label in labels.items():
        assert [row[0] for row in curves[label]] == [10]
        assert f"| test | {name} | {curves[label][-1][1]:.2f} | " in squeezed(said)
    (figure,) = made.glob("*.png")
    with Image.open(figure) as drawn:
        assert drawn.size[0] > 500
    # UGoDIT's curve is that of the task's script.
    (encoder,) = made.glob("*.pt")
    more = ["--data", "test.png", "--resize", "40", "--K", "5", "--N", "2", "--width", "4"]
    more += ["--encoder", encoder, "--method", "ugodit", "--log-every", "5", "--device", "cpu"]
    assert call(monkeypatch, aseqdip_superresolution, *more) == 0
    found = metrics(run_folder(folder / "results", "superresolution", "test", "ugodit"))
    assert found["psnr_final"] == pytest.approx(curves["UGoDIT"][-1][1], abs=1e-3)
    capsys.readouterr()
    monkeypatch.setattr(ugodit_study, "curve", None)  # nothing is measured again
    study(monkeypatch, *flags)
    table = [line for line in said.splitlines() if line.startswith("|")]
    assert table == [line for line in capsys.readouterr().out.splitlines() if line[0] == "|"]
    # Another picture of that name is another curve, and one of the training is no test.
    (folder / "other").mkdir()
    Image.open("test.png").rotate(180).save(folder / "other" / "test.png")
    seen = next((folder / "train").iterdir())
    measured = []
    monkeypatch.setattr(
        ugodit_study, "curve", lambda *args: measured.append(args[2]) or [(10, 1.0, 1.0)]
    )
    flags[flags.index("test.png")] = "other/test.png"
    study(monkeypatch, *flags)
    assert measured == ["input", *ugodit_study.NAMES]
    flags[flags.index("other/test.png")] = seen
    with pytest.raises(InputError, match="the encoder was trained on it"):
        study(monkeypatch, *flags)


def test_the_study_tells_when_a_goal_is_reached():
    rows = [(20, 20.0, 1.0), (40, 25.0, 2.0), (60, 24.0, 3.0)]
    assert ugodit_study.figures(rows, 24.5) == [24.0, 25.0, 40, 40, 5.0]
    assert ugodit_study.figures(rows, 26.0)[3] == math.inf
    slow = [(20, 19.0, 1.0), (40, 22.0, 2.0), (60, 23.0, 3.0)]
    later = [(20, 23.0, 4.0), (40, 25.0, 8.0), (60, 24.0, 12.0)]
    found = {
        item: {"input": [(0, 18.0, 0.0)], "aSeqDIP": slow[:1] * 3, "aSeqDIP, raised rate": slow,
               "UGoDIT": other}
        for item, other in (("a", rows), ("b", later), ("c", slow))
    }  # fmt: skip
    lines = squeezed(ugodit_study.table(found)).splitlines()
    assert "| a | UGoDIT | 24.00 | 25.00, 40 | 40 | 5.0 |" in lines
    assert "| b | UGoDIT | 24.00 | 25.00, 40 | 20 | 20.0 |" in lines
    assert "| mean of 3 | UGoDIT | 23.67 | 24.33, 47 | 40 | 10.0 |" in lines


def test_the_study_refuses_curves_that_there_are_not(tmp_path, monkeypatch):
    for flags, words in ((["--only", "ugodit"], "--only"), (["--updates", 50], "multiple of 20")):
        with pytest.raises(InputError, match=words):
            study(monkeypatch, "mri", "--out", tmp_path, *flags)
    assert not list(tmp_path.iterdir())


def test_frozen_statistics_are_those_of_the_images_and_then_do_not_move():
    """With the statistics of an image itself BatchNorm gives that image the same result."""
    net, image = skip_net(), picture((3, 40, 36))
    expected = net(image)
    ugodit_study.freeze_statistics(net, [image])
    torch.testing.assert_close(net(image), expected, rtol=1e-3, atol=1e-4)
    brighter = picture((3, 40, 36), 1) * 3
    first = net(brighter)
    net(image)
    torch.testing.assert_close(net(brighter), first, rtol=0, atol=0)
