"""One method on one item, from the settings that name its folder to the figures that end it."""

import gc
import inspect
import math
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.diffusion import Prior, load_prior
from operators.base import Operator
from utils import encoders, priors
from utils.callback import Callback
from utils.cli import altered
from utils.consistency import consistent
from utils.errors import (
    Busy,
    CannotRun,
    InputError,
    Interrupted,
    RunFailed,
    first_line,
)  # fmt: skip
from utils.files import tree_hash
from utils.folder import RunFolder
from utils.holdout import hold_out, without
from utils.item import Item, refuse_seen
from utils.loop import Loop
from utils.methods import Method
from utils.precision import place
from utils.priors import VARNET_SEEN
from utils.problem import Problem
from utils.progress import at_work
from utils.randomness import stream
from utils.results import print_report, save_results
from utils.stopping import AtNoise, HeldOut, Rule, RunningVariance, Stopping

OF_STOP = {"holdout": "hold_out", "noise": "tau"}  # value of --stop -> the field that it uses
# Fields of args that do not matter to a method without steps.
OF_STEPS = {
    "K", "N", "lr", "width", "depth", "init_std", "ema_decay", "log_every", "seed", "precision",
}  # fmt: skip


class Run:
    """Carry a method through one item; where several are asked for, outlive its failure.

        for run in unfinished([Run(args, "mri", method, item) for method in methods]):
            with run:
                y, A, callback = run.open(problem)
                run.save(run.method(y, A, net, callback, **run.given))

    Args:
        args: the script's Args.
        task: the folder below args.out.
        method: what reconstructs.
        item: what is reconstructed.

    Attributes:
        args: those of the method: aseqdip_lambda0 has lambda 0.
        lone: whether the user asked for this method alone: its failure is then the script's.
        folder: its run folder; None until `finished` has looked at it.
        failure: why it failed, None if it did not.
        why_not: why it cannot run, None if it can; among all methods that is no failure.
        metrics: what metrics.json holds, once the run is complete.
        busy: it failed because another process is at work on it.
        given: what the method is given beside y, A, its network and the callback, after `open`.
        parts: the runs of the methods whose images it takes, after `unfinished`.
    """

    def __init__(self, args: Any, task: str, method: Method, item: Item) -> None:
        lambda0 = method.name == "aseqdip_lambda0"
        self.args = altered(args, lambda_ae=0.0) if lambda0 else args
        self.lone = args.method != "all" and "," not in args.method
        self.task, self.method, self.item = task, method, item
        self.inner = 1 if method.function else args.N  # weight updates in a step of the callback
        self.folder: RunFolder | None = None
        self.failure: str | None = None
        self.why_not: str | None = None
        self.metrics: dict[str, Any] | None = None
        self.busy = False
        self.given: dict[str, Any] = {}
        self.parts: list[Run] = []
        self._loop: Loop | None = None
        self._problem: Problem | None = None
        self._rule: Rule | None = None
        self._facts: dict[str, Any] = {}
        self._prior: Path | None = None  # the file of --prior that fits

    def finished(self) -> bool:
        """Tell whether the run is complete; if so, print its figures and where they lie.

        Raises:
            InputError: the folder holds a run of other settings, or cannot be written.
        """
        method, hyperparameters = self.method, dict(self.method.settings)
        if method.needs is not None:
            given = getattr(self.args, method.needs)
            if method.needs == "prior":
                given = self._prior = priors.choose(given, method, self.item.channels)
            hyperparameters[f"{method.needs}_sha256"] = tree_hash(given)
        content = (*self.item.content, *(part.result() for part in self.parts))
        self.folder = RunFolder(
            self.args, self.task, method.name, self.item.item, content,
            self.item.named | self._unused(), hyperparameters,
        )  # fmt: skip
        self.metrics = self.folder.finished()
        if self.metrics is None:
            return False
        print("this run is finished already (--fresh repeats it)")
        print_report(self.metrics, self.folder.path)
        return True

    @property
    def image(self) -> str:
        """The image that is a complete run's result: `stopped` by a rule of --stop, or `final`."""
        return "stopped" if "step_stopped" in self.metrics else "final"

    def result(self) -> np.ndarray:
        """Read the array that a complete run has saved of its result, as Problem.array made it.

        Raises:
            InputError: the file is missing or damaged.
        """
        name = "reconstruction" if self.image == "final" else f"reconstruction_{self.image}"
        path = self.folder.path / f"{name}.npy"
        try:
            return np.load(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: missing or damaged; repeat the run with --fresh") from error

    def _unused(self) -> set[str]:
        """Return the fields of args that do not decide the result."""
        if self.method.parts:  # all that decides theirs
            return set()
        unused = set(OF_STOP.values()) - {OF_STOP.get(self.args.stop)}
        if self.method.function is not None:
            unused |= set(self.args.only_aseqdip)
        if self.method.own_stop or not self.method.iterative:
            unused |= {"stop", *OF_STOP.values()}
        if not self._averages():
            unused.add("result")
        if not self._finishes():
            unused.add("finish")
        if self.method.needs == "prior":
            return unused if self.method.iterative else unused | OF_STEPS - {"precision"}
        return unused if self.method.iterative else unused | OF_STEPS

    def _averages(self) -> bool:
        """Tell whether the average takes x_hat's place."""
        own = self.method.own_average or self.method.own_stop or not self.method.iterative
        return self.args.result == "average" and not own

    def _finishes(self) -> bool:
        """Tell whether the last step is taken; a preset's is for methods with steps alone."""
        asked = self.method.iterative or "finish" in self.args.changed
        return self.args.finish == "consistency" and asked

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """Note a failure, so that the other methods go on; that of a lone method passes through."""
        if isinstance(error, InputError) and self._loop is not None and self._loop.k == 0:
            self.folder.discard()
        self.folder.unlock()
        self._loop = self._problem = self._rule = None  # nothing of it stays in memory
        self.given = {}
        if error is None or self.lone or not isinstance(error, Exception):
            return False
        if isinstance(error, Interrupted):
            return False
        if isinstance(error, CannotRun) and self.args.method == "all":
            self.leave_out(str(error).removeprefix(f"{self.method.name}: "))
            return True
        self.fail(error)
        if not isinstance(error, (RuntimeError, ValueError)):
            traceback.print_exc()
        return True

    def fail(self, error: Exception) -> None:
        """Take note of a failure and print it."""
        self.failure = first_line(error).removeprefix(f"{self.method.name}: ")
        self.busy = isinstance(error, Busy)
        print(f"{self.method.name} failed: {self.failure}", file=sys.stderr)

    def leave_out(self, why: str) -> None:
        """Take note that the method cannot run, and print why."""
        self.why_not = why
        print(f"not run: {why}")

    def open(self, problem: Problem) -> tuple[Tensor, Operator, Callback]:
        """Take the run's folder for a method that is about to work on a problem.

        Returns:
            The measurements, the operator and the callback for the method: --stop holdout keeps
            some measurements back.

        Raises:
            InputError: the folder cannot be written, or what the method needs is missing.
        """
        gc.collect()  # networks and graphs of an earlier run, which hold on to each other
        self._problem = problem
        self._facts = {"stop": "fixed"}
        self.given = {n: problem.known[n] for n in self.method.takes if n in problem.known}
        for name, value in self.given.items():
            needed = self.method.settings.get("start") != "uniform"  # Self-Guided DIP's needs none
            if name == "sigma" and not math.isfinite(value) and needed:
                raise CannotRun(
                    f"{self.method.name}: sigma could not be estimated from these data; give it "
                    "with --sigma"
                )
        if self.parts:
            self.given["images"] = torch.cat([problem.image(part.result()) for part in self.parts])
        if self.method.needs == "reference":
            self.given["z0"], facts = problem.reference()
            self._facts |= facts
        if self.method.needs == "encoder":
            encoder = encoders.read(self.args.encoder, self.task)
            refuse_seen(self.item, encoder["items"], "encoder")
            self._facts |= encoders.facts(encoder, self.args.encoder)
        if self.method.needs == "prior":
            self.given["prior"] = self._read_prior(problem)
        if self.method.needs == "varnet_weights":
            self.given["weights"] = priors.read_varnet(self.args.varnet_weights)
            self._facts |= {"varnet": str(self.args.varnet_weights), "varnet_seen": VARNET_SEEN}
            print(f"{self.args.varnet_weights}: {VARNET_SEEN}")
        reasons = {
            "stops by its own rule": self.method.own_stop,
            "takes its own average": self.method.own_average,
            "has no updates": not self.method.iterative,
        }
        why = next((reason for reason, given in reasons.items() if given), None)
        if why and "result" in self.args.changed:
            print(f"{self.method.name} {why}, so --result {self.args.result} is not used")
        y, A, self._rule = self._stopping(problem)
        settings = [f"{n} {v}" for n, v in self.method.settings.items() if v is not None]
        if settings:
            print(", ".join(settings))
        self._loop = Loop(self.folder, self.args, problem.score, y, A, self.inner)
        return y, A, self._loop if self._rule is None else Stopping(self._rule, self._loop)

    def _read_prior(self, problem: Problem) -> Prior:
        """Read the file of --prior that fits, and say what it is."""
        prior = load_prior(self._prior)
        refuse_seen(self.item, prior.facts.get("items", ()), "prior")
        print(f"{self.method.name}: prior {self._prior}: ", end="")
        print(priors.described(prior, problem.A.in_shape[-2:]))
        self._facts |= {"prior": str(self._prior), "prior_facts": prior.facts}
        return place(prior, problem.y.device, self.args.precision)

    def _stopping(self, problem: Problem) -> tuple[Tensor, Operator, Rule | None]:
        """Make the rule of --stop, and what it leaves of the measurements."""
        y, A, stop = problem.y, problem.A, self.args.stop
        if self.method.parts:
            self._facts["stop"] = "those of its parts"
            return y, A, None
        if self.method.own_stop:
            self._facts["stop"] = "its own rule"
            if "stop" in self.args.changed:
                print(f"{self.method.name} stops by its own rule, so --stop {stop} is not used")
        elif not self.method.iterative and "stop" in self.args.changed:
            print(f"{self.method.name} has no updates, so --stop {stop} is not used")
        if self.method.own_stop or not self.method.iterative or stop == "fixed":
            return y, A, None
        if stop == "noise" and not problem.noise_norm > 0:
            if "stop" in self.args.changed:
                print("--stop noise: no noise is known, so all updates are made")
            return y, A, None
        self._facts["stop"] = stop
        if stop == "noise":
            decay = self.args.ema_decay if self._averages() else 0.0
            return y, A, AtNoise(A, y, self.args.tau * problem.noise_norm, decay)
        if stop == "es_wmv":
            return y, A, running_variance(self.inner)
        try:
            rng = stream(self.args.data_seed, "held out")
            held = hold_out(A, self.args.hold_out, rng).to(y.device)
        except ValueError as error:  # such as k-space that is sampled in its centre only
            raise InputError(f"--stop holdout: {error}") from error
        return torch.where(held, 0, y), without(A, held), HeldOut(A, y, held)

    def save(self, x_hat: Tensor) -> None:
        """Write the reconstruction and what else there is; print the figures.

        --result average takes the average over the images in x_hat's place, and --finish
        consistency brings the result nearer to the measurements.

        Args:
            x_hat: the method's result, (1, *A.in_shape).
        """
        loop, problem, rule = self._loop, self._problem, self._rule
        loop.close()
        if not bool(torch.isfinite(x_hat).all()):
            raise RunFailed(f"{self.method.name}: its image holds NaN or Inf")
        images = {"input": problem.A.pinv(problem.y), "final": x_hat}
        if loop.k > 0 and self.method.iterative:
            if self._averages():
                images |= {"final": loop.averaged(), "last": x_hat}
            elif not self.method.own_average:
                images["ema"] = loop.averaged()
        if isinstance(rule, AtNoise):
            made, tau = f"after {loop.k * self.inner} updates", self.args.tau
            if rule.stop:
                print(f"stopped at the noise (tau {tau:g}), {made}")
            elif rule.value > rule.limit:
                times = (
                    f"{rule.value / problem.noise_norm:.2g} times the noise, above --tau {tau:g}"
                )
                print(f"{made} the misfit is {times}; a larger --K may bring it down")
        elif rule is not None:
            images["stopped"] = rule.best
            self._facts["step_stopped"] = rule.best_step * self.inner
            loop.compare_with_oracle(rule.best, rule.best_step * self.inner)
        if loop.chosen_step is not None:
            loop.compare_with_oracle(x_hat, loop.chosen_step)
        seconds = loop.seconds()
        if self._finishes():
            result = "stopped" if "stopped" in images else "final"
            print("the last step, nearer to the measurements ...", flush=True)
            images["unfinished"], started = images[result], time.perf_counter()
            with at_work("the last step"):
                images[result] = consistent(
                    images[result], problem.y, problem.A, problem.noise_norm,
                    exact=problem.x_true is not None and problem.noise_norm == 0,
                )  # fmt: skip
            seconds += time.perf_counter() - started
        if self.parts:
            parts = {part.method.name: part.metrics for part in self.parts}
            seconds += sum(metrics["seconds"] for metrics in parts.values())
            self._facts |= {
                "parts": {name: metrics["run"] for name, metrics in parts.items()},
                "doubts": [
                    f"{name}: {d}" for name, m in parts.items() for d in m.get("doubts", ())
                ],
            }
        self._facts["seconds"] = seconds
        self.metrics = save_results(self.folder, loop, images, problem, self.method, self._facts)


def unfinished(runs: list[Run]) -> Iterator[Run]:
    """Yield the runs that are not complete yet; say so of the others.

    Raises:
        InputError: the only run's folder holds other settings, or cannot be written.
    """
    for run in runs:
        if not run.lone:
            print(f"-- {run.method.name}")
        run.parts = [part for part in runs if part.method.name in run.method.parts]
        lacking = run.method.lacks(run.args)
        if unmade := [part.method.name for part in run.parts if part.metrics is None]:
            lacking = f"it needs the image of {' and of '.join(unmade)}"
        if lacking is not None:
            run.leave_out(lacking)
            continue
        try:
            if run.finished():
                continue
        except InputError as error:
            if run.lone:
                raise
            run.fail(error)
            continue
        yield run


def running_variance(inner: int) -> RunningVariance:
    """Make the rule of --stop es_wmv: ES-DIP's window and patience, in weight updates.

    Args:
        inner: weight updates between two iterates.
    """
    defaults = inspect.signature(RunningVariance).parameters
    window, patience = (defaults[name].default for name in ("window", "patience"))
    return RunningVariance(max(window // inner, 2), max(patience // inner, 1))
