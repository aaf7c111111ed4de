"""Figure 6 of the paper: what a network with a residual connection makes of three inputs.

A sinusoid x is observed as y = x + n, n ~ N(0, I), and a five-layer residual CNN is fitted to y,

    min_theta 1/2 ||f_theta(z) - y||^2,    f_theta(z) = z + g_theta(z)               (appendix A.2)

by full-batch gradient descent from three fixed inputs: z = x (which only an oracle knows), z = y
and noise z ~ N(0, I). Two closed forms stand beside it, with the empirical neural tangent kernel
Theta = J J^T at initialisation, J the Jacobian of f_theta(z) in theta:

    linearised   f_t = y - (I - beta Theta)^t (y - f_0)                              (12)
    Theorem A.1  f_t = y - (I - beta Theta)^t (y - z)                                (13)

(12) is what the network would do if it stayed linear in its weights. (13) is its mean over the
initial weights, where g is 0 in the mean; of one network it holds as far as g is small.

    python -m scripts.fig6 --quick                 one seed, 3000 iterations
    python -m scripts.fig6 --sensitivity           and what follows from each choice below

The paper gives the length (100), the noise, the layers (filters of 3, 64 channels), the learning
rate 5e-4, and one draw. What it leaves open, and what is taken here:

- initialisation: PyTorch's default, which makes g nearly 0 at the start, so that (13) holds of one
  network. Appendix A.1 states He's for the theorem; with it g is as large as z at the start, (13)
  is off by that much, and the curves do not have the features that A.2 tells of.
- loss: half the sum of squares, the theorem's. With He's initialisation and 5e-4, beta times
  Theta's largest eigenvalue is far above 2: the closed forms grow without bound and the descent
  leaves them at once. `--loss mean` is the same descent with beta 2/100 times as large.
- sinusoid: one period, amplitude 1. With several whole periods windows of z = x repeat, the network
  gives them one output but near the borders, and y cannot be fitted.
- padding: zeros. Iterations: 100000, which the paper needs for the input x; a descent ends before
  where it has fitted y to 1e-4 of the noise's variance.
- draws: noise, noise input and weights of each of --seeds seeds, mean and range shown.

All is float64; the kernel is exact. The errors are against the truth, which the descent does not
see; the lowest error of a descent is an oracle's.
"""

import math
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from scripts.figure_files import (
    kept,
    parse_args,
    save_figure,
    save_notes,
    save_settings,
    save_table,
)
from scripts.report import write_report
from utils.errors import exit_status, require
from utils.figures import DPI
from utils.randomness import stream

N_SAMPLES = 100
N_LAYERS = 5
FILTER = 3
NOISE_VARIANCE = 1.0
FITTED = 0.01  # mean squared misfit to y, of the noise's variance, from where y counts as fitted
DONE = 1e-4  # ... and from where a descent ends
PER_DECADE = 20  # iterations that are recorded
INPUTS = {"x": "the truth x (oracle)", "y": "the measurements y", "noise": "noise"}
COLOURS = {"x": "tab:blue", "y": "tab:orange", "noise": "tab:green"}


@dataclass(frozen=True)
class Setting:
    """The experiment of appendix A.2; see the top of this file for what the paper leaves open."""

    init: Literal["he", "pytorch"] = "pytorch"
    loss: Literal["mean", "half sum"] = "half sum"
    lr: float = 5e-4
    width: int = 64
    periods: float = 1.0
    amplitude: float = 1.0
    padding: Literal["zeros", "circular"] = "zeros"
    iterations: int = 100_000

    @property
    def rate(self) -> float:
        """beta of 1/2 ||f - y||^2, whose gradient in f is f - y; that of the mean is 2/n of it."""
        return self.lr * (2 / N_SAMPLES if self.loss == "mean" else 1)


SHORT = 20_000  # iterations of the settings that are compared with the first
SENSITIVITY = {
    "as above": {},
    "He's initialisation": {"init": "he"},
    "He's, mean of squares": {"init": "he", "loss": "mean"},
    "mean of squares": {"loss": "mean"},
    "128 channels, half the rate": {"width": 128, "lr": 2.5e-4},
    "2 periods": {"periods": 2.0},
    "5 periods": {"periods": 5.0},
    "amplitude 3": {"amplitude": 3.0},
    "circular padding": {"padding": "circular"},
}


@dataclass
class Args:
    seeds: int = 5  # draws
    iterations: int = Setting.iterations  # at most
    init: Literal["he", "pytorch"] = Setting.init  # of the weights
    loss: Literal["mean", "half sum"] = Setting.loss  # what the learning rate belongs to
    lr: float = Setting.lr  # learning rate
    width: int = Setting.width  # hidden channels
    sensitivity: bool = False  # run the other settings too, two seeds and at most 20000 iterations
    out: Path = Path("results")  # root of all results
    quick: bool = False  # one seed, 3000 iterations


