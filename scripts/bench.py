"""Time a task: updates and outer steps in each mode, operators, set-up, logging, memory.

    python -m scripts.bench mri                                  the embedded sample
    python -m scripts.bench ct --size 512 --rounds 5
    python -m scripts.bench mri --against Aseq_DIP               beside the public code
    python -m scripts.bench radon --views 18                     the Radon transform alone

An outer step is N updates and the input update, without log; its time is given for each of its
updates. Modes take turns, round after round, in one process; a time is the median of the rounds,
with the quartiles beside it, each of as many repetitions as fill --seconds. With --against DIR, a
checkout of the authors' repository, its loop takes turns with ours (public_loop.py); for CT also
its Radon transform.

The roofline: the floating-point operations of the convolutions of an outer step, counted by
PyTorch while it runs, over its time; as a share of the rate that a large matrix product reaches in
the same precision on the same device, and of the published peak where the GPU's is known.

`radon` times the Radon transform with its backward on the CPU, against rotation of the image by
grid_sample on the same points: with grids that are kept, as public code mostly has them, and with
grids that are made at each call.
"""

import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from models.upsampling import upsample
from operators.base import Operator
from operators.radon import Radon, equispaced_angles
from scripts.public_loop import public_loop, public_radon
from scripts.tasks import SCRIPTS, build, size_field
from utils.callback import Callback
from utils.cli import RunArgs, set_up_device
from utils.errors import exit_status, require
from utils.flags import cli
from utils.folder import ROOT, RunFolder, git_state
from utils.graphs import WARM_UP, Graphed
from utils.loop import Loop
from utils.optim import Output
from utils.problem import Problem
from utils.processor import device_name
from utils.tables import markdown_table


@dataclass
class Args:
    task: tyro.conf.Positional[Literal[(*SCRIPTS, "radon")]]  # what is timed
    data: Path | None = None  # as the task's script takes it
    size: int | None = None  # side of the images; of radon 512
    width: int = 64  # channels of the U-Net
    device: str = "auto"  # auto, cpu, cuda or cuda:INDEX
    threads: int | None = None  # of PyTorch on a CPU; of radon 1
    rounds: int = 9  # turns of each mode
    seconds: float = 0.5  # a turn lasts at least so long
    logged: int | None = None  # outer steps of a logged run, on a CPU 100
    steps_only: bool = False  # leave out set-up, log and checkpoints
    no_graphs: bool = False  # launch each kernel on its own
    against: Path | None = None  # checkout of the authors' Aseq_DIP
    views: int = 30  # of radon, over half a turn
    out: Path = Path("results/bench")  # folder of the figures, TASK.json


# Dense, without sparsity, from the vendor's data sheets: TFLOP/s.
PEAKS = {
    "H100 80GB HBM3": {"fp32": 66.9, "tf32": 494.7, "bf16": 989.4},
    "H200": {"fp32": 66.9, "tf32": 494.7, "bf16": 989.4},
    "A100": {"fp32": 19.5, "tf32": 156.0, "bf16": 312.0},
}
TIMED = (
    "outer step, for each update", "update", "operator", "Radon", "backward of upsampling"
)  # fmt: skip
# What an update is made of: words in the names of PyTorch's operations, the first that fits.
GROUPS = {
    "convolution": ("conv",),
    "BatchNorm": ("batch_norm",),
    "ReLU": ("relu", "threshold", "clamp_min"),
    "upsampling": ("upsample", "addcmul"),
    "max pooling": ("max_pool",),
    "Adam": ("adam",),
    "copies and casts": ("copy",),
    "all else": ("",),
}


class Parts(Callback):
    """Take from a script's aseqdip its network, its update and z_0, and end it there."""

    class Taken(Exception):
        """The parts are there."""

    def start(self, z0: Tensor | None = None, **state: Any) -> Tensor:
        self.z0, self.net, self.update = z0, state["net"], state["update"]
        raise self.Taken


def parts_of(script: Any, args: Any, y: Tensor, A: Operator) -> Parts:
    """Return what a script's aseqdip takes its steps with."""
    parts = Parts()
    with suppress(Parts.Taken):
        script.aseqdip(args, y, A, parts)
    return parts


