"""Random streams."""

import torch

from utils.randomness import stream


def draw(*arguments):
    return torch.rand(1000, generator=stream(*arguments))


def test_a_stream_is_decided_by_seed_and_purpose_and_touches_nothing_global():
    before = torch.get_rng_state()
    assert torch.equal(draw(0, "z0"), draw(0, "z0"))
    others = [draw(1, "z0"), draw(0, "input noise"), draw(2**32, "z0"), draw(2**63 - 1, "z0")]
    others.append(torch.rand(1000, generator=torch.Generator().manual_seed(0)))  # the weights'
    for other in others:
        assert abs(torch.corrcoef(torch.stack((draw(0, "z0"), other)))[0, 1]) < 0.15
    assert torch.equal(torch.get_rng_state(), before)