QUICK = {"seeds": 1, "iterations": 3000}


class ResidualCNN(nn.Module):
    """Compute f(z) = z + C_5(ReLU(C_4(... ReLU(C_1(z))))) in float64, z and f(z) of (n,).

    Args:
        setting: its width, padding and initialisation: `he`, weights N(0, 2 / fan-in) and biases
            0 (appendix A.1), or `pytorch`, both from U(-1, 1) / sqrt(fan-in).
        generator: CPU generator of the weights.
    """

    def __init__(self, setting: Setting, generator: torch.Generator) -> None:
        super().__init__()
        channels = [1, *[setting.width] * (N_LAYERS - 1), 1]
        layers: list[nn.Module] = []
        for c_in, c_out in zip(channels, channels[1:]):
            conv = nn.Conv1d(
                c_in, c_out, FILTER, padding="same", padding_mode=setting.padding,
                dtype=torch.float64,
            )  # fmt: skip
            fan_in = c_in * FILTER
            if setting.init == "he":
                nn.init.normal_(conv.weight, 0, math.sqrt(2 / fan_in), generator=generator)
                nn.init.zeros_(conv.bias)
            else:
                bound = 1 / math.sqrt(fan_in)
                nn.init.uniform_(conv.weight, -bound, bound, generator=generator)
                nn.init.uniform_(conv.bias, -bound, bound, generator=generator)
            layers += [conv, nn.ReLU()]
        self.g = nn.Sequential(*layers[:-1])

    def forward(self, z: Tensor) -> Tensor:
        """Compute f(z), (n,)."""
        return z + self.g(z[None, None])[0, 0]


def tangent_kernel(net: nn.Module, z: Tensor) -> Tensor:
    """Compute Theta = J J^T, J the Jacobian of net(z) in all of the net's weights.

    Args:
        net: network whose output is (n,).
        z: its input.

    Returns:
        (n, n).
    """
    weights = {name: weight.detach() for name, weight in net.named_parameters()}
    jacobian = torch.func.jacrev(lambda w: torch.func.functional_call(net, w, (z,)))(weights)
    J = torch.cat([part.flatten(1) for part in jacobian.values()], dim=1)  # (n, n_params)
    return J @ J.T


def closed_form(y: Tensor, f_0: Tensor, kernel: Tensor, rate: float, steps: list[int]) -> Tensor:
    """Compute y - (I - rate * kernel)^t (y - f_0) for each t.

    Args:
        y, f_0: (n,); f_0 is z for (13).
        kernel: (n, n), symmetric and positive semi-definite.
        rate: learning rate beta of 1/2 ||f - y||^2.
        steps: the iterations t.

    Returns:
        (len(steps), n); it grows without bound where rate times an eigenvalue exceeds 2.
    """
    eigenvalues, vectors = torch.linalg.eigh(kernel)
    contraction = 1 - rate * eigenvalues.clamp(min=0)  # rounding makes zeros slightly negative
    powers = contraction[None, :] ** torch.tensor(steps, dtype=y.dtype)[:, None]  # (steps, n)
    return y - (powers * (vectors.T @ (y - f_0))) @ vectors.T


def recorded_steps(iterations: int) -> list[int]:
    """Return 0 and PER_DECADE iterations a decade up to the last, rounded, without repetition."""
    count = math.ceil(PER_DECADE * math.log10(iterations)) + 1
    return [0, *sorted({round(t) for t in np.geomspace(1, iterations, max(count, 2))})]


def gradient_descent(
    net: nn.Module, z: Tensor, y: Tensor, rate: float, steps: list[int], note: str = ""
) -> tuple[list[int], Tensor]:
    """Minimise 1/2 ||net(z) - y||^2 by full-batch gradient descent.

    It ends early where y is fitted to DONE, or where the output is no longer finite.

    Args:
        net: network whose output is (n,); its weights are changed.
        z, y: its input, and what is fitted.
        rate: learning rate of half the sum of squares.
        steps: the iterations after which the output is recorded, rising.
        note: names the progress bar.

    Returns:
        The iterations that were recorded, and the outputs after them, (recorded, n).
    """
    weights = list(net.parameters())
    found: list[Tensor] = []
    due = iter(steps)
    at = next(due)
    with tqdm(total=steps[-1], desc=note, mininterval=10) as bar:
        for t in range(steps[-1] + 1):
            output = net(z)
            if t == at:
                found.append(output.detach())
                bar.update(t - bar.n)
                misfit = (found[-1] - y).square().mean().item()
                at = next(due, None)
                if at is None or not math.isfinite(misfit) or misfit < DONE * NOISE_VARIANCE:
                    break
            gradients = torch.autograd.grad(0.5 * (output - y).square().sum(), weights)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients):
                    weight.sub_(gradient, alpha=rate)
    return steps[: len(found)], torch.stack(found)