class Mode:
    """One way to run a task's outer step.

    Args:
        script, args, y, A: the task, with args.precision.
        graph: replay CUDA graphs.
        first: channels first in memory, whatever the script would choose.
    """

    def __init__(
        self, script: Any, args: Any, y: Tensor, A: Operator, graph: bool, first: bool = False
    ) -> None:
        parts = parts_of(script, args, y, A)
        if first:
            parts.net.to(memory_format=torch.contiguous_format)
        self.N, self.graph, self.precision = args.N, graph, args.precision
        self.z, self.update_of = parts.z0, parts.update
        self.output = Output(parts.net)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Set what is PyTorch's and not the network's."""
        Graphed.enabled = self.graph and not Graphed.failed  # one failure is enough
        torch.backends.cudnn.conv.fp32_precision = "tf32" if self.precision == "tf32" else "ieee"
        yield

    def update(self) -> None:
        """Take one update."""
        with self.on():
            self.update_of(self.z)

    def outer(self) -> None:
        """Take one outer step."""
        with self.on():
            for _ in range(self.N):
                self.update_of(self.z)
            self.z = self.output(self.z)


def maximum_resident() -> int:
    """Return the most memory that this process has held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def race(
    work: dict[str, Callable[[], object]], device: torch.device, rounds: int, seconds: float
) -> dict[str, dict[str, float]]:
    """Time functions in turns.

    Returns:
        For each the median, and the quartiles, in seconds.
    """
    repeats = {}
    for name, function in work.items():
        for _ in range(WARM_UP + 1):  # the last captures the graph
            function()
        wait(device)
        begun = time.perf_counter()
        function()
        wait(device)
        repeats[name] = max(1, round(seconds / (time.perf_counter() - begun)))
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in tqdm(range(rounds), desc="rounds", mininterval=5):
        for name, function in work.items():
            wait(device)
            begun = time.perf_counter()
            for _ in range(repeats[name]):
                function()
            wait(device)
            times[name].append((time.perf_counter() - begun) / repeats[name])
    return {
        name: dict(zip(("low", "median", "high"), _quartiles(found)))
        for name, found in times.items()
    }


def _quartiles(found: list[float]) -> list[float]:
    return statistics.quantiles(found, n=4, method="inclusive") if len(found) > 1 else 3 * found


def operators(problem: Problem) -> dict[str, Callable[[], object]]:
    """Return A, A^H and A with its backward as functions to time."""
    y, A = problem.y, problem.A
    x = A.pinv(y).clone().requires_grad_()
    v = torch.ones_like(y)

    def forward() -> None:
        with torch.no_grad():
            A(x)

    work = {
        "forward": forward,
        "forward and backward": lambda: torch.autograd.grad(A(x), x, v),
    }
    if hasattr(A, "adjoint"):
        work["adjoint"] = lambda: A.adjoint(y)
    return work


def upsampling(device: torch.device) -> dict[str, Callable[[], object]]:
    """Return the backward of upsampling 128 channels to 128x128, ours and PyTorch's, to time.

    The gradient is what a concatenation hands back: a slice of the channels.
    """
    work = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(1, 128, 64, 64, device=device, dtype=dtype, requires_grad=True)
        x = x.to(memory_format=torch.channels_last)
        for name, form in (
            ("ours", lambda x: upsample(x, True)),
            ("PyTorch's", lambda x: F.interpolate(
                x, scale_factor=2, mode="bilinear", align_corners=True)),
        ):  # fmt: skip
            made = form(x)
            v = torch.cat((made, made), dim=1).detach()[:, 128:]
            work[f"{name}, {str(dtype).removeprefix('torch.')}"] = functools.partial(
                torch.autograd.grad, made, x, v, retain_graph=True
            )
    return work


def shares(mode: Mode, device: torch.device) -> dict[str, float]:
    """Return which share of an update's time each of GROUPS takes, without CUDA graphs."""
    with torch.profiler.profile() as profile:
        for _ in range(3):
            mode.update()
        wait(device)
    kind = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    times = dict.fromkeys(GROUPS, 0.0)
    for event in profile.key_averages():
        name = event.key.lower()
        group = next(g for g, words in GROUPS.items() if any(word in name for word in words))
        times[group] += getattr(event, kind)
    whole = sum(times.values())
    return {group: t / whole for group, t in times.items()}


