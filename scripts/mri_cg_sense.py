"""Reconstruct by CG-SENSE, with the measurements that aseqdip_mri.py makes of the same flags.

    min_x ||A x - y||^2 + lambda ||x||^2    (baselines/cg_sense.py)

lambda is the best of a grid on the embedded sample at the same acceleration, whatever the data:
so it is tuned on other data than --data. The best lambda for the data themselves is printed as
`oracle`: it looks at the truth. Without --data the two are the same, and an oracle.

    python scripts/mri_cg_sense.py --data brain_full.npy --accel 4
"""

import sys
from pathlib import Path

import torch

# Run from anywhere: the repository's modules can be imported only after this.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aseqdip_mri import Args, build_problem
from baselines.cg_sense import cg_sense
from utils import mri_data
from utils.cli import parse_args
from utils.errors import exit_status, require

LAMBDAS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def score(args: Args, path: Path | None) -> dict[float, dict[str, float]]:
    """Return the figures for each lambda, in measurements scaled to max|A^H y| = 1."""
    scan = mri_data.load_scan(path, args.slice if path else None)
    problem = build_problem(args, scan, None, torch.device("cpu"))
    return {
        lambda_l2: problem.score(cg_sense(problem.y, problem.A, lambda_l2=lambda_l2))
        for lambda_l2 in LAMBDAS
    }


def report(name: str, lambda_l2: float, figures: dict[str, float]) -> None:
    print(
        f"{name}, lambda {lambda_l2:g}: PSNR {figures['psnr']:.2f} dB, SSIM {figures['ssim']:.4f}, "
        f"NMSE {figures['nmse']:.5f}"
    )


def main(args: Args) -> None:
    require(not args.measured, "--measured: without a truth there is nothing to score")
    require(args.maps is None, "--maps: only ESPIRiT maps are supported here")
    sample = score(args, None)
    best = max(LAMBDAS, key=lambda value: sample[value]["psnr"])
    report("embedded sample, oracle", best, sample[best])
    if args.data is not None:
        data = score(args, args.data)
        report("CG-SENSE", best, data[best])
        oracle = max(LAMBDAS, key=lambda value: data[value]["psnr"])
        report("CG-SENSE, oracle", oracle, data[oracle])


if __name__ == "__main__":
    arguments = parse_args(Args, {}, {}, description=__doc__)
    sys.exit(exit_status(lambda: main(arguments)))
