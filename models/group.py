"""Networks of several images that have their encoder in common: UGoDIT's."""

from collections.abc import Sequence

from torch import Tensor, nn

from utils.tensors import pack, unpack


def encoder_of(net: nn.Module) -> nn.ModuleDict:
    """Return the encoder of a network, the parts that its class names in ENCODER.

    Args:
        net: UNet or SkipNet, or what wraps one as its `net`.
    """
    inner = unwrapped(net)
    return nn.ModuleDict({name: getattr(inner, name) for name in inner.ENCODER})


def unwrapped(net: nn.Module) -> nn.Module:
    """Return the network that has an ENCODER, without what wraps it."""
    while not hasattr(net, "ENCODER"):
        net = net.net
    return net


class Group(nn.Module):
    """Map M images, each through the decoder of its own: f_m = g_m(h(z_m)), with one encoder h.

    Each image makes a pass of its own, so that images may differ in size and no statistics of
    BatchNorm mix them. The work is that of M networks.

    Args:
        nets: M networks of one shape; the encoder is that of the first.
        shapes: (C, H_m, W_m) of the images.
    """

    def __init__(self, nets: Sequence[nn.Module], shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        for net in nets[1:]:
            for name, part in encoder_of(nets[0]).items():
                setattr(unwrapped(net), name, part)
        self.nets = nn.ModuleList(nets)
        self.shapes = list(shapes)

    def forward(self, z: Tensor) -> Tensor:
        """Compute f(z) = (g_1(h(z_1)), ..., g_M(h(z_M))).

        Args:
            z: (1, n), the M images as pack makes them.

        Returns:
            (1, n) of the same dtype.
        """
        images = unpack(z, self.shapes)
        return pack([net(image) for net, image in zip(self.nets, images, strict=True)])
