"""--prior and --varnet-weights, as a user gives them."""

import importlib.util
import json
from pathlib import Path

import pytest
import running
import torch
from gaussian import gaussian_prior, write_prior
from running import call, metrics, run_folder
from test_methods import SCRIPTS, flags_of

import aseqdip_ct
import aseqdip_deblurring
import aseqdip_denoising
import aseqdip_mri
from baselines import chosen, dds, find
from scripts import jobs
from utils import priors, runs
from utils.cli import parse_args
from utils.errors import InputError
from utils.files import file_hash
from utils.precision import Autocast, place

pytestmark = pytest.mark.usefixtures("gaussian_priors")
SHORT = ["--set", "n_steps=4"]


def test_each_method_takes_the_first_file_that_fits(tmp_path):
    files = {
        (channels, kind): write_prior(tmp_path / f"{channels}{kind}.json", channels, kind)
        for channels in (1, 2, 3)
        for kind in ("vp", "ve")
    }
    second = write_prior(tmp_path / "second.json", 3, "vp")
    given = (*files.values(), second)
    for method, channels, expected in (
        ("dds", 2, (2, "vp")),
        ("dds", 1, (1, "vp")),
        ("score_mri", 2, (2, "ve")),
        ("mcg", 1, (1, "ve")),
        ("dps", 3, (3, "vp")),
    ):
        assert priors.choose(given, find(method), channels) == files[expected]
    # Without one of its own kind the other, without both parts together each apart.
    assert priors.choose((files[1, "vp"], files[2, "vp"]), find("score_mri"), 2) == files[2, "vp"]
    assert priors.choose((files[3, "vp"], files[1, "ve"]), find("dds"), 2) == files[1, "ve"]
    assert priors.choose((files[1, "ve"], files[2, "vp"]), find("score_mri"), 2) == files[1, "ve"]
    with pytest.raises(InputError, match="none fits an image of 1 channels, got .* of 3"):
        priors.choose((files[3, "vp"], second), find("mcg"), 1)


def test_the_output_names_the_file_and_what_it_is(tmp_path, monkeypatch, kspace, capsys):
    flags = flags_of("ct", tmp_path, kspace, "--method", "dds,mcg", *SHORT)
    more = write_prior(tmp_path / "exploding.json", 1, "ve")
    assert call(monkeypatch, aseqdip_ct, *flags, "--prior", more) == 0
    said = capsys.readouterr().out
    for method, file, kind in (
        ("dds", tmp_path / "prior.json", "VP"),
        ("mcg", more, "VE"),
    ):
        line = (
            f"{method}: prior {file}: exact.pt: Gaussian, 3 parameters, grey images of 64x64 in "
            f"[0, 1], predicts eps, {kind}, 1000 steps of sigma 0.01 to 157; used on 48x44 "
            "pixels as a whole, mirrored to 48x48\n"
        )
        assert line in said
        folder = run_folder(tmp_path / "out", "ct", "item", method)
        settings = json.loads((folder / "config.json").read_text())["settings"]
        assert settings["hyperparameters"]["prior_sha256"] == file_hash(file)
        assert "prior" not in settings
        found = metrics(folder)
        assert found["prior"] == str(file) and found["prior_facts"]["channels"] == 1
        assert found["steps"] == 4 and "psnr_ema" not in found
        assert (folder / "log.csv").exists()
    assert "4 steps in" in said and "updates of" not in said
    # The file's content decides, not its name; and what a sampler does not use does not.
    renamed = tmp_path / "renamed.json"
    renamed.write_bytes((tmp_path / "prior.json").read_bytes())
    flags = [renamed if f == tmp_path / "prior.json" else f for f in flags]
    again = [*flags, "--method", "dds", "--K", "9", "--lr", "1", "--stop", "holdout"]
    assert call(monkeypatch, aseqdip_ct, *again) == 0
    assert "finished already" in capsys.readouterr().out
    write_prior(renamed, 1, "ve")
    assert call(monkeypatch, aseqdip_ct, *again) == 0
    assert len(list((tmp_path / "out" / "ct" / "dds" / "item").iterdir())) == 2


