"""What was trained elsewhere and a run is given: diffusion networks, VarNet's weights."""

import functools
import os
import pickle
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from models.diffusion import Prior, load_prior
from utils.errors import InputError, require
from utils.files import DAMAGED, load_torch, reason
from utils.methods import Method
from utils.sampling import padded

VARNET_SEEN = (
    "the public weights were trained on fastMRI's training and validation files: those are no "
    "test of them"
)


def choose(paths: tuple[Path, ...], method: Method, channels: int) -> Path:
    """Choose the file of --prior that a method takes: the first that fits.

    One of the kind that the method was made for goes first, variance-exploding or not, and of a
    complex image one that has seen both parts together.

    Args:
        paths: of --prior, at least one.
        method: has needs `prior`.
        channels: of the image: 2 for a complex one.

    Raises:
        InputError: a file is missing or no prior, or none fits.
    """
    for path in paths:
        require(path.is_file(), f"--prior {path}: no such file")
    if len(paths) == 1:
        return paths[0]  # whether it fits is looked at when it is read for good
    fits = {2: (2, 1)}.get(channels, (channels,))
    looks = {path: _look(path, os.stat(path).st_mtime_ns) for path in paths}
    fitting = [path for path in paths if looks[path][0] in fits]
    require(
        bool(fitting),
        f"--prior: none fits an image of {channels} channels, got "
        + ", ".join(f"{path} of {looks[path][0]}" for path in paths),
    )

    def distance(path: Path) -> tuple[bool, int]:
        there, exploding = looks[path]
        return exploding != method.exploding, fits.index(there)

    return min(fitting, key=distance)


@functools.cache
def _look(path: Path, changed: int) -> tuple[int, bool]:
    """Return a prior's channels, and whether it is variance-exploding."""
    prior = load_prior(path)
    return prior.channels, prior.exploding


def described(prior: Prior, sides: tuple[int, int]) -> str:
    """Say what a prior is, and what it makes of an image's size.

    Args:
        prior: of a file.
        sides: (H, W) of the image.
    """
    text = prior.description()
    height, width = sides
    whole = padded(sides, prior.multiple)
    rows, columns = prior.tiles(whole)
    if (height, width) != (prior.size, prior.size):
        text += f"; used on {height}x{width} pixels"
        text += " as a whole" if len(rows) * len(columns) == 1 else ""
    if whole != (height, width):
        text += ", mirrored to {}x{},".format(*whole)
    if len(rows) * len(columns) > 1:
        text += (
            f" in {len(rows)}x{len(columns)} overlapping tiles, since it learned from crops of "
            f"{prior.size}x{prior.size}"
        )
    return text.removesuffix(",")


def read_varnet(path: Path) -> dict[str, Tensor]:
    """Read the state of a fastMRI VarNet.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    require(path.is_file(), f"--varnet-weights {path}: no such file")
    try:
        if zipfile.is_zipfile(path):
            state = load_torch(path)
        else:  # as PyTorch wrote until 2020
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or "cascades.0.dc_weight" not in state:
            raise ValueError("it holds something else")
    except (*DAMAGED, pickle.UnpicklingError) as error:
        raise InputError(
            f"--varnet-weights {path}: not the state of a fastMRI VarNet, or damaged "
            f"({reason(error)})"
        ) from error
    return state