class TimedLoop(Loop):
    """Time what the loop does beside the steps: log and checkpoints.

    The device is waited for before and after each record, so nothing of it is hidden. The first
    steps, with their warm-up and capture, do not count.
    """

    spent = begun = 0.0

    def record(self, k: int, x: Tensor, terms: dict[str, Tensor]) -> None:
        wait(self.device)
        before = time.perf_counter()
        super().record(k, x, terms)
        wait(self.device)
        if k == WARM_UP + 2:
            self.begun = time.perf_counter()
        elif k > WARM_UP + 2:
            self.spent += time.perf_counter() - before


def logging_share(script: Any, args: Any, problem: Problem, K: int) -> float:
    """Return the share of a run's time that goes into log and checkpoints, the last one included."""
    y, A = problem.y, problem.A
    with tempfile.TemporaryDirectory() as out:
        args = replace(args, out=Path(out), K=K)
        folder = RunFolder(args, "bench", "aseqdip", "item", ())
        loop = TimedLoop(folder, args, problem.score, y, A, inner=args.N)
        script.aseqdip(args, y, A, loop)
        return loop.spent / (time.perf_counter() - loop.begun)


# Runs the script that it is given and ends after the first update.
FIRST_UPDATE = """
import os, runpy, sys
import torch
import utils.optim

update = utils.optim.Update.__call__

def first(self, z):
    update(self, z)
    if z.is_cuda:
        torch.cuda.synchronize()
    os._exit(0)

utils.optim.Update.__call__ = first
sys.argv = sys.argv[1:]
sys.exit(runpy.run_path(sys.argv[0], run_name="__main__"))
"""


def setup_times(task: str, options: Args) -> dict[str, float]:
    """Time from the start of Python to the end of the first update, without and with caches."""
    command = [
        sys.executable, "-c", FIRST_UPDATE, str(ROOT / f"aseqdip_{task}.py"), "--device",
        options.device, "--width", str(options.width), "--fresh",
    ]  # fmt: skip
    if options.data is not None:
        command += ["--data", str(options.data.resolve())]
    if options.size is not None:
        command += [f"--{size_field(task)}", str(options.size)]
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("without caches", "with caches"):
            begun = time.perf_counter()
            done = subprocess.run(
                [*command, "--out", folder], capture_output=True, text=True, cwd=ROOT
            )
            seconds[name] = time.perf_counter() - begun
            require(done.returncode == 0, done.stderr.strip())
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import aseqdip_{task}"], cwd=ROOT, check=True)
    seconds["imports alone"] = time.perf_counter() - begun
    return seconds


def matmul_rate(device: torch.device, precision: str) -> float:
    """Measure the TFLOP/s of a large matrix product."""
    n = 8192 if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    draw = torch.Generator(device).manual_seed(0)
    a = torch.randn(n, n, device=device, dtype=dtype, generator=draw)
    torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    found = race({"product": lambda: a @ a}, device, rounds=3, seconds=0.2)
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    return 2 * n**3 / found["product"]["median"] / 1e12