def draw(setting: Setting, seed: int) -> dict[str, Tensor]:
    """Draw the truth `x`, the measurements `y` and the input `noise` of a seed, each (n,)."""
    t = torch.arange(N_SAMPLES, dtype=torch.float64) / N_SAMPLES
    x = setting.amplitude * torch.sin(2 * math.pi * setting.periods * t)
    noise, z = (
        torch.randn(N_SAMPLES, dtype=torch.float64, generator=stream(seed, purpose))
        for purpose in ("measurement noise", "input")
    )
    return {"x": x, "y": x + math.sqrt(NOISE_VARIANCE) * noise, "noise": z}


def measure(setting: Setting, seed: int, name: str) -> dict[str, Any]:
    """Run one descent beside its closed forms.

    Returns:
        steps: iterations that were recorded; error, misfit: mean squared difference of the
        network's output from x and from y there; linearised, theorem: the error of (12) and (13)
        there; from_linearised, from_theorem: root mean squared difference of the network's output
        from them; first, best (oracle), last: outputs; largest: of beta times Theta's eigenvalues.
    """
    signals = draw(setting, seed)
    x, y, z = signals["x"], signals["y"], signals[name]
    net = ResidualCNN(setting, stream(seed, "weights"))  # the same for all inputs of a seed
    kernel = tangent_kernel(net, z)
    f_0 = net(z).detach()
    steps, outputs = gradient_descent(
        net, z, y, setting.rate, recorded_steps(setting.iterations), f"seed {seed}, input {name}"
    )
    error = (outputs - x).square().mean(dim=1)
    result = {
        "steps": steps,
        "error": error.tolist(),
        "misfit": (outputs - y).square().mean(dim=1).tolist(),
        "first": outputs[0].tolist(),
        "best": outputs[error.nan_to_num(math.inf).argmin()].tolist(),
        "last": outputs[-1].tolist(),
        "largest": setting.rate * torch.linalg.eigvalsh(kernel)[-1].item(),
    }
    for form, start in (("linearised", f_0), ("theorem", z)):
        predicted = closed_form(y, start, kernel, setting.rate, steps)
        result[form] = (predicted - x).square().mean(dim=1).tolist()
        distance = (predicted - outputs).square().mean(dim=1).sqrt()
        result[f"from_{form}"] = distance.tolist()
    return result


# The figures' numbers -------------------------------------------------------------------------


def fitted_at(part: dict[str, Any]) -> int | None:
    """Return the first recorded iteration at which y is fitted, None without one."""
    limit = FITTED * NOISE_VARIANCE
    return next((t for t, m in zip(part["steps"], part["misfit"]) if m <= limit), None)


def diverged(part: dict[str, Any]) -> bool:
    """Tell whether a descent left the finite numbers."""
    return not math.isfinite(part["misfit"][-1])


def at_step(part: dict[str, Any], key: str, step: int) -> float | None:
    """Return what was recorded last up to an iteration; None before a descent that ended."""
    if step > part["steps"][-1] and fitted_at(part) is None:
        return None
    return [v for t, v in zip(part["steps"], part[key]) if t <= step][-1]


def mean_std(values: list[float]) -> str:
    """Write the mean of finite values, and of several the standard deviation."""
    if not values or not all(map(math.isfinite, values)):
        return "diverged" if values else ""
    std = f" +- {np.std(values, ddof=1):.3g}" if len(values) > 1 else ""
    return f"{np.mean(values):.3g}{std}"


def summary(parts: list[dict[str, Any]], iterations: int) -> dict[str, Any]:
    """Return a row of figures of one input's descents, one a seed."""
    if any(diverged(part) for part in parts):
        n = sum(diverged(part) for part in parts)
        fitted = f"{n} of {len(parts)} diverged"
    else:
        fits = [fitted_at(part) for part in parts]
        fitted = mean_std([t for t in fits if t is not None])
        if None in fits:
            fitted = f"{fits.count(None)} of {len(parts)} not within {iterations}"
    best = [min(e for e in part["error"] if math.isfinite(e)) for part in parts]
    where = [part["steps"][part["error"].index(e)] for part, e in zip(parts, best)]
    return {
        "beta * largest eigenvalue": mean_std([part["largest"] for part in parts]),
        "error at the start": mean_std([part["error"][0] for part in parts]),
        "lowest error (oracle)": mean_std(best),
        "at iteration (median)": str(int(np.median(where))),
        "error at the end": mean_std([part["error"][-1] for part in parts]),
        "y fitted after": fitted,
        "largest distance from (12)": mean_std([max(part["from_linearised"]) for part in parts]),
        "largest distance from (13)": mean_std([max(part["from_theorem"]) for part in parts]),
    }


