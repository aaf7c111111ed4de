"""The U-Net of diffusion models, ADM, with the names of OpenAI's weights."""

import math
from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32  # of GroupNorm; all channels are multiples of it
HEAD_CHANNELS = 64  # of attention
MAX_PERIOD = 10_000  # of the embedding of t


def embedding(t: Tensor, channels: int) -> Tensor:
    """Embed noise levels as cosines, then sines, of t exp(-ln(10000) i / (channels / 2)).

    Args:
        t: (B,).
        channels: even.

    Returns:
        (B, channels) float32.
    """
    half = channels // 2
    frequencies = torch.exp(-math.log(MAX_PERIOD) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=1)


class Norm(nn.GroupNorm):
    """GroupNorm of 32 groups, its statistics in float32, in and out in one dtype."""

    def __init__(self, channels: int) -> None:
        super().__init__(GROUPS, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...)."""
        # PyTorch's backward in bfloat16 takes seven times as long on a CPU.
        dtype = torch.float32 if x.requires_grad and x.dtype == torch.bfloat16 else x.dtype
        weight, bias = self.weight.to(dtype), self.bias.to(dtype)
        return F.group_norm(x.to(dtype), self.num_groups, weight, bias, self.eps).to(x.dtype)


class ResBlock(nn.Module):
    """Add to x what two convolutions make of it; the embedded noise level scales and shifts.

        h = conv(resample(SiLU(norm(x))))
        x <- skip(resample(x)) + conv(SiLU(norm(h) (1 + scale) + shift)),   scale, shift of emb

    Args:
        in_channels, out_channels: channels before and after.
        emb_channels: of the embedded noise level.
        resample: `down` averages 2x2 pixels, `up` repeats each 2x2 times, None leaves the size.
    """

    def __init__(
        self, in_channels: int, out_channels: int, emb_channels: int, resample: str | None = None
    ) -> None:
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(
            Norm(in_channels), nn.SiLU(), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, 2 * out_channels))
        self.out_layers = nn.Sequential(
            Norm(out_channels),
            nn.SiLU(),
            nn.Identity(),  # OpenAI's dropout stands here; the convolution is out_layers.3
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        same = in_channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.resample == "up" else x

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x: (B, in_channels, H, W).
            emb: (B, emb_channels) float32.

        Returns:
            (B, out_channels, H', W').
        """
        norm, activation, conv = self.in_layers
        h = conv(self._resampled(activation(norm(x))))
        scale, shift = self.emb_layers(emb).to(x.dtype)[:, :, None, None].chunk(2, dim=1)
        norm, *rest = self.out_layers
        h = norm(h) * (1 + scale) + shift
        for layer in rest:
            h = layer(h)
        return self.skip_connection(self._resampled(x)) + h


class Attention(nn.Module):
    """Add to x what attention between all its pixels makes of it, in heads of 64 channels.

    The channels of `qkv` are ordered by head, then q, k, v (OpenAI's first order).

    Args:
        channels: a multiple of 64.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block, (B, channels, H, W) to the same shape."""
        batch, channels, height, width = x.shape
        pixels = x.reshape(batch, channels, height * width)
        heads = self.qkv(self.norm(pixels)).reshape(batch, -1, 3, HEAD_CHANNELS, height * width)
        q, k, v = heads.transpose(-1, -2).unbind(dim=2)  # (B, heads, pixels, HEAD_CHANNELS)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        return x + self.proj_out(attended.reshape(pixels.shape)).reshape(x.shape)


class Block(nn.ModuleList):
    """Layers one after the other, of which the ResBlocks see the noise level too."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Compute the layers of x (B, C, H, W) and the embedded noise level."""
        for layer in self:
            x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
        return x


