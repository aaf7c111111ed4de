"""Running the methods that were asked for, aSeqDIP and its baselines, on one problem."""

import dataclasses
import gc
import inspect
import math
import traceback
import types
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from operators.base import Operator
from utils import encoders
from utils.callback import Callback
from utils.comparison import Outcome, compare
from utils.errors import InputError, Interrupted, require
from utils.files import tree_hash
from utils.precision import place
from utils.problem import Problem
from utils.randomness import stream
from utils.results import save_results
from utils.runs import Run
from utils.stopping import HeldOut, RunningVariance, Stopping

ASEQDIP = {"aseqdip": "aSeqDIP", "aseqdip_lambda0": "aSeqDIP, lambda 0"}  # the second: Figure 4


class Baseline:
    """A method of baselines/ as one task runs it.

    Args:
        function: the method.
        label: its name in tables and figures.
        net: which of the task's networks it takes, None for none.
        takes: what it is given of Problem.known, such as `sigma`.
        output: what x_hat is, in a picture's title.
        own_stop: it ends by a rule of its own, so --stop is not for it.
        needs: a field of args that names files which it cannot do without: `reference`, an image
            for its input, or `encoder`, weights that its network keeps.
        settings: its hyperparameters for this task, where they differ from the function's defaults.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        label: str,
        net: str | None = None,
        takes: tuple[str, ...] = (),
        output: str | None = None,
        own_stop: bool = False,
        needs: str | None = None,
        **settings: Any,
    ) -> None:
        self.function = function
        self.label = label
        self.net = net
        self.takes = takes
        self.own_stop = own_stop
        self.needs = needs
        parameters = inspect.signature(function).parameters
        self.iterative = "steps" in parameters
        self.output = output or ("last iterate" if self.iterative else label)
        self.settings = {
            name: settings.get(name, parameter.default)
            for name, parameter in parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name not in {"z0", "callback", *takes}
        }
        unknown = settings.keys() - self.settings.keys()
        if unknown:
            raise ValueError(f"{function.__name__} has no {', '.join(sorted(unknown))}")

    def change(self, name: str, text: str) -> None:
        """Set a hyperparameter to what the user wrote."""
        require(
            name in self.settings and name not in ("seed", "steps"),
            f"--set {name}={text}: {self.function.__name__} has no such setting, only "
            + (", ".join(s for s in self.settings if s not in ("seed", "steps")) or "none"),
        )
        hint = typing.get_type_hints(self.function)[name]
        self.settings[name] = converted(text, hint, f"--set {name}={text}")


def converted(text: str, hint: Any, what: str) -> Any:
    """Read a value of an annotated type from text.

    Args:
        text: what the user wrote.
        hint: int, float, str, bool, a Literal of strings, or one of these or None.
        what: opens the error message.

    Raises:
        InputError: the text is not of that type.
    """
    if isinstance(hint, types.UnionType):
        if text == "None":
            return None
        (hint,) = (h for h in typing.get_args(hint) if h is not type(None))
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


def choose(args: Any, baselines: dict[str, Baseline]) -> dict[str, Baseline | None]:
    """Read --method and --set.

    Args:
        args: the script's Args.
        baselines: the task's methods besides aSeqDIP, by name; changed as --set says.

    Returns:
        The methods asked for, in their order; None stands for aSeqDIP.

    Raises:
        InputError: a method or a setting is not known.
    """
    known: dict[str, Baseline | None] = dict.fromkeys(ASEQDIP) | baselines
    names = args.method.split(",")
    if args.method == "all":
        names = [name for name, b in known.items() if b is None or _has_needs(args, b)]
    for name in names:
        require(
            name in known,
            f"--method {name}: expected all, or of this list one or several with commas between: "
            + ", ".join(known),
        )
    require(len(set(names)) == len(names), f"--method {args.method}: a method stands there twice")
    chosen = {name: known[name] for name in names}
    for name, baseline in chosen.items():
        if baseline is not None:
            require(
                _has_needs(args, baseline),
                f"--method {name}: it needs prior data; name them with --{baseline.needs}",
            )
    for needs in {b.needs for b in baselines.values() if b.needs is not None}:
        takers = [name for name, b in baselines.items() if b.needs == needs]
        require(
            needs not in args.changed or any(name in chosen for name in takers),
            f"--{needs}: of use to --method {', '.join(takers)} only",
        )
    for baseline in baselines.values():
        if baseline.iterative:  # as many updates, and weights of the same seed, as aSeqDIP
            baseline.settings["steps"] = args.K * args.N
        if "seed" in baseline.settings:
            baseline.settings["seed"] = args.seed
    for text in args.set:
        key, equals, value = text.partition("=")
        method, dot, name = key.rpartition(".")
        require(bool(equals), f"--set {text}: expected name=value or method.name=value")
        if not dot:
            takers = [b for b in chosen.values() if b is not None and key in b.settings]
            require(
                len(takers) > 0,
                f"--set {text}: none of {', '.join(names)} has such a setting; those of aSeqDIP "
                "are flags",
            )
        else:
            require(
                chosen.get(method) is not None,
                f"--set {text}: {method} is not among the baselines asked for with --method",
            )
            takers = [chosen[method]]
        for baseline in takers:
            baseline.change(name, value)
    return chosen


def _has_needs(args: Any, baseline: Baseline) -> bool:
    return baseline.needs is None or getattr(args, baseline.needs) is not None


def run_methods(
    args: Any,
    task: str,
    item: str,
    data: tuple[np.ndarray | str | None, ...],
    path: Path | None,
    *,
    build: Callable[[], Problem],
    make_net: Callable[[Any, str, Tensor, Operator], nn.Module],
    aseqdip: Callable[[Any, Tensor, Operator, Callback], Tensor],
    baselines: dict[str, Baseline],
    only_aseqdip: Collection[str],
    ignored: Collection[str] = (),
) -> None:
    """Reconstruct one item with each method asked for; of several, make a comparison.

    Every method gets the same measurements, and sees nothing else. Of several methods one that
    fails does not stop the rest.

    Args:
        args: the script's Args.
        task, item, data, ignored: as for Run.
        path: the item's file, None for a sample.
        build: makes the problem; it is called once, and not at all if one method was asked for
            and is done already.
        make_net: builds the network of a name, given args, the name, y and A.
        aseqdip: Algorithm 1, given args, y, A and a callback.
        baselines: the task's other methods.
        only_aseqdip: fields of args that other methods do not use.

    Raises:
        InputError, RunFailed: one method was asked for and failed, or several and some failed.
    """
    chosen = choose(args, baselines)
    lone = len(chosen) == 1
    if not any(baseline is None for baseline in chosen.values()):
        for name in only_aseqdip:
            flag = name.replace("_", "-")
            require(
                name not in args.changed,
                f"--{flag}: of use to aSeqDIP only; the other methods' settings are changed with "
                "--set",
            )
    require(
        list(chosen) != ["aseqdip_lambda0"] or "lambda_ae" not in args.changed,
        f"--lambda-ae {args.lambda_ae:g}: aseqdip_lambda0 has lambda 0; take --method aseqdip",
    )
    problem: Problem | None = None
    outcomes: list[Outcome] = []
    for name, baseline in chosen.items():
        if not lone:
            print(f"-- {name}")
        outcome = Outcome(name, baseline.label if baseline else ASEQDIP[name])
        outcomes.append(outcome)
        own = args if name != "aseqdip_lambda0" else dataclasses.replace(args, lambda_ae=0.0)
        try:
            hyperparameters = dict(baseline.settings) if baseline else {}
            if baseline is not None and baseline.needs is not None:
                prior = getattr(args, baseline.needs)
                hyperparameters[f"{baseline.needs}_sha256"] = tree_hash(prior)
            run = Run(
                own, task, name, item, data,
                ignored={*ignored, *(only_aseqdip if baseline else ()), *_unused(args, baseline)},
                hyperparameters=hyperparameters,
                inner=1 if baseline else args.N,
            )  # fmt: skip
            finished = run.finished()
        except InputError as error:
            if lone:
                raise
            outcome.fail(error)
            continue
        outcome.folder = run.folder
        if finished:
            continue
        problem = problem or build()  # what is wrong with it is wrong for all methods
        try:
            _reconstruct(own, run, outcome.label, baseline, problem, path, make_net, aseqdip)
        except (Interrupted, KeyboardInterrupt):
            raise
        except Exception as error:
            if lone:
                raise
            outcome.fail(error)
            if not isinstance(error, (InputError, RuntimeError, ValueError)):
                traceback.print_exc()
    if not lone:
        compare(args.out / task / "comparison" / item, problem or build(), outcomes)
        failed = [outcome.name for outcome in outcomes if outcome.failure]
        require(not failed, f"{', '.join(failed)} failed, as said above; the others are complete")


def running_variance(inner: int) -> RunningVariance:
    """Make the rule of --stop es_wmv: ES-DIP's window and patience, in weight updates.

    Args:
        inner: weight updates between two iterates.
    """
    defaults = inspect.signature(RunningVariance).parameters
    window, patience = (defaults[name].default for name in ("window", "patience"))
    return RunningVariance(max(window // inner, 2), max(patience // inner, 1))


def _unused(args: Any, baseline: Baseline | None) -> set[str]:
    """Return the fields of args that do not decide a method's result."""
    unused = set() if args.stop == "holdout" else {"hold_out"}
    if baseline is not None and (baseline.own_stop or not baseline.iterative):
        unused |= {"stop", "hold_out"}
    if baseline is not None and not baseline.iterative:
        unused |= {
            "K", "N", "lr", "width", "depth", "init_std", "ema_decay", "log_every", "seed",
            "precision",
        }  # fmt: skip
    return unused