def bench(options: Args) -> None:
    """Time a task, print the tables and write them to OUT/TASK.json."""
    task, script = options.task, SCRIPTS[options.task]
    if options.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # so that set_up_device keeps it
        torch.set_num_threads(options.threads)
    device = set_up_device(RunArgs(device=options.device))
    args = script.Args(
        data=options.data, width=options.width, out=options.out, device=str(device),
        **{size_field(task): options.size},
    )  # fmt: skip
    item, problem = build(script, args)
    y, A = problem.y, problem.A

    def mode(precision: str, graph: bool, first: bool = False) -> Mode:
        return Mode(script, replace(args, precision=precision), y, A, graph, first)

    cuda = device.type == "cuda"
    graphs = cuda and not options.no_graphs
    modes = {"fp32": mode("fp32", graph=graphs)}
    with FlopCounterMode(display=False) as counter:
        modes["fp32"].outer()
    flops = counter.get_total_flops()
    for _ in range(WARM_UP + 1):
        modes["fp32"].outer()
    peak = torch.cuda.max_memory_reserved(device) if cuda else maximum_resident()
    modes["bf16"] = mode("bf16", graphs)
    if cuda:
        modes["tf32"] = mode("tf32", graphs)
    else:
        modes["fp32, channels first"] = mode("fp32", False, first=True)
    if graphs:
        modes["fp32, no graph"] = mode("fp32", False)
        modes["bf16, no graph"] = mode("bf16", False)
    public = {}
    if options.against is not None:
        public["public loop"] = public_loop(options.against, task, args, problem)
        if cuda:
            public["public loop, fp32"] = public_loop(options.against, task, args, problem)
            public["public loop, fp32"].precision = "ieee"
    all_modes = modes | public
    timed = dict(device=device, rounds=options.rounds, seconds=options.seconds)
    found: dict[str, Any] = {
        "task": task,
        "item": item.item,
        "shape": list(A.in_shape),
        "measurements": list(A.out_shape),
        "width": options.width,
        "N": args.N,
        "CUDA graphs": graphs,
        "device": device_name(device),
        "torch": torch.__version__,
        **git_state(),
        "outer step, for each update": {
            name: {key: t / all_modes[name].N for key, t in times.items()}
            for name, times in race({n: m.outer for n, m in all_modes.items()}, **timed).items()
        },
        "update": race({n: m.update for n, m in all_modes.items()}, **timed),
        "operator": race(operators(problem), **timed),
        "backward of upsampling": race(upsampling(device), **timed),
        "shares of an update": {
            name: shares(m, device) for name, m in modes.items() if not m.graph
        },
        "flops of an outer step": flops,
        "peak memory, GiB": peak / 2**30,
    }
    require(not Graphed.failed, "no CUDA graph could be made, as said above")
    if options.against is not None and task == "ct":
        theirs = public_radon(options.against, A, problem)
        found["Radon"] = race(
            {"ours": operators(problem)["forward and backward"], "public": theirs}, **timed
        )
    known = next((v for k, v in PEAKS.items() if k in found["device"]), {})
    found["roofline"] = {}
    for name, m in modes.items():
        seconds = args.N * found["outer step, for each update"][name]["median"]
        rate = flops / seconds / 1e12
        found["roofline"][name] = {
            "TFLOP/s": rate,
            "share of a matrix product": rate / matmul_rate(device, m.precision),
            "share of the published peak": rate / known[m.precision] if known else None,
        }
    Graphed.enabled = True
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    if not options.steps_only:
        K = options.logged or (args.K if cuda else 100)
        found["log and checkpoints, share of a run"] = logging_share(script, args, problem, K)
        found["set-up, seconds"] = setup_times(task, options)
    report(found)
    path = options.out / f"{task}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(f"written to {path}")


def print_times(
    part: str, times: dict[str, dict[str, float]], public: dict[str, float] | None = None
) -> None:
    """Print what race gave as a table, beside the public code's times if there are any."""
    head = [part, "median, ms", "quartiles", *(["public / ours"] if public else [])]
    rows = [
        [name, f"{1e3 * t['median']:.2f}", f"{1e3 * t['low']:.2f} to {1e3 * t['high']:.2f}"]
        + ([f"{public['median'] / t['median']:.2f}"] if public else [])
        for name, t in times.items()
    ]
    print("\n" + markdown_table(head, rows), end="")


