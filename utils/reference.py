"""The reference image of Ref-Guided DIP: data from elsewhere, chosen without the truth."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from skimage.transform import resize
from torch import Tensor

from operators.base import Operator
from utils.errors import require
from utils.files import file_hash, files_of


def choose_reference(
    path: Path,
    suffixes: tuple[str, ...],
    load: Callable[[Path], np.ndarray],
    data: Path | None,
    y: Tensor,
    A: Operator,
    also: Callable[[Path], bool] = lambda path: False,
) -> tuple[Tensor, dict[str, Any]]:
    """Read the images that --reference names and choose the one nearest to the measurements.

    Args:
        path: a file, or a folder of files.
        suffixes, also: which files of a folder are taken, as for files_of.
        load: reads a file's image, (h, w) real; it is resampled to the problem's size.
        data: the file that is being reconstructed; it is no candidate, nor are copies of it.
        y, A: the problem.

    Returns:
        The image, (1, *A.in_shape), scaled so that its own direct reconstruction is as large as
        that of y; what metrics.json is to hold of it.

    Raises:
        InputError: there is no file, or none but the one that is being reconstructed.
    """
    require(path.exists(), f"{path}: no such file or folder; give --reference one")
    files = files_of(path, suffixes, also)
    own = None if data is None else file_hash(data)
    others = [f for f in files if file_hash(f) != own]
    require(
        len(others) > 0,
        f"{path}: the scan that is to be reconstructed is no reference for itself; give "
        "--reference the scan of another patient",
    )
    direct = A.pinv(y)
    candidates = []
    for file in others:
        image = resize(load(file), A.in_shape[-2:], order=1, anti_aliasing=True)
        candidates.append(torch.from_numpy(image)[None, None].to(direct))
    index, distances = nearest_reference(candidates, y, A)
    x = candidates[index]
    x = x * (direct.abs().max() / A.pinv(A(x)).abs().max())
    print(
        f"reference (prior data): {others[index]}, nearest of {len(others)}, "
        f"distance {distances[index]:.3f}"
    )
    return x, {"reference": str(others[index]), "reference_distance": distances[index]}


@torch.no_grad()
def nearest_reference(
    candidates: Sequence[Tensor], y: Tensor, A: Operator
) -> tuple[int, list[float]]:
    """Choose the reference image whose measurements look most like y.

        argmin_c || |pinv(A x_c)| / ||pinv(A x_c)|| - |pinv(y)| / ||pinv(y)|| ||

    A candidate goes through the measurement before it is compared, so that the artefacts are the
    same on both sides, and its scale and phase do not count. This uses prior data: candidates
    must come from other patients than y, or the comparison with other methods is not fair.

    Args:
        candidates: fully sampled images x_c, (1, *A.in_shape) each; real magnitudes or complex.
        y: measurements, (1, *A.out_shape).
        A: forward operator.

    Returns:
        Index of the nearest candidate, and the distance of each, between 0 and sqrt(2).

    Raises:
        ValueError: there is no candidate.

    Reference:
        aSeqDIP, appendix C.6: "a distance metric such as Euclidean distance". Differs from the
        paper: nothing; what is compared, and how it is scaled, is not told there.
    """
    if not candidates:
        raise ValueError("expected at least one candidate for the reference image, got none")
    target = A.pinv(y)
    measured = [A.pinv(A(x.to(target))) for x in candidates]
    distances = [(_direction(x) - _direction(target)).norm().item() for x in measured]
    return min(range(len(distances)), key=distances.__getitem__), distances


def _direction(x: Tensor) -> Tensor:
    """Return the magnitudes of x at unit norm; those of a black image stay 0."""
    return F.normalize(x.abs().flatten(), dim=0)
