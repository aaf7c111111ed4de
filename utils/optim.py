"""The loss terms, the optimizer and the gradient step that all methods share."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from utils.graphs import Graphed


def sqnorm(a: Tensor, b: Tensor) -> Tensor:
    """Compute ||a - b||_2^2, the sum of |a_i - b_i|^2 over all entries.

    Args:
        a, b: real or complex tensors of one shape and one dtype.

    Returns:
        Scalar real tensor.

    Raises:
        ValueError: shapes or dtypes differ; a loss never broadcasts.
    """
    return difference(a, b).square().sum()


def norm(a: Tensor, b: Tensor) -> Tensor:
    """Compute ||a - b||_2; its gradient where a equals b is 0. As sqnorm otherwise."""
    return torch.linalg.vector_norm(difference(a, b))


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    """Compute ||a - b||_2^2 / n over the n real numbers that b holds. As sqnorm otherwise."""
    return difference(a, b).square().mean()


# How a task measures the two terms of eq. (3), by the value of --loss: the paper's squares; the
# norms of the authors' public code for MRI and CT; the means of their other scripts.
DISTANCES = {"squares": sqnorm, "norms": norm, "means": mean_square}


def difference(a: Tensor, b: Tensor) -> Tensor:
    """Return a - b as real numbers, or raise ValueError unless shapes and dtypes are the same."""
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(
            f"a loss compares tensors of one shape and dtype, got {a.dtype} {tuple(a.shape)} "
            f"and {b.dtype} {tuple(b.shape)}"
        )
    d = a - b
    return torch.view_as_real(d) if d.is_complex() else d


class Adam(torch.optim.Adam):
    """PyTorch's Adam, for weights of any memory layout, without copies of them.

    The fused step on a CPU goes through memory whatever the shapes are: it mixes up a weight and
    a gradient of another layout, and copies whatever is not contiguous, there and back. So each
    weight goes through it as a contiguous view, with a gradient in the same order.
    """

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        has_complex = super()._init_group(group, *lists)
        weights, gradients, *moments = lists
        for i, (w, g) in enumerate(zip(weights, gradients)):
            if g.stride() != w.stride():
                gradients[i] = torch.empty_like(w).copy_(g)
        last = [w.ndim == 4 and not w.is_contiguous() for w in weights]  # channels lie last
        for tensors in (weights, gradients, *moments):  # and counts of steps, which are scalars
            tensors[:] = [
                t.permute(0, 2, 3, 1) if turned and t.ndim == 4 else t
                for t, turned in zip(tensors, last)
            ]
        return has_complex


def adam(
    parameters: Iterable[Tensor] | list[dict[str, Any]], lr: float, weight_decay: float = 0.0
) -> Adam:
    """Make Adam in its quickest form for the parameters' device.

    Args:
        parameters: tensors on one device, or PyTorch's groups of them.
        lr: learning rate, where a group has none of its own.
        weight_decay: factor of the parameters that is added to their gradients.
    """
    optimizer = Adam(parameters, lr, weight_decay=weight_decay)
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    quickest = {
        "fused": None if any(tensor.is_complex() for tensor in tensors) else True,
        "capturable": tensors[0].is_cuda,  # in a CUDA graph
    }
    return Adam([group | quickest for group in optimizer.param_groups], lr, **quickest)


class Update:
    """Take one gradient step per call; the optimizer's state lives on between calls.

    Args:
        objective: maps the network input z to the image f(z), and to {"loss": scalar, other terms
            to log: scalars}, all real and of one dtype.
        optimizer: of the network's weights, and of whatever else the objective depends on.
        graph: replay the step as a CUDA graph; the objective and the optimizer must be as
            utils.graphs.Graphed asks, the latter as `adam` makes it.
    """

    def __init__(
        self,
        objective: Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]],
        optimizer: torch.optim.Optimizer,
        graph: bool = False,
    ) -> None:
        self.objective = objective
        self.optimizer = optimizer
        self.terms: dict[str, Tensor] = {}  # of the latest call, on the device, before its step
        self._names: tuple[str, ...] = ()
        self._step = Graphed(self._eager_step) if graph else self._eager_step

    def __call__(self, z: Tensor) -> Tensor:
        """Step once at the network input z; return the image f(z) from before the step."""
        x, values = self._step(z)
        self.terms = dict(zip(self._names, values.unbind(), strict=True))
        return x

    def _eager_step(self, z: Tensor) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        x, terms = self.objective(z)
        terms["loss"].backward()
        self.optimizer.step()
        self._names = tuple(terms)
        return x.detach(), torch.stack([term.detach() for term in terms.values()])

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the optimizer's state, which another device may have saved."""
        groups = zip(state["param_groups"], self.optimizer.param_groups, strict=True)
        state = state | {
            "param_groups": [
                saved | {name: here[name] for name in ("fused", "capturable") if name in here}
                for saved, here in groups
            ]
        }
        self.optimizer.load_state_dict(state)
        for parameter, kept in self.optimizer.state.items():
            for name, value in kept.items():
                if value.shape == parameter.shape:  # in the same layout: Adam goes through memory
                    kept[name] = torch.empty_like(parameter).detach().copy_(value)


class Output:
    """Make the next input of a network: eq. (4) of aSeqDIP, without gradients, on CUDA as a graph.

        z <- f(z)

    Args:
        net: network of one input, as utils.graphs.Graphed asks.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self._forward = Graphed(self._eager_forward)

    def __call__(self, z: Tensor) -> Tensor:
        """Compute the next input from z, detached."""
        (x,) = self._forward(z)
        return x

    @torch.no_grad()
    def _eager_forward(self, z: Tensor) -> tuple[Tensor]:
        return (self.net(z),)


def minimise(objective: Callable[[Tensor], Tensor], x: Tensor, max_iter: int) -> Tensor:
    """Minimise a smooth real function of an image by L-BFGS.

    Args:
        objective: maps an image to a real scalar; gradients flow to the image.
        x: where it starts, real; it is left as it is.
        max_iter: iterations at most, of two evaluations in the mean at most; it ends where a line search finds nothing lower.

    Returns:
        The last image, shaped as x.

    Reference:
        Liu and Nocedal, On the limited memory BFGS method, Math. Program. 1989, of PyTorch, with a
        line search for the strong Wolfe conditions.
    """
    u = x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    solver = torch.optim.LBFGS(
        [u], max_iter=max_iter, max_eval=2 * max_iter, history_size=20, tolerance_grad=0,
        tolerance_change=0, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def evaluate() -> Tensor:
        solver.zero_grad()
        value = objective(u)
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(evaluate)
    return u.detach()
