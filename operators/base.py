"""What every forward operator has: checked shapes, and measurements that can be held out."""

import torch
from torch import Tensor, nn


class Operator(nn.Module):
    """A measurement operator A with its adjoint and a direct reconstruction.

    Subclasses hold masks, maps or kernels as buffers, do not change after construction, and
    define forward(x) -> A x (noiseless), adjoint(y) -> A^H y and pinv(y) -> x.

    Args:
        in_shape: shape of one image x, without the batch axis.
        out_shape: shape of one measurement y, without the batch axis.
    """

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.out_shape = tuple(out_shape)

    def check_image(self, x: Tensor) -> None:
        """Raise ValueError unless x is (B, *in_shape)."""
        self._check("image x", x, self.in_shape)

    def check_measurement(self, y: Tensor) -> None:
        """Raise ValueError unless y is (B, *out_shape)."""
        self._check("measurement y", y, self.out_shape)

    def check_selection(self, selection: Tensor) -> None:
        """Raise ValueError unless a selection of measurements is bool of shape out_shape."""
        if selection.dtype != torch.bool or tuple(selection.shape) != self.out_shape:
            raise ValueError(
                f"{type(self).__name__}: expected a selection of measurements, bool of shape "
                f"{self.out_shape}, got {selection.dtype} {tuple(selection.shape)}"
            )

    def hold_out(self, share: float, generator: torch.Generator) -> Tensor:
        """Choose measurements to hold out: the rest reconstructs, they judge.

        By default a random share of the positions over the last two axes, the same in all
        channels.

        Args:
            share: of what can be held out, in (0, 0.5]; at least one position is.
            generator: CPU generator of the choice.

        Returns:
            out_shape bool on the CPU, True for a measurement that is held out.

        Raises:
            ValueError: the share is not as above, or nothing can be held out.
        """
        everywhere = torch.ones(self.out_shape[-2:], dtype=torch.bool)
        return choose_positions(everywhere, share, generator).expand(self.out_shape)

    def without(self, held: Tensor) -> "Operator":
        """Return the operator of the measurements that are not held out.

        What y has in held entries does not matter to it.

        Args:
            held: out_shape bool, True for a measurement that is held out.

        Raises:
            ValueError: held is of another shape or dtype.
        """
        from operators.subset import Subset  # not at the top: it is an Operator itself

        self.check_selection(held)
        return Subset(self, ~held)

    def _positions(self, held: Tensor) -> Tensor:
        """Return the (H, W) positions that are held out in all channels or coils alike."""
        self.check_selection(held)
        if not (held == held[:1]).all():
            raise ValueError(
                f"{type(self).__name__}: expected the same positions to be held out in all "
                "channels, got channels that differ"
            )
        return held[0]

    def _check(self, what: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        if tensor.ndim != len(shape) + 1 or tuple(tensor.shape[1:]) != shape:
            expected = ", ".join(["B", *map(str, shape)])
            raise ValueError(
                f"{type(self).__name__}: expected {what} of shape ({expected}), "
                f"got {tuple(tensor.shape)}"
            )


def choose_positions(candidates: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Choose a random share of what is True, to the nearest whole number but at least one.

    Args:
        candidates: bool, any shape.
        share: in (0, 0.5].
        generator: CPU generator.

    Returns:
        Bool of the same shape, on the CPU.

    Raises:
        ValueError: the share is not as above, or there are no candidates.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"the share to hold out must lie in (0, 0.5], got {share}")
    places = candidates.cpu().flatten().nonzero().flatten()
    if len(places) == 0:
        raise ValueError("nothing can be held out: no measurement, or none outside the centre")
    order = torch.randperm(len(places), generator=generator)
    chosen = torch.zeros(candidates.numel(), dtype=torch.bool)
    chosen[places[order[: max(1, round(share * len(places)))]]] = True
    return chosen.view(candidates.shape)
