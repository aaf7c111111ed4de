"""What is reconstructed, as a script reads it: a scan, a slice, a picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils.errors import require
from utils.files import content_hash, file_hash
from utils.randomness import stream


@dataclass
class Item:
    """What a script's `load` reads: a scan, a slice, a picture; subclasses add their arrays.

    Attributes:
        item: short name for folders and tables.
        source: where it comes from, for the reader.
        path: its file, None for an embedded sample.
        library_file: of an embedded sample, the file of a library that holds it.
        beside: what else the user brings that decides the result: arrays, SHA-256 of files, None
            for what is absent.
        named: fields of args that only name what is in the content.
    """

    item: str
    source: str
    path: Path | None = field(default=None, kw_only=True)
    library_file: Path | None = field(default=None, kw_only=True)
    beside: tuple[np.ndarray | str | None, ...] = field(default=(), kw_only=True)
    named: frozenset[str] = field(default=frozenset(), kw_only=True)

    @property
    def own(self) -> tuple[np.ndarray | str, ...]:
        """What tells this item from others, the same on every machine."""
        raise NotImplementedError

    def rng(self, seed: int, purpose: str) -> torch.Generator:
        """Make the generator of what is simulated; an item of another name draws other numbers.

        Args:
            seed: --data-seed.
            purpose: what is drawn, such as "noise".
        """
        return stream(seed, f"{purpose} of {self.item}")

    @property
    def channels(self) -> int:
        """Of the image, as a diffusion prior counts them: 2 for a complex one."""
        raise NotImplementedError

    @property
    def content(self) -> tuple[np.ndarray | str | None, ...]:
        """All data that decide the result."""
        return (*self.own, *self.beside)

    @property
    def file(self) -> Path | None:
        """The file that holds it, also where it is a sample; None where none does."""
        return self.library_file if self.path is None else self.path

    @property
    def facts(self) -> dict[str, str | None]:
        """What a file of trained weights tells of an image that they have seen."""
        return {
            "item": self.item,
            "source": self.source,
            "sha256": content_hash(self.content[0]),
            "file_sha256": None if self.file is None else file_hash(self.file),
        }


def refuse_seen(item: Item, seen: Sequence[dict[str, Any]], what: str) -> None:
    """Raise InputError if weights were trained on the image that is to be reconstructed.

    Images are the same if their content is, or their file, even where it holds several; samples
    without a file, if their source is.

    Args:
        item: that image.
        seen: the facts of each image that they were trained on.
        what: holds the weights, such as "encoder".
    """
    if not seen:
        return
    own = item.facts
    for other in seen:
        name = "source" if own["file_sha256"] is None else "file_sha256"
        where = "it" if own["sha256"] == other.get("sha256") else "its file"
        require(
            own["sha256"] != other.get("sha256") and own[name] != other.get(name),
            f"{item.source}: the {what} was trained on {where} ({other.get('source')}), so it would "
            f"be no test; take another image, or another {what}",
        )
