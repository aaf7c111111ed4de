"""aSeqDIP on an operator of your own; docs/your_own_operator.md walks through it.

python -m docs.your_own_operator
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from models.unet import OffsetNet, UNet
from operators.base import Operator
from utils.image_data import as_array, as_picture, load_picture
from utils.metrics import image_metrics
from utils.optim import Update, sqnorm


class Downsample(Operator):
    """Average blocks of f x f pixels, as a camera with larger pixels does: A x = f mean(block).

    The factor f makes ||A|| = 1.
    """

    def __init__(self, shape: tuple[int, int, int], factor: int) -> None:
        channels, height, width = shape
        super().__init__(shape, (channels, height // factor, width // factor))
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return self.factor * F.avg_pool2d(x, self.factor)

    def adjoint(self, y: Tensor) -> Tensor:
        self.check_measurement(y)
        return F.interpolate(y, scale_factor=self.factor, mode="nearest") / self.factor

    def pinv(self, y: Tensor) -> Tensor:
        return self.adjoint(y)  # exact: A A^T = I


def aseqdip(
    y: Tensor, A: Operator, z0: Tensor, f: nn.Module, *, K: int, N: int, lr: float, lambda_ae: float
) -> Tensor:
    """Run Algorithm 1 and return x_hat = z_K."""

    def objective(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = f(z)
        return x, {"loss": sqnorm(A(x), y) + lambda_ae * sqnorm(x, z)}  # eq. (3)

    update, z = Update(objective, torch.optim.Adam(f.parameters(), lr)), z0
    for k in range(1, K + 1):
        for _ in range(N):
            update(z)
        with torch.no_grad():
            z = f(z)  # eq. (4)
        if k % 10 == 0:
            print(f"step {k * N}, loss {update.terms['loss'].item():.4g}")
    return z


def main(K: int = 50, out: Path = Path("your_own_operator.png")) -> dict[str, float]:
    x_true = torch.from_numpy(load_picture(None, "chelsea", 192).pixels)[None]
    A = Downsample((3, 192, 192), factor=4)
    y = A(x_true)  # yours would come from a file
    z0 = A.pinv(y)
    net = UNet(3, 3, width=16, generator=torch.Generator().manual_seed(0))
    f = OffsetNet(net, z0.mean())  # it puts out this grey at first, not black
    x_hat = aseqdip(y, A, z0, f, K=K, N=10, lr=5e-4, lambda_ae=1.0)
    figures = {"input": z0, "aSeqDIP": x_hat}
    psnr = {name: image_metrics(x, x_true)["psnr"] for name, x in figures.items()}
    print(", ".join(f"{name} {value:.2f} dB" for name, value in psnr.items()))
    shown = np.concatenate([as_picture(as_array(x)) for x in (x_true, *figures.values())], axis=1)
    Image.fromarray(np.rint(255 * shown).astype(np.uint8)).save(out)
    return psnr


if __name__ == "__main__":
    main()