def distances(found: dict[str, list[dict[str, Any]]], iterations: int) -> list[dict[str, Any]]:
    """Return rows: how far the network is from each closed form after 0, 1, 10 ... iterations."""
    decades = [0, *(10**k for k in range(math.floor(math.log10(iterations)) + 1))]
    rows = []
    for name, parts in found.items():
        for form, number in (("linearised", "(12)"), ("theorem", "(13)")):
            row: dict[str, Any] = {"input": name, "distance from": number}
            for step in decades:
                values = [at_step(part, f"from_{form}", step) for part in parts]
                row[f"t = {step}"] = mean_std([v for v in values if v is not None])
            rows.append(row)
    return rows


def claims(found: dict[str, list[dict[str, Any]]], noise: list[float]) -> list[str]:
    """Return what the paper says of its Figure 6 beside what was found.

    Args:
        found: input -> its descents, one a seed.
        noise: mean squared measurement noise of each seed.
    """
    n = len(noise)
    x, y, z = found["x"], found["y"], found["noise"]
    lowest_first = sum(min(p["error"]) == p["error"][0] for p in x)
    rising = sum(bool((np.diff(p["error"]) >= 0).all()) for p in x)
    flat = [max(abs(e - v) for e in p["error"]) for p, v in zip(y, noise)]
    typical = sum(min(p["error"]) < min(p["error"][0], p["error"][-1]) for p in z)
    best = {name: [min(p["error"]) for p in parts] for name, parts in found.items()}
    x_wins = sum(a < min(b, c) for a, b, c in zip(best["x"], best["y"], best["noise"]))
    y_wins = sum(b < c for b, c in zip(best["y"], best["noise"]))
    fits = [(fitted_at(a), fitted_at(b)) for a, b in zip(x, z)]
    ratios = [a / b for a, b in fits if a is not None and b is not None]
    slower = (
        f"{mean_std(ratios)} times as many"
        if len(ratios) == n
        else f"within {x[0]['steps'][-1]} iterations y is not fitted from x in "
        f"{sum(a is None for a, _ in fits)} of {n}, nor from noise in "
        f"{sum(b is None for _, b in fits)} of {n}"
    )
    return [
        f"Input x, 'the error is lowest at initialization': in {lowest_first} of {n} draws; 'it "
        f"steadily increases': in {rising} of {n}.",
        f"Input x takes 'approximately 25 times more training iterations' than noise until y is "
        f"fitted: {slower}.",
        f"Input y, 'essentially flat': the error differs from the noise's, {mean_std(noise)}, by "
        f"at most {mean_std(flat)}.",
        f"Input noise, 'the typical DIP behavior', lowest between start and end: in {typical} of "
        f"{n}.",
        f"Lowest errors (oracle): x below both others in {x_wins} of {n}, y below noise in "
        f"{y_wins} of {n}.",
    ]


