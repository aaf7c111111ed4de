"""The command line: presets, and the files that it names."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import aseqdip_denoising
from baselines import NAMES
from scripts.tasks import SCRIPTS
from utils import cli
from utils.errors import InputError
from utils.files import files_of
from utils.flags import grouped

SCRIPT = aseqdip_denoising


def parsed(*words):
    return cli.parse_args(SCRIPT.Args, SCRIPT.PRESETS, "", list(words))


@pytest.mark.parametrize("words", [("--quick",), ("--preset", "quick"), ("--preset=quick",)])
def test_a_preset_is_other_defaults_and_flags_win(words):
    args = parsed(*words, "--K", "7")
    expected = SCRIPT.PRESETS["quick"] | {"K": 7, "preset": "quick"}
    assert {name: getattr(args, name) for name in expected} == expected
    assert args.changed == ("K",) or set(args.changed) == {"K", "quick"}


def test_words_inside_a_value_are_no_preset():
    args = parsed("--out", "a --quick b", "--run", "preset=best")
    assert args.preset == "paper" and not args.quick
    assert (args.K, args.width) == (SCRIPT.Args.K, SCRIPT.Args.width)


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    args = parsed("--data=~/a.png", "--out", "~/results")
    assert (args.data, args.out) == (tmp_path / "a.png", tmp_path / "results")
    assert parsed("--out", "a~b").out == Path("a~b")


def test_two_presets_are_refused(capsys):
    with pytest.raises(SystemExit) as end:
        parsed("--quick", "--preset", "best")
    assert end.value.code == 2 and "--preset" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, start, also",
    [
        (["--sgma", "4"], "error: Unrecognized options: --sgma, 4; ", "--sigma FLOAT"),
        (["--sigma", "four"], "error: Error parsing --sigma: ", "'four'"),
        (
            ["--sigma", 40 * "four"],
            "error: Error parsing --sigma: ",
            f"'{40 * 'four'}'",
        ),  # > a line
        (
            ["--" + 45 * "a", "--" + 45 * "b"],
            "error: Unrecognized options: ",
            f"--{45 * 'a'}, --{45 * 'b'}; ",
        ),
        (["--preset", "bets"], "error: invalid choice 'bets' ", "'best'"),
        (["--K"], "error: Missing value for argument ", "--K"),
    ],
)
@pytest.mark.parametrize("colours", [False, True])
def test_a_wrong_flag_is_told_in_one_line(flags, start, also, colours, monkeypatch, capsys):
    if colours:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with pytest.raises(SystemExit) as end:
        parsed(*flags)
    told = capsys.readouterr()
    assert end.value.code == 2 and told.out == "" and told.err.count("\n") == 1
    assert told.err.startswith(start) and also in told.err


def test_files_of_a_folder_are_chosen_by_name_and_by_list(tmp_path, capsys):
    for name in ("c.png", "a.png", "b.png", "notes.txt", ".hidden.png", "._a.png", "DICOMDIR"):
        (tmp_path / name).touch()

    def chosen(**given):
        args = SCRIPT.Args(data=tmp_path, **given)
        return [path.name for path in cli.inputs(args, (".png",))]

    assert chosen() == ["a.png", "b.png", "c.png"]
    assert chosen(images=2) == ["a.png", "b.png"]
    names = tmp_path / "names.txt"
    names.write_text("c  # the first\nmissing.png 25\na.png 3 dB\n")
    capsys.readouterr()
    assert chosen(list=names) == ["c.png", "a.png", "b.png"]
    said = capsys.readouterr().out
    assert "1 of 3" in said and "(missing.png)" in said
    assert chosen(list=names, images=1) == ["c.png"]
    for given in ({"images": 0}, {"list": tmp_path / "nowhere"}):
        with pytest.raises(InputError, match=f"--{next(iter(given))}"):
            chosen(**given)
    with pytest.raises(InputError, match="--images"):
        list(cli.inputs(SCRIPT.Args(images=2), (".png",)))
    (tmp_path / "d e.png").touch()
    (tmp_path / "f.nii.gz").touch()
    names.write_text("d e.png\nf\n")
    args = SCRIPT.Args(data=tmp_path, list=names, images=2)
    files = cli.inputs(args, (".png", ".nii.gz"))
    assert [path.name for path in files] == ["d e.png", "f.nii.gz"]


def test_a_folder_without_such_files_is_said_so(tmp_path):
    with pytest.raises(InputError, match="a folder without .png"):
        files_of(tmp_path, (".png",), lambda path: False)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_help_has_the_task_s_groups_first_and_every_flag_once(script, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit) as end:
        cli.parse_args(script.Args, script.PRESETS, "", ["--help"], others=script.baselines)
    text = capsys.readouterr().out
    assert end.value.code == 0 and "None" not in text and "(default: False)" not in text
    fields = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(script.Args)]
    flags = re.findall(r"^[^\w\n-]*(--\w[\w-]*)", text, flags=re.MULTILINE)
    assert sorted(flags) == sorted(fields)
    assert flags[0] in ("--data", "--slice") and flags.index("--K") < flags.index("--method")
    places = [text.index(f"{heading} options") for heading in grouped(script.Args)]
    assert places == sorted(places) and len(places) >= 7
    line = text[text.index("--method TEXT") : text.index("--set TEXT")]
    offered = set(re.findall(r"\w+", line)) & set(NAMES)
    assert offered == set(script.baselines(script.Args()))


def test_defaults_of_the_command_line_are_those_of_the_args():
    for script in SCRIPTS.values():
        args = cli.parse_args(script.Args, script.PRESETS, "", [], others=script.baselines)
        assert args == script.Args() and args.changed == ()


def test_no_library_that_help_does_not_need_is_imported_with_a_script():
    code = "import sys, {}; print({{'sigpy', 'matplotlib', 'scipy.stats', 'numba'}} & {{*sys.modules}})"
    names = ", ".join(script.__name__ for script in SCRIPTS.values())
    command = [sys.executable, "-c", code.format(names)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stdout + done.stderr
