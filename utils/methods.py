"""A method as a task runs it: aSeqDIP, or one of baselines/, with its settings."""

import importlib.util
import inspect
import math
import types
import typing
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from torch import Tensor, nn

from operators.base import Operator
from utils.callback import Callback
from utils.errors import InputError, require
from utils.progress import at_work

SET_BY_THE_SCRIPT = ("seed", "steps")  # not by --set: they are --seed, and --K times --N


@dataclass(frozen=True)
class Range:
    """The numbers that a setting can be; stands in its annotation, as Annotated[float, Range(0)].

    Args:
        low, high: the bounds; they belong to it, unless `above` or `below` is set.
        above: the setting is above `low`.
        below: the setting is below `high`.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return low and high and math.isfinite(value)

    def __str__(self) -> str:
        text = f"above {self.low:g}" if self.above else f"of at least {self.low:g}"
        if self.high == math.inf:
            return text
        return f"{text} and {'below' if self.below else 'at most'} {self.high:g}"


Count = Annotated[int, Range(1)]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class Method:
    """What a file of baselines/ declares of its method.

    Args:
        name, label: in flags and folders; in tables and figures.
        function: the method; None for aSeqDIP, whose loop stands in the scripts.
        net: the kind of network it takes, for a script's make_net: `unet` is fed with an image,
            `noise` with 32 channels of noise; None for none.
        takes: what it is given of Problem.known where the task has it, such as `sigma`, or of its
            parts, `images`.
        output: what x_hat is, in a picture's title; without it "last iterate", or of a method
            without steps its label.
        own_average: its x_hat is an average over its images, so --result is not for it.
        own_stop: it ends by a rule of its own, so --stop is not for it.
        needs: a field of args that names files which it cannot do without: `reference`, an image
            for its input, `encoder`, weights that its network keeps, `prior`, a diffusion network,
            or `varnet_weights`.
        exploding: where several of --prior fit, it takes a variance-exploding one.
        parts: methods whose images it needs; they are named before it in --method.
        package: one that it needs and requirements.txt does not have.
        style: of its line in figures over the updates, for matplotlib, with a `color`; {} for any.
        settings: its hyperparameters; a script changes those that differ in its task.
    """

    name: str
    label: str
    function: Callable[..., Tensor] | None = None
    net: str | None = None
    takes: tuple[str, ...] = ()
    output: str = ""
    own_average: bool = False
    own_stop: bool = False
    needs: str | None = None
    exploding: bool = False
    parts: tuple[str, ...] = ()
    package: str | None = None
    style: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        parameters = inspect.signature(self.function).parameters if self.function else {}
        settings = {
            name: parameter.default
            for name, parameter in parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
            and name not in {"z0", "callback", *self.takes}
        }
        object.__setattr__(self, "settings", settings)
        output = self.output or ("last iterate" if self.iterative else self.label)
        object.__setattr__(self, "output", output)

    def lacks(self, args: Any) -> str | None:
        """Say what the method cannot do without and has not got, None if it lacks nothing.

        Args:
            args: of a script, with the fields that `needs` may name.
        """
        if self.needs is not None and not getattr(args, self.needs):
            return f"needs prior data: {flag(self.needs)} names them"
        if self.package is not None and importlib.util.find_spec(self.package) is None:
            return f"the package {self.package} is not installed; pip install {self.package}"
        return None

    @property
    def iterative(self) -> bool:
        """Tell whether it fits a network in steps."""
        return self.function is None or "steps" in self.settings

    def with_settings(self, **changes: Any) -> "Method":
        """Return the method with other hyperparameters.

        Raises:
            ValueError: it has no such hyperparameter.
        """
        unknown = changes.keys() - self.settings.keys()
        if unknown:
            raise ValueError(f"{self.name} has no {', '.join(sorted(unknown))}")
        changed = replace(self)
        changed.settings.update(self.settings | changes)
        return changed

    def set(self, name: str, text: str) -> None:
        """Set a hyperparameter to what the user wrote."""
        free = [s for s in self.settings if s not in SET_BY_THE_SCRIPT]
        require(
            name in free,
            f"--set {name}={text}: {self.name} has no such setting, only "
            + (", ".join(free) or "none"),
        )
        hint = typing.get_type_hints(self.function, include_extras=True)[name]
        self.settings[name] = converted(text, hint, f"--set {name}={text}")

    def __call__(
        self, y: Tensor, A: Operator, net: nn.Module | None, callback: Callback, **given: Any
    ) -> Tensor:
        """Reconstruct.

        Args:
            y, A, net, callback: as every method of baselines/ takes them.
            given: what Run.given holds.

        Raises:
            InputError: a setting is out of range, or the method is not for this problem.
        """
        # Those with steps show their progress through the callback.
        told = nullcontext() if self.iterative else at_work(self.name)
        try:
            with told:
                return self.function(y, A, net, **self.settings, **given, callback=callback)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            head = f"{self.name}: "
            raise InputError(head + str(error).removeprefix(head)) from error


ASEQDIP = {
    method.name: method
    for method in (
        Method("aseqdip", "aSeqDIP", net="unet", style={"color": "tab:blue", "lw": 2}),
        Method(  # Figure 4
            "aseqdip_lambda0", "aSeqDIP, lambda 0", net="unet",
            style={"color": "tab:blue", "ls": "--", "lw": 2},
        ),
    )
}  # fmt: skip


def takes(name: str, field: str) -> bool:
    """Tell whether a method takes a field of Args.only_aseqdip; uDiG-DIP has aSeqDIP's objective."""
    return name in ASEQDIP or (name == "udig_dip" and field in ("loss", "lambda_ae", "lr"))


def flag(field: str) -> str:
    """Name the flag of a field of Args."""
    return "--" + field.replace("_", "-")


def converted(text: str, hint: Any, what: str) -> Any:
    """Read a value of an annotated type from text.

    Args:
        text: what the user wrote.
        hint: int, float, str, bool, a Literal of strings, or one of these or None; of a number
            with its Range.
        what: opens the error message.

    Raises:
        InputError: the text is not of that type, or the number out of its range.
    """
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if text == "None":
            return None
        (hint,) = (h for h in typing.get_args(hint) if h is not type(None))
    if typing.get_origin(hint) is Annotated:
        hint, bounds = typing.get_args(hint)
        value = converted(text, hint, what)
        require(value in bounds, f"{what}: expected a number {bounds}")
        return value
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    if hint is bool:
        choices = ("True", "False")
    if choices:
        require(text in choices, f"{what}: expected one of {', '.join(choices)}")
        return text == "True" if hint is bool else text
    try:
        value = hint(text)
    except ValueError as error:
        kind = "a whole number" if hint is int else "a number"
        raise InputError(f"{what}: expected {kind}") from error
    require(hint is str or math.isfinite(value), f"{what}: expected a finite number")
    return value
