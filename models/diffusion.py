"""Learned priors: frozen diffusion networks, all seen in one form."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.adm import ADM, architecture
from models.ncsnpp import NCSNpp
from utils.errors import InputError, require
from utils.files import DAMAGED, file_hash, load_torch, reason

KIND = "aSeqDIP prior 1"  # of the files that prior_train.py writes
VP_STEPS = 1000
VE_STEPS, VE_LOWEST, VE_HIGHEST = 2000, 0.01, 378.0


def vp_levels() -> tuple[Tensor, Tensor]:
    """Return sigma and scale, (1000,) float64 each, of the linear schedule of DDPM.

        beta = 1e-4, ..., 2e-2,    abar_t = prod_{s <= t} (1 - beta_s)
        sigma = sqrt((1 - abar) / abar),    scale = sqrt(abar)

    Reference:
        Ho et al., DDPM, NeurIPS 2020, section 4; OpenAI's networks, DPS and DDS have it too.
    """
    beta = torch.linspace(1e-4, 2e-2, VP_STEPS, dtype=torch.float64)
    abar = torch.cumprod(1 - beta, dim=0)
    return ((1 - abar) / abar).sqrt(), abar.sqrt()


def ve_levels() -> tuple[Tensor, Tensor]:
    """Return sigma and scale, (2000,) float64 each, of a geometric schedule from 0.01 to 378.

    Reference:
        Song et al., Score-based generative modeling through stochastic differential equations,
        ICLR 2021, appendix C; the ends are those of the public code of Score-MRI and MCG.
    """
    ends = (math.log10(level) for level in (VE_LOWEST, VE_HIGHEST))
    sigma = torch.logspace(*ends, VE_STEPS, dtype=torch.float64)
    return sigma, torch.ones_like(sigma)


SCHEDULES = {"vp": vp_levels, "ve": ve_levels}


class Preconditioned(nn.Module):
    """Let a network predict the noise well at every level, whatever the scale of the images is.

    With x = x_t / scale, r^2 = sigma^2 + s^2 and the network F,

        eps_hat = (sigma x / r - s F(x / r, t)) / r

    F's input and its target have variance 1. Where there is hardly any noise, F predicts it;
    where there is hardly anything else, F predicts the image.

    Args:
        net: F, ADM.
        sigma, scale: (steps,), as in Prior.
        data_std: s, root mean square of the training images.

    Reference:
        Karras et al., NeurIPS 2022, eq. (7) and table 1, solved for the noise.
    """

    def __init__(self, net: nn.Module, sigma: Tensor, scale: Tensor, data_std: float) -> None:
        super().__init__()
        self.net, self.data_std = net, data_std
        self.in_channels = net.in_channels
        self.register_buffer("sigma", sigma.float(), persistent=False)
        self.register_buffer("scale", scale.float(), persistent=False)

    def spread(self, t: Tensor) -> Tensor:
        """Return r, (B, 1, 1, 1), of noise levels (B,)."""
        return (self.sigma[t] ** 2 + self.data_std**2).sqrt()[:, None, None, None]

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Predict the noise in x_t (B, C, H, W) at the levels t (B,)."""
        r = self.spread(t)
        x = x_t / self.scale[t][:, None, None, None] / r
        return (self.sigma[t][:, None, None, None] * x - self.data_std * self.net(x, t)) / r


# Public files of ADM's U-Net, by their number of parameters: name, size, low, high.
PUBLIC = {
    93_563_910: ("FFHQ", 256, -1.0, 1.0),
    552_814_086: ("ImageNet", 256, -1.0, 1.0),
    374_022_658: ("AAPM CT", 256, 0.0, 1.0),
    361_428_228: ("fastMRI knee", 320, 0.0, 1.0),
}
# Score-MRI's weights (320 pixels) and MCG's have the same names and shapes; the smaller size.
NCSNPP_SIZE = 256