def test_a_wrong_prior_is_told_in_one_line(tmp_path, monkeypatch, kspace, capsys):
    (tmp_path / "out").mkdir()
    grey, rgb = (write_prior(tmp_path / f"{n}.json", n) for n in (1, 3))
    flags = flags_of("denoising", tmp_path, kspace)

    def unreadable(path):
        raise InputError(f"{path}: not a prior, or damaged")

    for arguments, facts in (
        (["--method", "dps"], "dps: needs prior data: --prior names them"),
        (["--method", "tv,ddnm"], "ddnm: needs prior data: --prior names them"),
        (["--prior", rgb], "--prior: for --method dps, ddnm only"),
        (["--method", "dps", "--prior", tmp_path / "no.pt"], "--prior .*no.pt: no such file"),
        (["--method", "dps", "--prior", tmp_path], f"--prior {tmp_path}: no such file"),
        (["--method", "dps", "--prior", grey], "dps: expected a prior of 3 channels, got one of 1"),
        (
            ["--method", "ddnm", "--prior", grey, "--prior", grey],
            "--prior: none fits an image of 3 channels, got .*1.json of 1",
        ),
        (["--method", "dps", "--prior", rgb, "--set", "zeta=-1"], "zeta=-1: expected a number"),
        (["--method", "dps", "--prior", rgb, "--set", "n_steps=0"], "n_steps=0: expected"),
    ):
        call_flags = [*flags, *arguments]
        running.refused(monkeypatch, capsys, tmp_path, aseqdip_denoising, call_flags, facts)
    monkeypatch.setattr(runs, "load_prior", unreadable)
    arguments = [*flags, "--method", "dps", "--prior", rgb]
    facts = "3.json: not a prior, or damaged"
    running.refused(monkeypatch, capsys, tmp_path, aseqdip_denoising, arguments, facts)


def test_ddnm_is_left_out_of_a_blur_that_is_not_linear(tmp_path, monkeypatch, kspace, capsys):
    (tmp_path / "out").mkdir()
    flags = flags_of("deblurring", tmp_path, kspace)
    arguments = [*flags, "--method", "ddnm", "--prior", write_prior(tmp_path / "rgb.json", 3)]
    running.refused(
        monkeypatch, capsys, tmp_path, aseqdip_deblurring, arguments,
        "ddnm: for linear problems only, which CameraBlur is not; take dps",
    )  # fmt: skip
    names = aseqdip_deblurring.baselines
    assert "ddnm" not in names(aseqdip_deblurring.Args(method="all"))
    assert "ddnm" in names(aseqdip_deblurring.Args(method="all", blur="trajectory"))


@pytest.mark.parametrize("task", SCRIPTS)
def test_without_a_file_all_tells_what_these_methods_lack(task):
    script = SCRIPTS[task]
    args = parse_args(script.Args, script.PRESETS, "", ["--method", "all"])
    for method in chosen(args, script.baselines(args)):
        lacks = method.lacks(args)
        assert method.needs is None or lacks.startswith("needs prior data: --"), method.name


def test_weights_of_varnet_are_read_as_tensors_only(tmp_path, monkeypatch, kspace, capsys):
    flags = flags_of("mri", tmp_path, kspace)
    other, damaged, unsafe = (tmp_path / name for name in ("other.pt", "damaged.pt", "unsafe.pt"))
    torch.save({"a": torch.zeros(1)}, other)
    damaged.write_bytes(other.read_bytes()[:-30])
    torch.save({"cascades.0.dc_weight": print}, unsafe)
    (tmp_path / "out" / "cache").mkdir(parents=True)
    found = importlib.util.find_spec
    monkeypatch.setattr(  # as if the package were there: the weights are read before it is needed
        "utils.methods.importlib.util.find_spec",
        lambda name: name if name == "fastmri" else found(name),
    )
    for file in (other, damaged, unsafe, tmp_path / "text.pt"):
        if not file.exists():
            file.write_text("no weights")
        assert call(monkeypatch, aseqdip_mri, *flags, "--method", "varnet",
                    "--varnet-weights", file) == 2  # fmt: skip
        error = capsys.readouterr().err.strip()
        assert error.startswith(f"error: --varnet-weights {file}: not the state of a fastMRI")
        assert "\n" not in error
    facts = "varnet: needs prior data: --varnet-weights names them"
    arguments = [*flags, "--method", "varnet"]
    running.refused(monkeypatch, capsys, tmp_path, aseqdip_mri, arguments, facts)


def test_a_prior_runs_in_bfloat16_as_autocast_has_it():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.GroupNorm(2, 8))

    class WithStep(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, t):
            return self.net(x).mean(dim=1, keepdim=True) + 0 * t[:, None, None, None]

    prior = gaussian_prior(0.0, 1.0)
    prior.net = WithStep()
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    exact = prior.eps(x, 3)
    placed = place(prior, torch.device("cpu"), "bf16")
    assert placed is prior and isinstance(prior.net, Autocast)
    rounded = prior.eps(x, 3)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    assert torch.allclose(rounded, exact, atol=0.05)


def test_the_samplers_are_declared_as_such():
    assert dds.METHOD.needs == "prior" and not dds.METHOD.iterative
    assert find("udig_dip").iterative and find("varnet").package == "fastmri"


def test_a_table_s_command_keeps_each_prior():
    words = ["--prior", "a.pt", "--sigma", "3", "--prior=b.pt", "--set", "x=1", "y=2"]
    flags = jobs.read_flags(words)
    assert flags["--prior"] == ["a.pt", "b.pt"]
    args = parse_args(
        aseqdip_denoising.Args, {}, "", [*jobs.words_of(flags), "--method", "dps", "--sigma", "4"]
    )
    assert args.prior == (Path("a.pt"), Path("b.pt")) and args.set == ("x=1", "y=2")
