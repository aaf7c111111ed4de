"""The loop of the authors' public scripts, with the network and the operators of their checkout.

What is timed is what those scripts do in each step, whether it is needed or not, but for pictures
and text; of their code nothing stands here. The denoising script takes a smaller network than the
MRI and CT scripts; here all have the latter, which is aSeqDIP's. They leave PyTorch's defaults,
which on a GPU are TF32 convolutions. https://github.com/sjames40/Aseq_DIP, as of June 2026.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from operators.radon import Radon
from utils.errors import require
from utils.problem import Problem

UPDATES = {"mri": 10, "ct": 10, "denoising": 2}  # in an outer step of theirs


class PublicLoop:
    """One outer step of the public script: N updates, the next input, PSNR on the host.

    Args:
        task: which script.
        net: their network.
        lr: learning rate.
        z: z_0 in the network's channels.
        loss: maps z and f(z) to the loss, and to whatever the next z is made of.
        next_z: makes it.
        truth: as their PSNR takes it; None for no PSNR.
        magnitude: the image of f(z) whose PSNR is taken.
    """

    def __init__(
        self,
        task: str,
        net: torch.nn.Module,
        lr: float,
        z: Tensor,
        loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        next_z: Callable[[Tensor], Tensor],
        truth: np.ndarray,
        magnitude: Callable[[Tensor], np.ndarray],
    ) -> None:
        self.net, self.N, self.z = net, UPDATES[task], z
        self.autotuned = task == "denoising"
        self.precision = "tf32"
        self.loss, self.next_z, self.truth, self.magnitude = loss, next_z, truth, magnitude
        self.adam = torch.optim.Adam(net.parameters(), lr)

    def update(self) -> tuple[Tensor, Tensor, Tensor]:
        """Take one update."""
        torch.backends.cudnn.conv.fp32_precision = self.precision
        torch.backends.cudnn.benchmark = self.autotuned
        self.adam.zero_grad()
        x = self.net(self.z)
        loss, made = self.loss(self.z, x)
        loss.backward()
        self.adam.step()
        return x, loss, made

    def outer(self) -> None:
        """Take one outer step with its figures."""
        for _ in range(self.N):
            x, loss, made = self.update()
        self.z = self.next_z(made.detach())
        with torch.no_grad():
            peak_signal_noise_ratio(self.truth, self.magnitude(x.detach()), data_range=1.0)
            loss.item()
        torch.backends.cudnn.benchmark = False


def checkout(folder: Path) -> None:
    """Make the modules of a checkout importable.

    Raises:
        InputError: it is none.
    """
    for name in ("unet/medium_unet.py", "physics/radon/radon.py"):
        require(
            (folder / name).is_file(),
            f"--against {folder}: has no {name}; expected a checkout of the authors' Aseq_DIP",
        )
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # behind ours: both have a folder `models`


def public_loop(folder: Path, task: str, args: Any, problem: Problem) -> PublicLoop:
    """Build the public script's loop for a problem, with a network of aSeqDIP's size in width 64.

    Raises:
        InputError: there is no public loop of this task with this network, or no checkout.
    """
    require(
        task in UPDATES,
        f"--against: there is no loop to compare for {task}, only for {', '.join(UPDATES)}",
    )
    require(args.width == 64 and args.depth == 3, "--against: their network has --width 64")
    checkout(folder)
    from unet import MediumUNet

    y, A, x_true = problem.y, problem.A, problem.x_true
    channels = 2 if task == "mri" else y.shape[1]
    net = MediumUNet(n_channels=channels, n_classes=channels).to(y.device)
    if task == "denoising":

        def loss(z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            mse = torch.nn.functional.mse_loss
            return mse(x, y) + mse(z, x), x

        return PublicLoop(
            task, net, args.lr, y, loss, torch.clone, x_true.cpu().numpy(),
            lambda x: x.cpu().numpy(),
        )  # fmt: skip
    if task == "ct":
        radon = public_radon_of(A, y.device)
        sinogram = radon(x_true).detach()

        def loss(z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            return torch.linalg.norm(sinogram - radon(x)) + torch.linalg.norm(z - x), x

        return PublicLoop(
            task, net, args.lr, A.pinv(y), loss, lambda x: x, x_true.cpu().numpy(),
            lambda x: x.cpu().numpy(),
        )  # fmt: skip

    maps, mask = A.sens_maps, A.mask.to(y.dtype)
    kspace = y[0]

    def fourier(x: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.fft.fftshift(transform(torch.fft.ifftshift(x)))  # over the coils, too

    def loss(z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        image = torch.view_as_complex(x.squeeze().permute(1, 2, 0).contiguous())
        predicted = fourier(maps * image, torch.fft.fft2)
        filled = (1 - mask) * predicted.detach() + mask * kspace
        misfit = torch.linalg.norm(mask * kspace - mask * predicted)
        return misfit + torch.linalg.norm(z - image), filled

    def next_z(filled: Tensor) -> Tensor:
        image = (maps.conj() * fourier(filled, torch.fft.ifft2)).sum(dim=0)
        return torch.stack((image.real, image.imag))[None]

    def magnitude(x: Tensor) -> np.ndarray:
        image = A.support * torch.linalg.norm(x[0], dim=0)
        image = image / image.max()
        return image.cpu().numpy() / float(image.max().item())

    truth = x_true[0, 0].abs().cpu().numpy()
    return PublicLoop(
        task, net, args.lr, next_z(kspace), loss, next_z, truth / truth.max(), magnitude
    )


def public_radon_of(A: Radon, device: torch.device) -> torch.nn.Module:
    """Build their Radon transform with the views of ours."""
    from physics.radon import Radon as Rotation

    degrees = np.rad2deg(A.angles.cpu().numpy())
    return Rotation(A.in_shape[-1], degrees, False).to(device)


def public_radon(folder: Path, A: Radon, problem: Problem) -> Callable[[], object]:
    """Return their Radon transform and its backward, to time."""
    checkout(folder)
    radon = public_radon_of(A, problem.y.device)
    x = A.pinv(problem.y).clone().requires_grad_()
    v = torch.ones_like(radon(x))
    return lambda: torch.autograd.grad(radon(x), x, v)
