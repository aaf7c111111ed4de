"""The task scripts by name, and a problem as they build it."""

from pathlib import Path
from typing import Any

import aseqdip_ct
import aseqdip_deblurring
import aseqdip_denoising
import aseqdip_inpainting
import aseqdip_mri
import aseqdip_superresolution
from utils.cli import set_up_device
from utils.errors import require
from utils.item import Item
from utils.problem import Problem

SCRIPTS = {
    "mri": aseqdip_mri,
    "ct": aseqdip_ct,
    "denoising": aseqdip_denoising,
    "inpainting": aseqdip_inpainting,
    "deblurring": aseqdip_deblurring,
    "superresolution": aseqdip_superresolution,
}


def build(script: Any, args: Any) -> tuple[Item, Problem]:
    """Set up the device, read args.data (None for the sample) and build the task's problem."""
    device = set_up_device(args)
    item = script.load(args, args.data)
    return item, script.build_problem(args, item, device)


def size_field(task: str) -> str:
    """Name the field of a task's Args that sets the side of its images."""
    return "crop" if task == "mri" else "resize"


def tasks_and_files(items: tuple[str, ...]) -> list[tuple[str, Path]]:
    """Read the TASK=FILE that a study is given.

    Raises:
        InputError: there is none, one has no such task or no such file, or two have one name.
    """
    require(len(items) > 0, "name what is studied as TASK=FILE, such as denoising=photo.png")
    pairs = []
    for item in items:
        task, _, name = item.partition("=")
        require(
            task in SCRIPTS and Path(name).is_file(),
            f"{item}: expected TASK=FILE, TASK one of {', '.join(SCRIPTS)}",
        )
        require(
            (task, Path(name).stem) not in [(t, file.stem) for t, file in pairs],
            f"{item}: another file of this task has the same name; rename one",
        )
        pairs.append((task, Path(name)))
    return pairs
