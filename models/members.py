"""Networks of one kind whose images are averaged."""

import copy

import torch
from torch import nn


def members_of(net: nn.Module, n: int, rng: torch.Generator) -> nn.ModuleList:
    """Return a network and n - 1 more of its kind.

    Each of the others starts from its weights, shuffled. Where weights are drawn independently
    this equals a fresh draw.

    Args:
        net: untrained.
        n: at least 1.
        rng: CPU generator of the orders.

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"members: expected at least 1, got {n}")
    return nn.ModuleList([net, *(with_shuffled_weights(net, rng) for _ in range(n - 1))])


def with_shuffled_weights(net: nn.Module, rng: torch.Generator) -> nn.Module:
    """Copy a network; each of its weight tensors has its values in another, random order."""
    other = copy.deepcopy(net)
    with torch.no_grad():
        for w in other.parameters():
            order = torch.randperm(w.numel(), generator=rng).to(w.device)
            w.copy_(w.flatten()[order].view(w.shape))
    return other
