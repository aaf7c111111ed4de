"""The reference image of Ref-Guided DIP: data from elsewhere, chosen without the truth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.transform import resize
from torch import Tensor

from baselines.ref_guided_dip import nearest_reference
from operators.base import Operator
from utils.cli import files_of
from utils.errors import require
from utils.files import file_hash


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
        suffixes, also: which files of a folder are taken, as for run_items.
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