class ADM(nn.Module):
    """Map a noisy image and the index of its noise level to the noise in it.

    With L levels and B ResBlocks in each: a convolution; L times B ResBlocks, between the levels
    one that halves the sides; two around an attention layer; L times B + 1 ResBlocks, each of
    which takes one of the features before, between the levels one that doubles the sides;
    GroupNorm, SiLU and a convolution.

    Args:
        in_channels: of the image.
        out_channels: of what is predicted: as many, or twice as many with a learned variance.
        width: channels of the first level, a multiple of 32.
        mults: channels of each level in units of width; at least two levels.
        blocks: B.
        attention: levels, from 0, whose ResBlocks are followed by attention. Their channels, and
            those of the last level, are multiples of 64.

    Attributes:
        multiple: both sides of an image must be multiples of it, 2^(L - 1).

    Reference:
        Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis, NeurIPS 2021, section
        3; without classes and dropout.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int,
        mults: Sequence[int],
        blocks: int = 1,
        attention: Collection[int] = (),
    ) -> None:
        super().__init__()
        self.in_channels, self.width = in_channels, width
        self.multiple = 2 ** (len(mults) - 1)
        emb_channels, channels = 4 * width, width * mults[0]
        self.time_embed = nn.Sequential(
            nn.Linear(width, emb_channels), nn.SiLU(), nn.Linear(emb_channels, emb_channels)
        )

        def block(c_in: int, c_out: int, level: int, resample: str | None = None) -> Block:
            layers: list[nn.Module] = [ResBlock(c_in, c_out, emb_channels)]
            if level in attention:
                layers.append(Attention(c_out))
            if resample is not None:
                layers.append(ResBlock(c_out, c_out, emb_channels, resample))
            return Block(layers)

        self.input_blocks = nn.ModuleList([Block([nn.Conv2d(in_channels, channels, 3, padding=1)])])
        skips = [channels]
        for level, mult in enumerate(mults):
            for _ in range(blocks):
                self.input_blocks.append(block(channels, width * mult, level))
                channels = width * mult
                skips.append(channels)
            if level < len(mults) - 1:
                down = ResBlock(channels, channels, emb_channels, "down")
                self.input_blocks.append(Block([down]))
                skips.append(channels)
        self.middle_block = Block(
            [
                ResBlock(channels, channels, emb_channels),
                Attention(channels),
                ResBlock(channels, channels, emb_channels),
            ]
        )
        self.output_blocks = nn.ModuleList()
        for level, mult in reversed([*enumerate(mults)]):
            for number in range(blocks + 1):
                resample = "up" if level and number == blocks else None
                self.output_blocks.append(
                    block(channels + skips.pop(), width * mult, level, resample)
                )
                channels = width * mult
        self.out = nn.Sequential(
            Norm(channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict the noise.

        Args:
            x: (B, in_channels, H, W) float, sides that are multiples of `multiple`.
            t: (B,) index of the noise level.

        Returns:
            (B, out_channels, H, W) of x's dtype. What is between is computed in the dtype of the
            convolutions' weights.
        """
        emb = self.time_embed(embedding(t, self.width).to(self.time_embed[0].weight.dtype))
        h = x.to(self.out[-1].weight.dtype)
        skips = []
        for block in self.input_blocks:
            h = block(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for block in self.output_blocks:
            h = block(torch.cat((h, skips.pop()), dim=1), emb)
        return self.out(h).to(x.dtype)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights of an untrained network.

        The last layer of each block, and of the network, starts at zero. All other weights come
        from N(0, 1 / n) for n inputs.

        Args:
            generator: CPU generator.
        """
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv1d, nn.Linear)):
                nn.init.normal_(
                    module.weight, 0.0, module.weight[0].numel() ** -0.5, generator=generator
                )
                nn.init.zeros_(module.bias)
        last = [self.out[-1]]
        last += [m.out_layers[-1] for m in self.modules() if isinstance(m, ResBlock)]
        last += [m.proj_out for m in self.modules() if isinstance(m, Attention)]
        for module in last:
            nn.init.zeros_(module.weight)


def architecture(state: Mapping[str, Tensor]) -> dict[str, object]:
    """Read the arguments of ADM off its weights.

    Args:
        state: names and weights; only names and shapes are looked at.

    Raises:
        KeyError, ValueError: they are no ADM's.
    """
    first = state["input_blocks.0.0.weight"]
    n_blocks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("input_blocks."))
    # The first level going up ends with a further ResBlock, which doubles the sides.
    upward = [
        int(key.split(".")[1])
        for key in state
        if key.startswith("output_blocks.")
        and key.endswith(".in_layers.2.weight")
        and key.split(".")[2] != "0"
    ]
    if not upward:
        raise ValueError("it has a single level")
    blocks = min(upward)
    if blocks < 1 or n_blocks % (blocks + 1):
        raise ValueError(f"{n_blocks} input blocks of levels of {blocks} ResBlocks")
    starts = range(1, n_blocks, blocks + 1)  # the first ResBlock of each level
    width = first.shape[0]
    widths = [state[f"input_blocks.{i}.0.out_layers.3.weight"].shape[0] for i in starts]
    return {
        "in_channels": first.shape[1],
        "out_channels": state["out.2.weight"].shape[0],
        "width": width,
        "mults": tuple(w // width for w in widths),
        "blocks": blocks,
        "attention": tuple(
            level for level, i in enumerate(starts) if f"input_blocks.{i}.1.qkv.weight" in state
        ),
    }