def _reconstruct(
    args: Any,
    run: Run,
    label: str,
    baseline: Baseline | None,
    problem: Problem,
    path: Path | None,
    make_net: Callable[[Any, str, Tensor, Operator], nn.Module],
    aseqdip: Callable[[Any, Tensor, Operator, Callback], Tensor],
) -> None:
    """Run one method and fill its run folder."""
    gc.collect()  # networks and graphs of an earlier run, which hold on to each other
    y, A = problem.y, problem.A
    own: dict[str, Any] = {}
    facts: dict[str, Any] = {"stop": "fixed"}
    if baseline is not None:
        own = baseline.settings | {name: problem.known[name] for name in baseline.takes}
        if baseline.needs == "reference":
            own["z0"], reference = problem.reference(path)
            facts |= reference
        if baseline.needs == "encoder":
            encoder = encoders.read(args.encoder, run.identity["task"])
            content = run.settings["data_sha256"][0]
            encoders.refuse_seen(encoder, content, problem.facts["source"], path)
            facts |= encoders.facts(encoder, args.encoder)
        if baseline.own_stop:
            facts["stop"] = "its own rule"
    rule = None
    if baseline is None or (baseline.iterative and not baseline.own_stop):
        if args.stop == "holdout":
            try:
                held = A.hold_out(args.hold_out, stream(args.data_seed, "held out")).to(y.device)
            except ValueError as error:  # such as k-space that is sampled in its centre only
                raise InputError(f"--stop holdout: {error}") from error
            rule = HeldOut(A, y, held)
            y, A = torch.where(held, 0, y), A.without(held)
        elif args.stop == "es_wmv":
            rule = running_variance(run.inner)
    elif args.stop != "fixed" and baseline.own_stop:
        print(f"{run.identity['method']} stops by its own rule, so --stop {args.stop} is not used")
    if rule is not None:
        facts["stop"] = args.stop
    if baseline is not None:
        given = ((n, v) for n, v in baseline.settings.items() if v is not None)
        print(", ".join(f"{name} {value}" for name, value in given))
    run.open(problem.score, y, A)
    callback = run if rule is None else Stopping(rule, run)
    if baseline is None:
        x_hat = aseqdip(args, y, A, callback)
    else:
        net = None
        if baseline.net is not None:
            net = place(make_net(args, baseline.net, y, A), y.device, args.precision)
        try:
            if baseline.needs == "encoder":
                encoders.fit(encoder, net, args.encoder)
            x_hat = baseline.function(y, A, net, **own, callback=callback)
        except ValueError as error:  # such as a setting out of range
            run.discard()
            if isinstance(error, InputError):
                raise
            method = f"{run.identity['method']}: "
            raise InputError(method + str(error).removeprefix(method)) from error
    run.close()
    images = {"input": problem.A.pinv(problem.y), "final": x_hat}
    if run.k > 0:
        images["ema"] = run.averaged()
    if rule is not None:
        images["stopped"] = rule.best
        facts["step_stopped"] = rule.best_step * run.inner
    output = baseline.output if baseline else "last iterate"
    save_results(run, images, problem, label, output, facts)
