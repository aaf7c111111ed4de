"""How exactly a network computes; what is around it always computes in its own dtype."""

from typing import Literal

import torch
from torch import Tensor, nn

# fp32: 24 bits of mantissa; tf32: products of 11, on CUDA; bf16: 8 bits for all of the network
# but its sums and its weights.
Precision = Literal["fp32", "tf32", "bf16"]


class Bfloat16(nn.Module):
    """Run a network under autocast to bfloat16; what comes out is as exact as what came in.

    Autocast leaves weights and batch statistics in float32, and with them gradients and the
    optimizer.

    Args:
        net: network that keeps its input's dtype.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.in_channels = net.in_channels

    def forward(self, z: Tensor) -> Tensor:
        """Compute f(z) in z's dtype."""
        # Without its cache: casts that a CUDA graph has not recorded would not be replayed.
        with torch.autocast(z.device.type, torch.bfloat16, cache_enabled=False):
            x = self.net(z)
        return x if x.is_complex() else x.to(z.dtype)


def place(net: nn.Module, device: torch.device, precision: Precision) -> nn.Module:
    """Move a network to a device, in the memory layout that is quickest there.

    Channels lie last on a CPU, and for the tensor cores of a GPU (docs/performance.md).

    Args:
        net: network with `in_channels`.
        device: where y is.
        precision: fp32, tf32 (on CUDA set_up_device has allowed it), bf16.
    """
    last = device.type == "cpu" or precision != "fp32"
    layout = torch.channels_last if last else torch.contiguous_format
    net = net.to(device, memory_format=layout)
    return Bfloat16(net) if precision == "bf16" else net
