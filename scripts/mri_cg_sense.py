"""Reconstruct by CG-SENSE, with the measurements that aseqdip_mri.py makes of the same flags.

    min_x ||A x - y||^2 + lambda ||x||^2    (sigpy.mri.app.SenseRecon, 100 iterations)

lambda is the best of a grid on the embedded sample at the same acceleration, whatever the data:
so it is tuned on other data than --data, and on the truth itself where --data is absent.

    python scripts/mri_cg_sense.py --data brain_full.npy --accel 4
"""

import sys
from pathlib import Path

import sigpy.mri
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aseqdip_mri import Args, build_problem  # noqa: E402  (the root is on the path only now)
from utils import mri_data  # noqa: E402
from utils.cli import exit_status, parse_args, require  # noqa: E402
from utils.metrics import magnitude_metrics  # noqa: E402

LAMBDAS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def score(args: Args, path: Path | None, lambdas: tuple[float, ...]) -> dict[float, dict]:
    """Return the figures for each lambda, in measurements scaled to max|A^H y| = 1."""
    scan = mri_data.load_scan(path, args.slice if path else None)
    y, A, x_true, _ = build_problem(args, scan, None, torch.device("cpu"))
    scale = 1 / A.adjoint(y).abs().max()
    scores = {}
    for lamda in lambdas:
        app = sigpy.mri.app.SenseRecon(
            (scale * y)[0].numpy(), A.sens_maps.numpy(), lamda, weights=A.mask.float().numpy(),
            max_iter=100, show_pbar=False,
        )  # fmt: skip
        x_hat = torch.from_numpy(app.run())[None, None]
        scores[lamda] = magnitude_metrics(x_hat, scale * x_true, A.support)
    return scores


def main(args: Args) -> None:
    require(not args.measured, "--measured: without a truth there is nothing to score")
    require(args.maps is None, "--maps: only ESPIRiT maps are supported here")
    tuning = score(args, None, LAMBDAS)
    for lamda, figures in tuning.items():
        print(f"  embedded sample, lambda {lamda:g}: {figures['psnr']:.2f} dB")
    best = max(tuning, key=lambda lamda: tuning[lamda]["psnr"])
    figures = tuning[best] if args.data is None else score(args, args.data, (best,))[best]
    print(
        f"CG-SENSE, lambda {best:g}: PSNR {figures['psnr']:.2f} dB, SSIM {figures['ssim']:.4f}, "
        f"NMSE {figures['nmse']:.5f}"
    )


if __name__ == "__main__":
    arguments = parse_args(Args, {}, description=__doc__)
    sys.exit(exit_status(lambda: main(arguments)))
