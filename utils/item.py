"""What is reconstructed, as a script reads it: a scan, a slice, a picture."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from utils.randomness import stream


@dataclass
class Item:
    """What a script's `load` reads: a scan, a slice, a picture; subclasses add their arrays.

    Attributes:
        item: short name for folders and tables.
        source: where it comes from, for the reader.
        path: its file, None for an embedded sample.
        beside: what else the user brings that decides the result: arrays, SHA-256 of files, None
            for what is absent.
        named: fields of args that only name what is in the content.
    """

    item: str
    source: str
    path: Path | None = field(default=None, kw_only=True)
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
