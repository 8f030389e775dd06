"""Networks that two or more chapters share, too long for a cell. Chapters show their source."""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from genmed_core import runtime

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


class DigitClassifier(nn.Module):
    """A small convolutional reader of digits: the judge of a generator, and its feature space.

    x (B, 1, 28, 28) float in [0, 1] -> logits (B, 10). `features` gives the 128 numbers before the
    last layer.
    """

    def __init__(self, width: int = 32, classes: int = 10):
        super().__init__()
        self.body = nn.Sequential(
            _conv(1, width), _conv(width, width), nn.MaxPool2d(2),
            _conv(width, 2 * width), _conv(2 * width, 2 * width), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(2 * width * 49, 128), nn.ReLU(),
        )
        self.head = nn.Linear(128, classes)

    def features(self, x: Tensor) -> Tensor:
        """x (B, 1, 28, 28) in [0, 1] -> (B, 128), non-negative."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def _conv(channels_in: int, channels_out: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU())


class ConvVAE(nn.Module):
    """A convolutional variational autoencoder for 28x28 images.

    encode: x (B, 1, 28, 28) -> mu, logvar (B, d). decode: z (B, d) -> logits (B, 1, 28, 28).
    forward: x -> logits, mu, logvar with one sample z = mu + eps * exp(logvar / 2).
    """

    def __init__(self, latent: int = 16, width: int = 32, hidden: int = 256):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1), nn.SiLU(),      # (B, w, 14, 14)
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.SiLU(),   # (B, 2w, 7, 7)
            nn.Flatten(), nn.Linear(2 * width * 49, hidden), nn.SiLU(),
            nn.Linear(hidden, 2 * latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.SiLU(),
            nn.Linear(hidden, 2 * width * 49), nn.SiLU(), nn.Unflatten(1, (2 * width, 7, 7)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.SiLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(x)
        std = torch.exp(0.5 * logvar)
        z = mu + std * torch.randn_like(mu)
        return self.decode(z), mu, logvar


def shift_augment(x: Tensor, pixels: int = 2) -> Tensor:
    """Shift every image by its own random offset of up to `pixels`, filling with zeros.

    x (B, C, H, W) -> the same shape. Runs on the device, without a loop.
    """
    if x.ndim != 4 or pixels < 0:
        raise ValueError(f"x {tuple(x.shape)} must be (B, C, H, W) and pixels={pixels} 0 or more")
    B, _, H, W = x.shape
    padded = F.pad(x, (pixels,) * 4)
    top, left = torch.randint(0, 2 * pixels + 1, (2, B, 1), device=x.device)
    i = (top + torch.arange(H, device=x.device))[:, :, None]   # (B, H, 1) row of the pixel
    j = (left + torch.arange(W, device=x.device))[:, None, :]  # (B, 1, W) its column
    image = torch.arange(B, device=x.device)[:, None, None]
    return padded[image, :, i, j].permute(0, 3, 1, 2)          # from (B, H, W, C)


class LabelEmbedding(nn.Embedding):
    """A vector for each label 0 to classes - 1; on a CPU labels out of range raise ValueError."""

    def forward(self, y: Tensor) -> Tensor:
        if runtime.readable(y):
            whole = not y.is_floating_point() and y.dtype != torch.bool
            if y.ndim != 1 or not whole or ((y < 0) | (y >= self.num_embeddings)).any():
                raise ValueError(f"labels must be int64 (B,) from 0 to {self.num_embeddings - 1}: "
                                 f"got {y.dtype} {tuple(y.shape)} {y.flatten()[:3].tolist()}...")
        return super().forward(y)


class DigitGenerator(nn.Module):
    """Draws 28x28 digits from noise: convolutions at 7x7 and 14x14, the last shuffled to full size.

    z (B, latent), and y (B,) int64 when `classes` is given -> images (B, 1, 28, 28) in [-1, 1]. The
    label's embedding is concatenated to the noise. Batch normalisation uses running statistics in
    eval mode, so a single image can be drawn. `net`, a plain Sequential, maps the (B, latent +
    embedding) input to images.
    """

    def __init__(self, latent: int = 64, width: int = 32, classes: int | None = None,
                 embedding: int = 64):
        super().__init__()
        self.latent = latent
        self.label = LabelEmbedding(classes, embedding) if classes else None
        inputs = latent + embedding if classes else latent
        self.net = nn.Sequential(
            nn.Linear(inputs, 2 * width * 49), nn.Unflatten(1, (2 * width, 7, 7)),
            nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.PixelShuffle(2),  # (B, w, 14, 14)
            nn.BatchNorm2d(width), nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 4, 3, padding=1), nn.PixelShuffle(2), nn.Tanh(),   # (B, 1, 28, 28)
        )

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if (self.label is None) != (y is None):
            raise ValueError("give y where the generator has classes, and only there; "
                             f"classes={self.label and self.label.num_embeddings}")
        if self.label is not None:
            z = torch.cat([z, self.label(y)], dim=1)
        return self.net(z)


class DigitCritic(nn.Module):
    """Scores 28x28 images, without a normalisation layer, so that an image's score is its own.

    x (B, 1, 28, 28) in [-1, 1] -> scores (B, outputs), float32, any real number.
    """

    def __init__(self, width: int = 32, outputs: int = 1):
        super().__init__()
        self.net = nn.Sequential(
            nn.PixelUnshuffle(2),  # (B, 4, 14, 14)
            nn.Conv2d(4, width, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),  # (B, 2w, 7, 7)
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Flatten(), nn.Linear(2 * width * 49, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).float()


# --- denoising U-Net ------------------------------------------------------------------------------


def time_embedding(t: Tensor, width: int) -> Tensor:
    """Sines and cosines of t at `width` / 2 frequencies, from 1 towards 1 / 10,000 radians a step.

    t (B,) int64 or float -> (B, width) float32, width even.
    Ho et al. 2020, sec. 4; Vaswani et al. 2017.
    """
    if width < 2 or width % 2:
        raise ValueError(f"width={width}: give an even number, half for sines, half for cosines")
    exponent = torch.arange(width // 2, device=t.device) / (width // 2)
    angle = t.float()[:, None] * 10_000.0**-exponent  # (B, width / 2)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class ResidualBlock(nn.Module):
    """Two convolutions beside a short cut; the embedding scales and shifts what lies between them.

    x (B, channels_in, H, W), e (B, embedding) -> (B, channels_out, H, W). Begins as the short cut.
    """

    def __init__(self, channels_in: int, channels_out: int, embedding: int, groups: int = 8):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * channels_out)
        self.norm2 = nn.GroupNorm(groups, channels_out)
        self.conv2 = _starts_at_zero(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        same = channels_in == channels_out
        self.short_cut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulate(e)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.short_cut(x) + self.conv2(F.silu(h))


class SelfAttention(nn.Module):
    """Every place of the picture looks at every other one: parts of a stroke may lie far apart.

    x (B, C, H, W) -> the same shape, C a multiple of `heads` and `groups`. Begins as the identity.
    """

    def __init__(self, channels: int, heads: int = 4, groups: int = 8):
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"heads={heads}: choose a divisor of the {channels} channels")
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = _starts_at_zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        places = self.norm(x).flatten(2).transpose(1, 2)     # (B, H W, C)
        qkv = self.qkv(places).view(B, H * W, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)                 # each (B, heads, H W, C / heads)
        h = _attend(q, k, v).transpose(1, 2).reshape(B, H * W, C)
        return x + self.out(h).transpose(1, 2).view(B, C, H, W)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k' / sqrt(d)) v; in training on a CPU by plain products.

    In bfloat16 the backward pass of torch's fused kernel for CPUs costs a third of a U-Net's step.
    Its forward pass is the quicker one: where no gradient is wanted, as in sampling, it is taken.
    """
    if q.is_cpu and q.requires_grad:
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


