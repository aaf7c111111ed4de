"""What the machine is good for: its free cores, its memory allocator, its bfloat16."""

import contextlib
import ctypes
import functools
import json
import math
import os
import platform
import re
import sys
import time
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F

from utils.errors import InputError
from utils.files import write_atomically

SAMPLE_SECONDS = 0.2  # so long the load of the cores is watched
FASTER = 1.3  # bfloat16 is taken where it is so many times as fast; measured: 0.3, or 2 and more
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt


def choose_threads(count: int | None = None) -> None:
    """Set how many threads PyTorch computes with; OMP_NUM_THREADS, where it is set, wins.

    Args:
        count: how many, at most one for each core of this process; without it one for each core
            that nothing else uses, at least one. A thread without a core of its own makes all
            others wait, so that two threads on one free core are several times slower than one
            (docs/performance.md).
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(free_cores() if count is None else min(count, len(own_cores())))


def own_cores() -> set[int]:
    """Return the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


@functools.cache
def free_cores() -> int:
    """Count the cores of this process that nothing else uses, at least one."""
    busy = psutil.cpu_percent(SAMPLE_SECONDS, percpu=True)
    free = sum(1 - busy[core] / 100 for core in own_cores() if core < len(busy))
    return max(1, min(round(free), torch.get_num_threads()))


@functools.cache
def keep_memory() -> None:
    """Let the process keep memory that it frees, for the next update to take.

    By default glibc returns every large block to the system at once, and each update waits for
    the system to clear some gigabytes of new pages. Does nothing where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def bfloat16_speedup(device: torch.device) -> float:
    """Return how many times as fast a network is in bfloat16 as in float32, measured once.

    The answer is kept in the user's cache folder, where there is one: other work on the machine
    would change it, and so what a repeated command does.

    Args:
        device: where the networks will run.
    """
    hardware, file = f"{hardware_name(device)}, PyTorch {torch.__version__}", _cache_file()
    known = _known_speedups(file)
    if hardware not in known:
        known[hardware] = measured_speedup(device)
        with contextlib.suppress(OSError, InputError):  # as where it is a folder
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, lambda out: out.write(json.dumps(known, indent=1).encode()))
    return known[hardware]


def _cache_file() -> Path:
    """Return the file of bfloat16_speedup; below a file, where nothing can be, without a home."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(folder):
        folder = os.path.expanduser("~/.cache")
    return Path(folder if os.path.isabs(folder) else os.devnull) / "aseqdip" / "bfloat16.json"


def _known_speedups(file: Path) -> dict[str, float]:
    """Return what a file of bfloat16_speedup holds that makes sense."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    found = found if isinstance(found, dict) else {}
    return {k: v for k, v in found.items() if isinstance(v, float) and 0 < v < math.inf}


@functools.cache
def measured_speedup(device: torch.device) -> float:
    """Measure how many times as fast a convolution with its backward is in bfloat16 as in float32.

    The two take turns, and the quickest of each counts, which other work on the machine disturbs
    least. On a CPU this takes about half a second.
    """
    side = 512 if device.type == "cuda" else 96
    shapes, layout = ((1, 64, side, side), (64, 64, 3, 3)), torch.channels_last
    inputs = {
        dtype: [torch.ones(shape, device=device, dtype=dtype).to(memory_format=layout)
                .requires_grad_() for shape in shapes]
        for dtype in (torch.float32, torch.bfloat16)
    }  # fmt: skip
    times: dict[torch.dtype, list[float]] = {dtype: [] for dtype in inputs}
    for turn in range(8):
        for dtype, (x, weight) in inputs.items():
            begun = time.perf_counter()
            torch.autograd.grad(F.conv2d(x, weight, padding=1).sum(), (x, weight))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:  # the first compiles
                times[dtype].append(time.perf_counter() - begun)
    return min(times[torch.float32]) / min(times[torch.bfloat16])


def hardware_name(device: torch.device) -> str:
    """Name the GPU, or the processor with what it can do with bfloat16."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model, found = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        found = Path("/proc/cpuinfo").read_text()
    name = re.search(r"^model name\s*: (.+)", found, re.MULTILINE)
    # x86 says avx512_bf16 and amx_bf16, ARM bf16.
    able = sorted(set(re.findall(r"\b(?:\w+_)?bf16\b", found)))
    return " ".join([name[1] if name else model, *able])


def device_name(device: torch.device) -> str:
    """Name the hardware: the GPU's name, or the processor with the threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"cpu ({platform.machine()}, {threads} thread{'s' if threads > 1 else ''})"