def report(found: dict[str, Any]) -> None:
    """Print the table."""
    print(
        f"{found['task']}, {found['item']}: {found['shape']} from {found['measurements']}, width "
        f"{found['width']}, on {found['device']}, PyTorch {found['torch']}"
    )
    for part in TIMED:
        if part not in found:
            continue
        times = found[part]
        print_times(part, times, times.get("public loop", times.get("public")))
    parts = found["shares of an update"]
    rows = [[group, *(f"{part[group]:.1%}" for part in parts.values())] for group in GROUPS]
    print("\n" + markdown_table(["share of an update", *parts], rows), end="")
    print(f"\n{found['flops of an outer step'] / 1e9:.1f} GFLOP in an outer step")
    for name, r in found["roofline"].items():
        share = r["share of the published peak"]
        print(
            f"{name}: {r['TFLOP/s']:.3g} TFLOP/s, {r['share of a matrix product']:.0%} of a "
            "matrix product's rate" + ("" if share is None else f", {share:.1%} of the peak")
        )
    print(f"peak memory {found['peak memory, GiB']:.2f} GiB")
    if "set-up, seconds" not in found:
        return
    print(f"log and checkpoints: {found['log and checkpoints, share of a run']:.2%} of a run")
    for name, seconds in found["set-up, seconds"].items():
        print(f"from start to the first update, {name}: {seconds:.1f} s"
              if name != "imports alone" else f"imports: {seconds:.1f} s")  # fmt: skip


def rotation_grid(angle: Tensor, n_det: int) -> Tensor:
    """Return the (1, n_det, n_det, 2) sampling points, turned about pixel n_det//2."""
    # grid_sample turns about the middle of the square, half a pixel off where n_det is even.
    off = (2 * (n_det // 2) - (n_det - 1)) / (n_det - 1)
    cos, sin = angle.cos().float(), angle.sin().float()
    theta = torch.stack([cos, sin, off * (1 - cos - sin), -sin, cos, off * (1 - cos + sin)])
    return F.affine_grid(theta.reshape(1, 2, 3), [1, 1, n_det, n_det], align_corners=True)


def project_by_rotation(x: Tensor, n_det: int, grids: Iterable[Tensor]) -> Tensor:
    """Return the (1, 1, n_angles, n_det) sums along the columns of x, rotated on each grid."""
    before = n_det // 2 - x.shape[-1] // 2
    after = n_det - x.shape[-1] - before
    padded = F.pad(x, (before, after, before, after))
    rotated = (F.grid_sample(padded, grid, align_corners=True) for grid in grids)
    return torch.stack([image.sum(dim=2) for image in rotated], dim=2)


def radon(options: Args) -> None:
    """Time the Radon transform and its backward against rotation, on the CPU; print the table."""
    torch.set_num_threads(options.threads or 1)
    angles, side = equispaced_angles(options.views), options.size or 512
    begun = time.perf_counter()
    A = Radon((side, side), angles)
    seconds = time.perf_counter() - begun
    n_det = A.out_shape[-1]
    kept = [rotation_grid(angle, n_det) for angle in angles]
    ways = {
        "Radon": A,
        "rotation, grids kept": lambda x: project_by_rotation(x, n_det, kept),
        "rotation": lambda x: project_by_rotation(x, n_det, (rotation_grid(a, n_det) for a in angles)),
    }  # fmt: skip
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(1, *A.in_shape, generator=rng).requires_grad_()
    v = torch.rand(1, *A.out_shape, generator=rng)
    y, *others = (project(x).detach() for project in ways.values())
    difference = max((y - other).abs().max() / other.abs().max() for other in others)
    require(difference < 1e-4, f"the sinograms differ by {difference:.1e} of the largest value")
    work = {name: lambda way=way: torch.autograd.grad(way(x), x, v) for name, way in ways.items()}
    times = race(work, x.device, options.rounds, options.seconds)
    print(f"{side}x{side}, {options.views} views, {n_det} bins, threads: {torch.get_num_threads()}")
    print_times("forward and backward", times)
    print(
        f"\nRadon: built in {seconds:.2f} s, {sum(b.nbytes for b in A.buffers()) / 1e6:.0f} MB; "
        f"grids kept: {sum(grid.nbytes for grid in kept) / 1e6:.0f} MB\n"
        f"largest difference of the sinograms: {difference:.1e} of the largest value"
    )


def check(options: Args) -> None:
    """Raise InputError for a number that cannot be."""
    for name in ("size", "width", "threads", "rounds", "logged", "views"):
        value = getattr(options, name)
        require(value is None or value >= 1, f"--{name} {value}: expected at least 1")


def run(options: Args) -> None:
    """Time what was asked for."""
    check(options)
    (radon if options.task == "radon" else bench)(options)


def main() -> int:
    options = cli(Args, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    return exit_status(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
