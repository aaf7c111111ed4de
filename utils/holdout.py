"""Measurements that are held out: the rest reconstructs, they judge."""

import torch
from torch import Tensor

from operators.base import Operator
from operators.mri import MultiCoilMRI
from operators.pixels import PixelMask
from operators.subset import Subset, check_selection


def hold_out(A: Operator, share: float, generator: torch.Generator) -> Tensor:
    """Choose a random share of an operator's measurements, the same in all channels or coils.

    Of MRI with a mask of columns, lines along H: whole columns outside the unbroken run around
    zero frequency. Of a mask of rows: whole rows. A line may be cut off at its ends, by an
    elliptical shutter or a partial echo, but has no gaps. Of any other mask in MRI, such as columns
    that rows in the centre cross: points outside the largest fully sampled square. So the
    calibration of the sensitivity maps stays as it is. Of a mask of pixels, known pixels; of
    Subset, what is kept. Of all others, positions over the last two axes.

    Args:
        A: forward operator.
        share: of what can be held out, in (0, 0.5]; at least one position is.
        generator: CPU generator of the choice.

    Returns:
        A.out_shape bool on the CPU, True for a measurement that is held out.

    Raises:
        ValueError: the share is not as above, or nothing can be held out.
    """
    if isinstance(A, MultiCoilMRI):
        held = _of_kspace(A.mask.cpu(), share, generator)
    elif isinstance(A, PixelMask):
        held = choose_positions(A.mask, share, generator)
    elif isinstance(A, Subset):
        held = choose_positions(A.keep.flatten(end_dim=-3).all(dim=0), share, generator)
    else:
        everywhere = torch.ones(A.out_shape[-2:], dtype=torch.bool)
        held = choose_positions(everywhere, share, generator)
    return held.expand(A.out_shape)


def without(A: Operator, held: Tensor) -> Operator:
    """Return the operator of the measurements that are not held out.

    What y has in held entries does not matter to it. Of a mask, in MRI or of pixels, it is the
    smaller mask.

    Args:
        A: forward operator.
        held: A.out_shape bool, True for a measurement that is held out; of a mask the same in all
            channels or coils.

    Raises:
        ValueError: held is not as above.
    """
    check_selection(A, held)
    if not isinstance(A, (MultiCoilMRI, PixelMask)):
        return Subset(A, ~held)
    if not (held == held[:1]).all():
        raise ValueError(
            f"{type(A).__name__}: expected the same positions to be held out in all channels, got "
            "channels that differ"
        )
    mask = A.mask & ~held[0].to(A.mask)
    if isinstance(A, PixelMask):
        return PixelMask(mask, A.out_shape[0])
    return MultiCoilMRI(A.sens_maps, mask)


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
        raise ValueError(
            "nothing can be held out: no measurement, or none outside the centre, which is all of a "
            "fully sampled scan"
        )
    order = torch.randperm(len(places), generator=generator)
    chosen = torch.zeros(candidates.numel(), dtype=torch.bool)
    chosen[places[order[: max(1, round(share * len(places)))]]] = True
    return chosen.view(candidates.shape)


def _of_kspace(mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Choose among the sampled points of a mask, (H, W) bool on the CPU."""
    unbroken = [_without_gaps(lines) for lines in (mask, mask.T)]
    for columnwise, turned in ((mask, False), (mask.T, True)):
        columns = columnwise.any(dim=0)
        outside = columns & ~central_columns(columns)
        # Nothing is outside where rows in the centre cross the columns, or all was sampled.
        if unbroken[turned] and (outside.any() or all(unbroken)):
            held = columnwise & choose_positions(outside, share, generator)
            return held.T if turned else held
    return choose_positions(mask & ~central_square(mask), share, generator)


def _without_gaps(mask: Tensor) -> bool:
    """Tell whether each column of a mask, (H, W) bool, is one run of samples, or empty."""
    starts = mask.clone()  # True where a run begins
    starts[1:] &= ~mask[:-1]
    return bool((starts.sum(dim=0) <= 1).all())


def central_columns(columns: Tensor) -> Tensor:
    """Find the unbroken run of sampled columns around zero frequency.

    Args:
        columns: (W,) bool, True where a column is sampled.

    Returns:
        (W,) bool, True in the run; empty where zero frequency, W // 2, is not sampled.
    """
    centre = len(columns) // 2
    right = columns[centre:].cumprod(dim=0)
    left = columns[: centre + 1].flip(0).cumprod(dim=0).flip(0)
    return torch.cat((left[:-1], right)).bool()


def central_square(mask: Tensor) -> Tensor:
    """Find the largest fully sampled square around zero frequency, at index n // 2.

    Args:
        mask: (H, W) bool, True where k-space is sampled.

    Returns:
        (H, W) bool, True in the square, which may reach beyond the shorter side.
    """
    sides = []  # of the smallest centred interval that holds an index: 2d + 1, or -2d before 0
    for n in mask.shape:
        d = torch.arange(n, device=mask.device) - n // 2
        sides.append(torch.where(d < 0, -2 * d, 2 * d + 1))
    side = torch.maximum(sides[0][:, None], sides[1])
    gaps = side[~mask]
    return side < gaps.min() if len(gaps) else torch.ones_like(mask)
