"""Threads, memory and the probe of bfloat16."""

import json
import os

import psutil
import pytest
import running
import skimage.data
import torch
from PIL import Image

import aseqdip_denoising
from utils import processor

CPU = torch.device("cpu")


@pytest.fixture
def cores(monkeypatch):
    """Pretend a machine with the given idle shares of its cores, in percent."""
    before = torch.get_num_threads()

    def pretend(*idle):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        torch.set_num_threads(len(idle))
        monkeypatch.setattr(
            psutil, "cpu_percent", lambda interval, percpu: [100 - share for share in idle]
        )
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(len(idle))))
        processor.free_cores.cache_clear()

    yield pretend
    processor.free_cores.cache_clear()
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "idle, threads", [((100, 99), 2), ((100, 10), 1), ((0, 0), 1), ((60, 60, 100, 0), 2)]
)
def test_a_thread_for_each_free_core(cores, idle, threads):
    cores(*idle)
    processor.choose_threads()
    assert torch.get_num_threads() == threads


def test_the_user_s_number_of_threads_wins(cores, monkeypatch):
    cores(0, 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    processor.choose_threads()
    processor.choose_threads(1)
    assert torch.get_num_threads() == 2


def test_no_more_threads_than_cores_where_another_machine_began(cores):
    cores(100, 100)
    processor.choose_threads(64)
    assert torch.get_num_threads() == 2


def test_a_resumed_run_takes_the_threads_that_it_began_with(cores, tmp_path, monkeypatch, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(skimage.data.astronaut()[60:92, 190:222]).save(photo)
    flags = ["--data", photo, "--K", "8", "--width", "4", "--device", "cpu", "--out", tmp_path]
    cores(100, 0)
    running.stop_half_way(monkeypatch, aseqdip_denoising, flags, k_stop=3)
    cores(100, 100)
    assert running.call(monkeypatch, aseqdip_denoising, *flags) == 0
    assert torch.get_num_threads() == 1
    out = capsys.readouterr().out
    assert "resumed after outer step 3" in out and "note:" not in out
    folder = running.run_folder(tmp_path, "denoising", "photo")
    assert json.loads((folder / "config.json").read_text())["threads"] == 1
    assert "1 thread)" in running.metrics(folder)["device"]
    other = tmp_path / "other"
    (tmp_path / "many").mkdir()
    for name in "ab":
        (tmp_path / "many" / f"{name}.png").write_bytes(photo.read_bytes())
    flags = [*flags, "--data", tmp_path / "many", "--out", other]
    cores(100, 0)
    running.stop_half_way(monkeypatch, aseqdip_denoising, flags, k_stop=3)
    cores(100, 100)
    assert running.call(monkeypatch, aseqdip_denoising, *flags) == 0
    configs = {
        name: json.loads((running.run_folder(other, "denoising", name) / "config.json").read_text())
        for name in "ab"
    }
    assert {name: config["threads"] for name, config in configs.items()} == {"a": 1, "b": 2}


def test_the_probe_measures_a_ratio():
    processor.measured_speedup.cache_clear()
    assert 0.01 < processor.measured_speedup(CPU) < 100


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """Return a function that asks for the ratio where a measurement would now find another."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def ask(would_find):
        monkeypatch.setattr(processor, "measured_speedup", lambda device: would_find)
        return processor.bfloat16_speedup(CPU)

    return ask


def test_the_ratio_stays_what_it_was_when_first_asked(probe, tmp_path, monkeypatch):
    assert probe(2.5) == 2.5
    assert probe(1.2) == 2.5  # other work runs beside
    monkeypatch.setattr(processor, "hardware_name", lambda device: "another machine")
    assert probe(1.2) == 1.2
    (file,) = (tmp_path / "cache").rglob("*.json")
    assert sorted(json.loads(file.read_text()).values()) == [1.2, 2.5]


@pytest.mark.parametrize("held", ["{", "[]", "null", '"s"', "true", "inf", "NaN", "-1.0", "folder"])
def test_a_damaged_file_of_the_ratio_is_written_anew(held, probe, tmp_path):
    assert probe(2.5) == 2.5
    (file,) = (tmp_path / "cache").rglob("*.json")
    (key,) = json.loads(file.read_text())
    if held == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_text(held)
        assert probe(1.5) == 1.5 and json.loads(file.read_text()) == {key: 1.5}
        file.write_text(f'{{"{key}": {held}}}')
    assert probe(1.2) == 1.2


def test_without_a_cache_folder_the_ratio_is_measured_each_time(probe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache").touch()  # a file in its place
    assert probe(2.5) == 2.5 and probe(1.2) == 1.2
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # there is no home
    assert probe(2.5) == 2.5 and probe(1.2) == 1.2
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