def draw_figure(setting: Setting, found: dict[str, list[dict[str, Any]]], seeds: int) -> Figure:
    """Draw the signal, its reconstructions, the error over iterations, and the closed forms."""
    figure = Figure(figsize=(13, 7.5), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    signals = draw(setting, 0)
    axes[0, 0].plot(signals["y"], ".", color="gray", ms=4, label="measurements y")
    axes[0, 0].plot(signals["x"], color="black", label="truth x")
    axes[0, 0].set(title="signal and measurements, seed 0", xlabel="sample")
    for name, parts in found.items():
        axes[0, 1].plot(parts[0]["best"], color=COLOURS[name], lw=1, label=f"input {name}")
    axes[0, 1].plot(signals["x"], color="black", lw=1, ls=":", label="truth x")
    axes[0, 1].set(title="outputs of lowest error (oracle), seed 0", xlabel="sample")
    axes[0, 2].axhline(NOISE_VARIANCE, color="gray", ls=":", lw=1, label="noise's variance")
    for name, parts in found.items():
        colour = COLOURS[name]
        _band(axes[0, 2], parts, "error", colour, "-", f"input {name}")
        _band(axes[1, 0], parts, "error", colour, "-", f"input {name}, network")
        _band(axes[1, 0], parts, "theorem", colour, "--", "... Theorem A.1, (13)", fill=False)
        _band(axes[1, 1], parts, "error", colour, "-", f"input {name}, network")
        _band(axes[1, 1], parts, "linearised", colour, "--", "... linearised, (12)", fill=False)
        _band(axes[1, 2], parts, "from_linearised", colour, "-", f"input {name}, from (12)")
        _band(axes[1, 2], parts, "from_theorem", colour, "--", "... from (13)", fill=False)
    axes[0, 2].set(title=f"error of the network, {seeds} seed(s): mean and range")
    axes[1, 0].set(title="beside Theorem A.1")
    axes[1, 1].set(title="beside the linearised network")
    axes[1, 2].set(title="network's distance from the closed forms (RMS)")
    highest = max(min(max(p["error"]), 10.0) for parts in found.values() for p in parts)
    for axis in (axes[0, 2], *axes[1]):
        axis.set_xscale("symlog", linthresh=1)
        axis.set_xlim(left=0)
        axis.set_xlabel("iterations of gradient descent")
    for axis in (axes[0, 2], *axes[1, :2]):
        axis.set(ylabel="mean squared error against x", ylim=(0, 1.15 * highest))
    for axis in axes.flat:
        axis.title.set_fontsize(9)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.suptitle(
        f"initialisation {setting.init}, loss the {setting.loss} of squares, "
        f"learning rate {setting.lr:g}, {setting.width} channels",
        fontsize=10,
    )
    figure.tight_layout(pad=0.6)
    return figure


def _band(
    axis: Any, parts: list[dict[str, Any]], key: str, colour: str, style: str, label: str,
    fill: bool = True,
) -> None:  # fmt: skip
    """Draw the mean of several descents, and their range, as far as all of them go."""
    length = min(len(part["steps"]) for part in parts)
    steps = parts[0]["steps"][:length]
    values = np.array([part[key][:length] for part in parts])
    axis.plot(steps, values.mean(axis=0), style, color=colour, lw=1.5, label=label)
    if fill and len(parts) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axis.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)


def run(setting: Setting, seeds: int, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return input -> its descents, one a seed; what was measured before is not repeated."""
    return {
        name: [
            kept(
                folder / "parts", f"seed{seed}_{name}",
                {**asdict(setting), "seed": seed, "input": name, "done": DONE},
                lambda seed=seed, name=name: measure(setting, seed, name),
            )
            for seed in range(seeds)
        ]
        for name in INPUTS
    }  # fmt: skip


def draw_all(options: Args) -> None:
    """Run the descents that were not run yet, and make figure and tables."""
    require(options.seeds >= 1, f"--seeds {options.seeds}: expected at least 1")
    require(options.iterations >= 10, f"--iterations {options.iterations}: expected at least 10")
    require(options.width >= 1, f"--width {options.width}: expected at least 1")
    require(0 < options.lr < math.inf, f"--lr {options.lr}: expected a number above 0")
    setting = Setting(
        options.init, options.loss, options.lr, options.width, iterations=options.iterations
    )
    require(
        not options.sensitivity or setting == Setting(iterations=options.iterations),
        "--sensitivity: it varies the defaults; omit --init, --loss, --lr and --width",
    )
    folder = options.out / "figures" / "fig6"
    found = run(setting, options.seeds, folder)
    save_settings(folder, options)
    save_table(
        folder, "table",
        [{"input": label, **summary(found[name], setting.iterations)}
         for name, label in INPUTS.items()],
    )  # fmt: skip
    save_table(folder, "distances", distances(found, setting.iterations))
    noise = [
        (s["y"] - s["x"]).square().mean().item()
        for s in (draw(setting, seed) for seed in range(options.seeds))
    ]
    save_notes(folder, claims(found, noise))
    save_figure(folder, "fig6", draw_figure(setting, found, options.seeds))
    for name in ("sensitivity.csv", "sensitivity.md"):  # of an earlier call
        (folder / name).unlink(missing_ok=True)
    if options.sensitivity:
        rows = []
        for label, changes in SENSITIVITY.items():
            other = replace(setting, iterations=min(SHORT, setting.iterations), **changes)
            rows += [
                {"setting": label, "input": name, **summary(parts, other.iterations)}
                for name, parts in run(other, min(options.seeds, 2), folder).items()
            ]
        save_table(folder, "sensitivity", rows)
    write_report(options.out)


def main() -> int:
    options = parse_args(Args, QUICK, description=__doc__)
    return exit_status(lambda: draw_all(options))


if __name__ == "__main__":
    sys.exit(main())
