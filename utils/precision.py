"""How exactly a network computes; what is around it always computes in its own dtype."""

from typing import Literal

import torch
from torch import Tensor, nn

from models.diffusion import Prior

# fp32: 24 bits of mantissa; tf32: products of 11, on CUDA; bf16: 8 bits for all of the network
# but its sums and its weights; auto: bf16 or fp32, as utils.cli.set_up_device finds.
Precision = Literal["fp32", "tf32", "bf16", "auto"]


class Bfloat16(nn.Module):
    """Run a network in bfloat16; what comes out has the dtype of what came in.

    All weights and the optimizer's state are float32. Each pass rounds the convolutions' weights
    to bfloat16, 0.3 % of an update; a rounded copy that is kept would go stale when a method
    changes the weights itself. The features stay in bfloat16 from end to end. BatchNorm takes its
    statistics in float32.

    Args:
        net: network from (B, net.in_channels, H, W) to (B, C, H, W), both real. What it takes
            besides, such as the index of a noise level, reaches it as it is.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.in_channels = net.in_channels
        self.rounded = [
            f"{name}.{parameter}"
            for name, module in net.named_modules()
            if isinstance(module, (nn.Conv1d, nn.Conv2d))
            for parameter, _ in module.named_parameters()
        ]

    def forward(self, z: Tensor, *rest: Tensor) -> Tensor:
        """Compute f(z, ...) in z's dtype."""
        weights = {name: self.net.get_parameter(name).to(torch.bfloat16) for name in self.rounded}
        x = torch.func.functional_call(self.net, weights, (z.to(torch.bfloat16), *rest))
        return x.to(z.dtype)


class Autocast(nn.Module):
    """Run a frozen network in bfloat16 where PyTorch's autocast finds it safe; its output is float32.

    Args:
        net: network of any layers, (x, t) -> (B, C, H, W).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Compute net(x, t)."""
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.net(x, t).float()


def place(net: nn.Module, device: torch.device, precision: Precision) -> nn.Module:
    """Move a network to a device, in the memory layout that is quickest there.

    Channels lie last on a CPU, and for the tensor cores of a GPU (docs/performance.md).

    Args:
        net: network with `in_channels`. One that only wraps another, as its `net`, goes on
            computing in float32: bf16 is for the innermost. Or a prior, whose network has layers
            of other kinds and is not trained.
        device: where y is.
        precision: fp32, tf32 (on CUDA set_up_device has allowed it), bf16.
    """
    last = device.type == "cpu" or precision != "fp32"
    layout = torch.channels_last if last else torch.contiguous_format
    net = net.to(device, memory_format=layout)
    if precision != "bf16":
        return net
    if isinstance(net, Prior):
        net.net = Autocast(net.net)
        return net
    if not hasattr(net, "net"):
        return Bfloat16(net)
    wrapper = net
    while hasattr(wrapper.net, "net"):
        wrapper = wrapper.net
    wrapper.net = Bfloat16(wrapper.net)
    return net
