"""UGoDIT's encoders as files: what ugodit_train.py writes and --method ugodit reads."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.group import encoder_of, unwrapped
from utils.errors import InputError, require
from utils.files import DAMAGED, load_torch, reason, write_atomically

KIND = "UGoDIT encoder 1"
KEYS = {"kind", "task", "network", "items", "settings", "state"}
MISFITS = {  # what the user can do where the file's network is another one than this run's
    "width": "give --width as in its training (of pictures it is half of that)",
    "depth": "give --depth as in its training",
    "in_channels": "train one on pictures of as many channels",
    "name": "train one for this task",
}


def description(net: nn.Module) -> dict[str, Any]:
    """Return what an encoder must have in common with a network to fit into it."""
    inner = unwrapped(net)
    return {
        "name": type(inner).__name__,
        "in_channels": inner.in_channels,
        "width": inner.width,
        "depth": inner.depth,
    }


def save(
    path: Path,
    net: nn.Module,
    task: str,
    items: list[dict[str, Any]],
    settings: dict[str, Any],
    **made_by: Any,
) -> None:
    """Write the encoder of a network.

    Args:
        path: the file; an existing one is replaced.
        net: network with an encoder, trained.
        task: what was measured.
        items: the facts (utils.item) of each image that it was trained on.
        settings: of the training.
        made_by: versions and commit, for the reader.
    """
    state = {name: tensor.cpu() for name, tensor in encoder_of(net).state_dict().items()}
    record = {
        "kind": KIND,
        "task": task,
        "network": description(net),
        "items": items,
        "settings": settings,
        **made_by,
        "state": {name: tensor.contiguous() for name, tensor in state.items()},
    }
    write_atomically(path, lambda file: torch.save(record, file))


def read(path: Path, task: str) -> dict[str, Any]:
    """Read an encoder.

    Args:
        path: a file that save has written.
        task: what it is to be used for.

    Raises:
        InputError: it is no such file, damaged, or trained for another task.
    """
    require(path.is_file(), f"{path}: no such file; ugodit_train.py makes encoders")
    try:
        encoder = load_torch(path)
        if not isinstance(encoder, dict) or not encoder.keys() >= KEYS:
            raise ValueError("it holds something else")
        if encoder["kind"] != KIND:
            raise ValueError(f"expected {KIND}, got {encoder['kind']}")
    except DAMAGED as error:
        raise InputError(
            f"{path}: not an encoder of ugodit_train.py, or damaged ({reason(error)})"
        ) from error
    there = encoder["task"]
    require(there == task, f"{path}: an encoder for {there}; train one for {task}")
    return encoder


def fit(net: nn.Module, path: Path, task: str) -> None:
    """Give a network the weights of an encoder's file, and freeze them.

    What is frozen is all there is: the networks' BatchNorm has scales and shifts, which are
    weights, but no running statistics.

    Raises:
        InputError: it is no encoder, or that of another task or another network.
    """
    encoder = read(path, task)
    here = description(net)
    for key, there in encoder["network"].items():
        require(
            there == here[key],
            f"{path}: of a network of {key} {there}, this run's has {here[key]}; {MISFITS[key]}",
        )
    part = encoder_of(net)
    try:
        part.load_state_dict(encoder["state"])
    except RuntimeError as error:
        raise InputError(f"{path}: damaged ({reason(error)}); train it again") from error
    part.requires_grad_(False)


def facts(encoder: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return what metrics.json is to hold: the measurements that the method knew before."""
    return {
        "encoder": str(path),
        "prior_measurements": {
            name: encoder[name] for name in ("items", "settings", "commit") if name in encoder
        },
    }
