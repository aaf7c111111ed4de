"""Time the Radon operator against rotation by grid_sample, on the CPU.

    y[angle, bin] = sum_step x(rotated by angle)    (forward), and its vector-Jacobian product

Both interpolate bilinearly, on the same points. The rotation pads the image to its diagonal
and, for each angle, makes a grid (affine_grid), samples the image on it (grid_sample) and sums
the columns; its backward is autograd's. It is timed twice: with grids that are made at each
call, and with grids that are kept, which public code mostly does. All take turns in one
process; a time is the median over the rounds.

    python scripts/bench_radon.py
    python scripts/bench_radon.py --size 256 --views 18 --rounds 21 --threads 4
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

# Run from anywhere: the repository's modules can be imported only after this.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from operators.radon import Radon, equispaced_angles


def rotation_grid(angle: Tensor, n_det: int) -> Tensor:
    """Return the (1, n_det, n_det, 2) sampling points, turned about pixel n_det//2."""
    # grid_sample turns about the middle of the square, half a pixel off where n_det is even.
    off = (2 * (n_det // 2) - (n_det - 1)) / (n_det - 1)
    cos, sin = angle.cos().float(), angle.sin().float()
    theta = torch.stack(
        [cos, sin, off * (1 - cos - sin), -sin, cos, off * (1 - cos + sin)]
    ).reshape(1, 2, 3)
    return F.affine_grid(theta, [1, 1, n_det, n_det], align_corners=True)


def project_by_rotation(x: Tensor, n_det: int, grids: list[Callable[[], Tensor]]) -> Tensor:
    """Return the (1, 1, n_angles, n_det) sums along the columns of x, rotated on each grid."""
    size = x.shape[-1]
    before = n_det // 2 - size // 2
    after = n_det - size - before
    padded = F.pad(x, (before, after, before, after))
    views = [
        F.grid_sample(padded, grid(), padding_mode="zeros", align_corners=True).sum(dim=2)
        for grid in grids
    ]
    return torch.stack(views, dim=2)


def timed(project: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> tuple[float, float]:
    """Return the milliseconds of a forward and of its backward."""
    x = x.clone().requires_grad_()
    start = time.perf_counter()
    y = project(x)
    middle = time.perf_counter()
    y.backward(v)
    return 1000 * (middle - start), 1000 * (time.perf_counter() - middle)


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    angles = equispaced_angles(args.views)
    start = time.perf_counter()
    A = Radon((args.size, args.size), angles)
    setup = time.perf_counter() - start
    n_bytes = sum(buffer.nbytes for buffer in A.buffers())

    n_det = A.out_shape[-1]
    kept = [rotation_grid(angle, n_det) for angle in angles]
    make_grids = [lambda angle=angle: rotation_grid(angle, n_det) for angle in angles]
    kept_grids = [lambda grid=grid: grid for grid in kept]
    methods = {
        "Radon": A,
        "rotation": lambda x: project_by_rotation(x, n_det, make_grids),
        "rotation, grids kept": lambda x: project_by_rotation(x, n_det, kept_grids),
    }
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, *A.in_shape, generator=generator)
    v = torch.rand(1, *A.out_shape, generator=generator)
    y, *expected = [project(x) for project in methods.values()]
    difference = max((y - other).abs().max() / other.abs().max() for other in expected)

    times = {name: [] for name in methods}
    for _ in range(args.rounds):
        for name, project in methods.items():
            times[name].append(timed(project, x, v))
    print(
        f"{args.size} x {args.size}, {args.views} views, {n_det} bins, "
        f"{args.rounds} rounds, threads: {args.threads}"
    )
    radon_median = statistics.median(map(sum, times["Radon"]))
    for name, pairs in times.items():
        forward, backward = map(statistics.median, zip(*pairs, strict=True))
        total = statistics.median(map(sum, pairs))
        print(
            f"{name}: {total:.1f} ms (forward {forward:.1f}, backward {backward:.1f}), "
            f"ratio {total / radon_median:.1f}"
        )
    print(
        f"Radon: set-up {setup:.2f} s, {n_bytes / 1e6:.0f} MB ({len(A.matrix_weights)} non-zeros); "
        f"grids kept: {sum(grid.nbytes for grid in kept) / 1e6:.0f} MB"
    )
    print(f"largest difference of the sinograms: {difference:.1e} of the largest value")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=positive, default=512, help="image side, in pixels")
    parser.add_argument("--views", type=positive, default=30, help="angles over half a turn")
    parser.add_argument("--rounds", type=positive, default=9, help="timings of each method")
    parser.add_argument("--threads", type=positive, default=1, help="threads of torch")
    main(parser.parse_args())
