"""The autoencoder: 64 x 64 x 3 pixels <-> 8 x 8 x 16 latents of mean 0 and standard deviation 1.

Stage 1 trains both halves on crops; then the encoder's last layer is rescaled so that every latent channel has mean 0
and standard deviation 1 exactly; stage 2 tunes the decoder alone, so that latents made before it stay valid.
"""

import logging

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from . import stage
from .data import to_batch
from .settings import AutoencoderSettings, Settings

LATENT_CHANNELS = 16
TAIL = 2.5  # latents beyond this are pushed back: the decoder's first layer saturates at 3
logger = logging.getLogger("demo_model")


def build() -> AutoencoderTiny:
    """A fresh autoencoder, initialised so that it learns in hundreds of steps instead of thousands."""
    model = AutoencoderTiny(latent_channels=LATENT_CHANNELS, scaling_factor=1.0, shift_factor=0.0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith(".conv"):  # a residual block's branch: its last layer starts small
                module[-1].weight.mul_(0.3)
        last = model.decoder.layers[-1]
        last.weight.mul_(0.2)
        last.bias.fill_(0.7)  # drawings are mostly light background
    return model.to(memory_format=torch.channels_last)


def encode(model: AutoencoderTiny, pixels: Tensor) -> Tensor:
    """Pixels (b, 3, h, w) in 0..1 -> latents (b, 16, h/8, w/8)."""
    return model.encoder(pixels * 2 - 1)


def decode(model: AutoencoderTiny, latents: Tensor) -> Tensor:
    """Latents (b, 16, h, w) -> pixels (b, 3, 8h, 8w), about 0..1, not clamped."""
    return (model.decoder(latents) + 1) / 2


def _crops(images: Tensor, settings: AutoencoderSettings, generator: torch.Generator) -> Tensor:
    """Random crops; of two candidates the one with more contrast, as most of a drawing is empty."""
    chosen = torch.randint(len(images), (settings.batch,), generator=generator).tolist()
    crops = []
    for index in chosen:
        corners = torch.randint(images.shape[1] - settings.crop + 1, (2, 2), generator=generator).tolist()
        pair = [images[index, y : y + settings.crop, x : x + settings.crop] for y, x in corners]
        crops.append(max(pair, key=lambda crop: float(crop.float().std())))
    return to_batch(torch.stack(crops))


def _batch(images: Tensor, progress: float, settings: AutoencoderSettings, generator: torch.Generator) -> Tensor:
    if progress < 0.85:
        return _crops(images, settings, generator)
    return to_batch(images[torch.randint(len(images), (settings.batch // 2,), generator=generator)])


def _pixel_loss(found: Tensor, wanted: Tensor) -> Tensor:
    return F.l1_loss(found, wanted) + F.mse_loss(found, wanted)


def _latent_loss(latents: Tensor) -> Tensor:
    """Pulls every channel towards mean 0, standard deviation 1 and short tails."""
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    tail = F.relu(latents.abs() - TAIL).square().mean()
    return 0.02 * (mean.square() + (std - 1).square()).mean() + 0.05 * tail


def train(settings: Settings, images: Tensor) -> AutoencoderTiny:
    """Stage 1. Returns the autoencoder with normalised latents; its decoder still wants tuning."""
    recipe = settings.autoencoder
    torch.manual_seed(settings.seed)
    model = build()
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=1e-4)
    state = stage.Stage(settings.work / "autoencoder.pt", model, optimiser)
    while state.step < recipe.steps:
        generator = stage.step_generator(settings.seed + 1, state.step)
        progress = state.step / recipe.steps
        pixels = _batch(images, progress, recipe, generator)
        with torch.autocast("cpu", torch.bfloat16):
            latents = encode(model, pixels).float()
            noise = recipe.noise if progress > 0.33 else 0.0
            noisy = latents + noise * torch.randn(latents.shape, generator=generator)
            found = decode(model, noisy).float()
        loss = _pixel_loss(found, pixels) + _latent_loss(latents)
        _descend(loss, model, optimiser, recipe.learning_rate * stage.cosine(state.step, recipe.steps))
        state.advance()
        if state.step % 100 == 0:
            state.note(loss=loss.item(), l1=F.l1_loss(found, pixels).item(), std=latents.std().item())
    state.save()
    _normalise(model, images)
    return model


def _descend(loss: Tensor, model: nn.Module, optimiser: torch.optim.Optimizer, rate: float) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    stage.set_learning_rate(optimiser, rate)
    optimiser.step()


@torch.no_grad()
def encode_all(model: AutoencoderTiny, images: Tensor, batch: int = 200) -> Tensor:
    """Latents (n, 16, 8, 8), float32, of uint8 images (n, 64, 64, 3). Computed in bfloat16: four times as fast."""
    with torch.autocast("cpu", torch.bfloat16):
        return torch.cat([encode(model, to_batch(part)).float().contiguous() for part in images.split(batch)])


@torch.no_grad()
def _normalise(model: AutoencoderTiny, images: Tensor) -> None:
    """Fold each latent channel's mean and standard deviation into the encoder's last layer."""
    latents = encode_all(model, images[:1600])
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    last = model.encoder.layers[-1]
    last.weight.div_(std[:, None, None, None])
    last.bias.sub_(mean).div_(std)
    logger.info("latents before normalising: std %s, largest %.2f", std.tolist(), latents.abs().max())


def tune_decoder(settings: Settings, model: AutoencoderTiny, images: Tensor, latents: Tensor) -> None:
    """Stage 2: the decoder alone, on whole images, from fixed latents. Leaves the weight average in `model`."""
    recipe = settings.autoencoder
    decoder = model.decoder
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=recipe.tuning_learning_rate, weight_decay=1e-4)
    state = stage.Stage(settings.work / "decoder.pt", decoder, optimiser)
    while state.step < recipe.tuning_steps:
        generator = stage.step_generator(settings.seed + 2, state.step)
        rows = torch.randint(len(images), (recipe.tuning_batch,), generator=generator)
        pixels = to_batch(images[rows])
        noise = torch.randn(latents[rows].shape, generator=generator)
        strength = 2 * recipe.tuning_noise * torch.rand(len(rows), 1, 1, 1, generator=generator)
        noisy = (latents[rows] + strength * noise).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            found = decode(model, noisy).float()
        loss = _pixel_loss(found, pixels)
        _descend(loss, decoder, optimiser, recipe.tuning_learning_rate * stage.cosine(state.step, recipe.tuning_steps))
        stage.average_into(state.average, decoder, recipe.tuning_average)
        state.advance()
        if state.step % 100 == 0:
            state.note(loss=loss.item(), l1=F.l1_loss(found, pixels).item())
    state.save()
    decoder.load_state_dict(state.average)