class UNet(nn.Module):
    """Denoiser of a diffusion model: from a noisy image, its step and label to noise, image or v.

    x (B, channels, H, W), H and W multiples of 2 * patch; t (B,) int64; y (B,) int64 labels, where
    `classes` itself, `null`, means "no label", and so does y = None -> (B, channels, H, W) float32.
    Pixels are first folded into channels, `patch` by `patch`, so that no layer works at full size.
    The output begins at zero. widths: two multiples of 8; embedding: a multiple of 4.
    """

    def __init__(self, channels: int = 1, *, widths: tuple[int, int] = (32, 64), patch: int = 2,
                 classes: int = 10, embedding: int = 128, heads: int = 4):
        super().__init__()
        if len(widths) != 2 or any(width < 8 or width % 8 for width in widths):
            raise ValueError(f"widths={widths}: give two multiples of 8, such as (32, 64)")
        fine, coarse = widths
        self.multiple, self.null, self.frequencies = 2 * patch, classes, embedding // 2
        self.time = nn.Sequential(
            nn.Linear(self.frequencies, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label = LabelEmbedding(classes + 1, embedding)
        self.enter = nn.Sequential(
            nn.PixelUnshuffle(patch), nn.Conv2d(channels * patch**2, fine, 3, padding=1))
        self.down = ResidualBlock(fine, fine, embedding)
        self.shrink = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.middle1 = ResidualBlock(coarse, coarse, embedding)
        self.attention = SelfAttention(coarse, heads)
        self.middle2 = ResidualBlock(coarse, coarse, embedding)
        self.grow = nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1), nn.PixelShuffle(2))
        self.up = ResidualBlock(2 * fine, fine, embedding)
        self.leave = nn.Sequential(
            nn.GroupNorm(8, fine), nn.SiLU(),
            _starts_at_zero(nn.Conv2d(fine, channels * patch**2, 3, padding=1)),
            nn.PixelShuffle(patch))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if x.ndim != 4 or x.shape[2] % self.multiple or x.shape[3] % self.multiple:
            raise ValueError(f"x is {tuple(x.shape)}: give images (B, C, H, W), padded by F.pad to "
                             f"height and width that are multiples of {self.multiple}")
        y = torch.full_like(t, self.null) if y is None else y
        time = self.time(time_embedding(t, self.frequencies))
        e = F.silu(time + self.label(y))                 # (B, embedding)
        fine = self.down(self.enter(x), e)               # (B, fine, 14, 14) for a digit
        h = self.middle1(self.shrink(fine), e)           # (B, coarse, 7, 7)
        h = self.middle2(self.attention(h), e)
        h = torch.cat([self.grow(h), fine], dim=1)       # the U's bridge carries detail across
        return self.leave(self.up(h, e)).float()


def _starts_at_zero(layer: Layer) -> Layer:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