class Prior(nn.Module):
    """A frozen diffusion network and its noise levels.

    Variance-preserving (VP) and variance-exploding (VE) networks have one form,

        x = x_0 + sigma[t] eps,    eps ~ N(0, I),    t = 0, ..., steps - 1

    the coordinates of k-diffusion. The network cannot be trained, but it can be differentiated
    with respect to x.

    Args:
        net: (x_t, t) -> (B, channels or 2 channels, H, W), with x_t = scale[t] x and t integer
            (B,). The first channels predict eps; the others, if there are any, are the v in
            [-1, 1] of a learned variance.
        sigma: (steps,) float64, ascending. VP: sqrt((1 - abar) / abar). VE: geometric.
        scale: (steps,) float64. VP: sqrt(abar). VE: 1.
        channels: 1 (grey, CT), 2 (real and imaginary part) or 3 (RGB).
        size: side in pixels of the images that it was trained on.
        multiple: both sides of an image must be multiples of it.
        low, high: range of the images that it was trained on, (0, 1) or (-1, 1); of complex ones
            (0, 1) is the magnitude's.
        facts: what config.json is to hold: name of the network, parameters, the file's name and
            its SHA-256; of one of ours also the images that it learned from, `items`.
        tiled: it learned from crops, so it sees a larger image in tiles of `size`, which overlap.
            A network that learned from whole images takes an image whole.

    Attributes:
        steps: number of noise levels.

    Reference:
        Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS
        2022, appendix C, writes VP and VE in these coordinates; VP networks are those of Ho et
        al., DDPM, NeurIPS 2020.
    """

    def __init__(
        self,
        net: nn.Module,
        sigma: Tensor,
        scale: Tensor,
        channels: int,
        size: int,
        multiple: int,
        low: float,
        high: float,
        facts: dict[str, Any],
        tiled: bool = False,
    ) -> None:
        super().__init__()
        if sigma.shape != scale.shape or not bool((sigma.diff() > 0).all() and sigma[0] > 0):
            raise ValueError("a prior's noise levels ascend from above 0, with a scale for each")
        self.net = net.requires_grad_(False).eval()
        # No buffers: they stay on the CPU in float64, and reading one never waits for a GPU.
        self.sigma, self.scale = sigma, scale
        self.channels, self.size, self.multiple = channels, size, multiple
        self.low, self.high, self.facts, self.tiled = low, high, facts, tiled
        self.steps = len(sigma)

    def predict(self, x: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        """Predict the noise.

        Args:
            x: (B, channels, H, W) float32, x_0 + sigma[t] eps.
            t: index of the noise level.

        Returns:
            eps_hat, (B, channels, H, W), and v of the same shape, None without learned variance.

        Raises:
            ValueError: x has other channels, or a side that is no multiple of `multiple`.
        """
        sides = x.shape[-2:]
        if x.ndim != 4 or x.shape[1] != self.channels or any(n % self.multiple for n in sides):
            raise ValueError(
                f"the prior takes (B, {self.channels}, H, W) with sides that are multiples of "
                f"{self.multiple}, got {tuple(x.shape)}"
            )
        rows, columns = self.tiles(sides)
        if len(rows) * len(columns) > 1:
            prediction = self._in_tiles(x, t, rows, columns)
        else:
            prediction = self._whole(x, t)
        eps, v = prediction[:, : self.channels], prediction[:, self.channels :]
        return eps, v if v.shape[1] else None

    def tiles(self, sides: tuple[int, int]) -> tuple[list[int], list[int]]:
        """Return the first rows and the first columns of the tiles of an image of (H, W) pixels."""
        if not self.tiled:
            return [0], [0]
        rows, columns = (starts(side, self.size) for side in sides)
        return rows, columns

    def _whole(self, x: Tensor, t: int) -> Tensor:
        index = torch.full((len(x),), t, device=x.device)
        return self.net(self.scale[t].item() * x, index)

    def _in_tiles(self, x: Tensor, t: int, rows: list[int], columns: list[int]) -> Tensor:
        """Predict each tile by itself, in one batch, and take their mean, weighted by a window."""
        height, width = (min(side, self.size) for side in x.shape[-2:])
        parts = [
            (..., slice(top, top + height), slice(left, left + width))
            for top in rows
            for left in columns
        ]
        predictions = self._whole(torch.cat([x[part] for part in parts]), t).split(len(x))
        window = (hann(height)[:, None] * hann(width)).to(x)
        total = x.new_zeros(*predictions[0].shape[:2], *x.shape[-2:])
        weight = x.new_zeros(x.shape[-2:])
        for part, prediction in zip(parts, predictions, strict=True):
            total[part] += window * prediction
            weight[part[1:]] += window
        return total / weight

    def eps(self, x: Tensor, t: int) -> Tensor:
        """Predict the noise, (B, channels, H, W). Arguments as in predict."""
        return self.predict(x, t)[0]

    def x0(self, x: Tensor, t: int) -> Tensor:
        """Predict the image, E[x_0 | x] = x - sigma[t] eps_hat. Arguments as in predict."""
        return x - self.sigma[t].item() * self.eps(x, t)

    @property
    def exploding(self) -> bool:
        """Whether the network takes noisy images as they are, not shrunk: VE."""
        return bool((self.scale == 1).all())

    def description(self) -> str:
        """Return a line that says what the network is."""
        kind = "VE" if self.exploding else "VP"
        images = {1: "grey", 2: "complex", 3: "RGB"}.get(self.channels, f"{self.channels}-channel")
        return (
            f"{self.facts['file']}: {self.facts['network']}, {self.facts['n_params']:,} parameters, "
            f"{images} images of {self.size}x{self.size} in [{self.low:g}, {self.high:g}], predicts "
            f"{self.facts['predicts']}, {kind}, {self.steps} steps of sigma "
            f"{self.sigma[0].item():.3g} to {self.sigma[-1].item():.3g}"
        )


def starts(side: int, size: int) -> list[int]:
    """Return the first pixels of parts of a side, evenly spread, that overlap by a quarter or more.

    Args:
        side: in pixels.
        size: of a part; a shorter side is one part.
    """
    room = max(side - size, 0)
    gaps = math.ceil(room / (size - size // 4))
    return [0] if gaps == 0 else [room * i // gaps for i in range(gaps + 1)]


def hann(n: int) -> Tensor:
    """Return Hann's window without its zeros, (n,): sin^2(pi (i + 1/2) / n)."""
    return torch.sin(math.pi * (torch.arange(n) + 0.5) / n) ** 2


def load_prior(path: Path) -> Prior:
    """Read a diffusion network, whichever it is; nothing in the file is executed.

    It is one of prior_train.py, or a public one that is told by the names and shapes of its
    weights: ADM's of FFHQ (DPS), ImageNet (OpenAI), AAPM CT or fastMRI knee (DDS); NCSN++ of
    Score-MRI or MCG, whose averaged weights are taken.

    Args:
        path: the file.

    Returns:
        The prior, on the CPU in float32. `utils.precision.place` moves its `net` and makes it
        quicker.

    Raises:
        InputError: the file is missing, damaged or unsafe, or another network.
    """
    require(path.exists(), f"{path}: no such file; give --prior the weights of a diffusion network")
    require(path.is_file(), f"{path}: expected a file of weights, got a folder")
    try:
        saved = load_torch(path)
        if not isinstance(saved, dict):
            raise ValueError(f"expected a dict of weights, got {type(saved).__name__}")
        if saved.get("kind") == KIND:
            return _own(saved, _file_facts(path))
        if "ema" in saved:
            return _ncsnpp(saved, _file_facts(path))
        return _public_adm(saved, _file_facts(path))
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path}: you may not read it; change its permissions") from error
    except (*DAMAGED, MemoryError) as error:
        raise InputError(
            f"{path}: no diffusion network that is known here, damaged, or more than weights "
            f"({reason(error)}); docs/priors.md lists those that are"
        ) from error


def _file_facts(path: Path) -> dict[str, Any]:
    return {"file": path.name, "sha256": file_hash(path)}


def _adm(state: Mapping[str, Tensor]) -> ADM:
    """Build the U-Net that a file's weights are of, with these weights."""
    if "label_emb.weight" in state:
        raise ValueError("a class-conditional network")
    if "input_blocks.0.0.weight" not in state:
        raise ValueError("it lacks `input_blocks.0.0.weight`")
    settings = architecture(state)
    with torch.device("meta"):  # no memory for weights that are replaced
        net = ADM(**settings)
    _fill(net, state)
    return net


def _fill(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a network all its weights, or raise ValueError."""
    wanted = net.state_dict()
    lacking, further = (sorted(a.keys() - b.keys()) for a, b in ((wanted, state), (state, wanted)))
    if lacking or further:
        what, names = ("lacks", lacking) if lacking else ("also has", further)
        raise ValueError(f"it {what} {len(names)} weights, such as `{names[0]}`")
    for name, weight in wanted.items():
        if state[name].shape != weight.shape:
            raise ValueError(
                f"`{name}` is {tuple(state[name].shape)}, expected {tuple(weight.shape)}"
            )
    wide = (torch.float32, torch.float64)
    state = {name: w if w.dtype in wide else w.float() for name, w in state.items()}
    net.load_state_dict(state, assign=True)


def _n_params(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _public_adm(state: dict[str, Any], facts: dict[str, Any]) -> Prior:
    net = _adm(state)
    n_params = _n_params(net)
    if n_params not in PUBLIC:
        raise ValueError(f"an ADM U-Net of {n_params:,} parameters, which no public file has")
    name, size, low, high = PUBLIC[n_params]
    facts |= {
        "network": f"ADM, {name}", "n_params": n_params, "predicts": "noise and its variance",
    }  # fmt: skip
    return Prior(net, *vp_levels(), net.in_channels, size, net.multiple, low, high, facts)


def _own(saved: dict[str, Any], facts: dict[str, Any]) -> Prior:
    net = _adm(saved["state"])
    sigma, scale, size = saved["sigma"], saved["scale"], saved["size"]
    if size < 1 or size % net.multiple:
        raise ValueError(f"crops of {size} pixels, expected a multiple of {net.multiple}")
    items = saved["items"]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError("expected the facts of each image that it learned from in `items`")
    facts |= {
        "network": f"small ADM of prior_train.py, {saved['task']}",
        "n_params": _n_params(net),
        "predicts": "noise",
        "items": items,
    }
    return Prior(
        Preconditioned(net, sigma, scale, saved["data_std"]), sigma, scale, net.in_channels,
        size, net.multiple, saved["low"], saved["high"], facts, tiled=True,
    )  # fmt: skip


def _ncsnpp(saved: dict[str, Any], facts: dict[str, Any]) -> Prior:
    """Build NCSN++: the weights by name, then their averages in the order of the parameters."""
    state = {name.removeprefix("module."): weight for name, weight in saved["model"].items()}
    sigmas, first = state["sigmas"].double(), state["all_modules.3.weight"]
    with torch.device("meta"):
        net = NCSNpp(channels=first.shape[1], width=first.shape[0], sigmas=sigmas)
    trained = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    averages = saved["ema"]["shadow_params"]
    if len(averages) != len(trained):
        raise ValueError(f"expected {len(trained)} averaged weights, got {len(averages)}")
    _fill(net, state | {"sigmas": sigmas} | dict(zip(trained, averages)))
    levels = sigmas.flip(0)
    facts |= {
        "network": "NCSN++, Score-MRI or MCG", "n_params": _n_params(net), "predicts": "noise",
    }  # fmt: skip
    return Prior(
        net, levels, torch.ones_like(levels), net.in_channels, NCSNPP_SIZE, net.multiple,
        0.0, 1.0, facts,
    )  # fmt: skip
