"""Random streams that never share their numbers."""

import zlib

import numpy as np
import torch


def stream(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Make a generator for one purpose; equal seeds of other purposes draw other numbers.

    PyTorch's generators would draw the same numbers for the weights of seed 0 and for the noise
    of seed 0.

    Args:
        seed: whole number from 0 to 2^63 - 1.
        purpose: what is drawn, such as "z0".
        device: where it is drawn; CPU and CUDA draw different numbers.
    """
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode(errors="surrogateescape"))])
    return torch.Generator(device).manual_seed(int(sequence.generate_state(1)[0]))
