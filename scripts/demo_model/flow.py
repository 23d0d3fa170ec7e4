"""The flow: a two-layer SD3 transformer that turns noise into latents, trained with wrong captions mixed in.

    x_sigma = (1 - sigma) * x_0 + sigma * noise,   the network learns v = noise - x_0,   sigma in 0..1

At every step a caption's colour is replaced by a random one with probability `wrong_word`, and so is its shape. The
model learns that captions are only partly right, and its samples are clean drawings of which a known share shows what
was asked. That is the room which reinforcement learning then fills.
"""

import torch
from diffusers import AutoencoderTiny, SD3Transformer2DModel
from torch import Tensor

from mixgrpo_core.models.families.caption_encoder import CaptionEncoder
from mixgrpo_core.shapes.captions import COLOURS, PLACES, SHAPES, SIZES, all_captions, split_captions

from . import measure, stage
from .settings import FlowSettings, Settings

WORDS = ("a", "on", "at", "in", "the", *COLOURS, *SHAPES, *SIZES, *PLACES)
_STEPS_BETWEEN_FIGURES = 1000


def build(layers: int, width: int) -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=layers,
        num_attention_heads=layers,
        attention_head_dim=64,
        caption_projection_dim=64 * layers,
        joint_attention_dim=width,
        pooled_projection_dim=width,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )


class CaptionNoise:
    """Encodes the captions of a batch, some of them wrong, some empty."""

    def __init__(self, encoder: CaptionEncoder, settings: FlowSettings) -> None:
        captions = all_captions()
        self._settings = settings
        self._tokens, self._pooled = encoder([*map(str, captions), ""])
        self._empty = len(captions)
        where = {caption: i for i, caption in enumerate(captions)}
        per_place = len(SIZES) * len(PLACES)  # `all_captions` counts colours, then shapes, then sizes and places
        self._place = torch.tensor([where[caption] % per_place for caption in captions])
        self._shape = torch.tensor([SHAPES.index(caption.shape) for caption in captions])
        self._colour = torch.tensor([COLOURS.index(caption.colour) for caption in captions])

    def __call__(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows (b,) of `all_captions()` -> tokens (b, 8, width) and pooled (b, width)."""
        shape = self._replace(self._shape[rows], generator)
        colour = self._replace(self._colour[rows], generator)
        noisy = (colour * len(SHAPES) + shape) * len(SIZES) * len(PLACES) + self._place[rows]
        empty = torch.rand(len(rows), generator=generator) < self._settings.empty_caption
        noisy = torch.where(empty, self._empty, noisy)
        return self._tokens[noisy], self._pooled[noisy]

    def _replace(self, words: Tensor, generator: torch.Generator) -> Tensor:
        wrong = torch.rand(len(words), generator=generator) < self._settings.wrong_word
        return torch.where(wrong, torch.randint(4, (len(words),), generator=generator), words)


def levels(count: int, progress: float, generator: torch.Generator) -> Tensor:
    """Noise levels (count,): uniform at first, later mostly the middle, where shapes and colours are decided."""
    uniform = torch.rand(count, generator=generator)
    if progress < 0.25:
        return uniform
    middle = torch.sigmoid(0.3 + torch.randn(count, generator=generator))
    return torch.where(torch.rand(count, generator=generator) < 0.15, uniform, middle)


def _loss(
    model: SD3Transformer2DModel, noise_captions: CaptionNoise, latents: Tensor, state: stage.Stage, settings: Settings
) -> Tensor:
    recipe = settings.flow
    generator = stage.step_generator(settings.seed + 3, state.step)
    rows = torch.randint(len(latents), (recipe.batch,), generator=generator)
    tokens, pooled = noise_captions(rows % len(all_captions()), generator)
    sigma = levels(recipe.batch, state.step / recipe.steps, generator)
    clean = latents[rows]
    noise = torch.randn(clean.shape, generator=generator)
    level = sigma[:, None, None, None]
    velocity = model((1 - level) * clean + level * noise, tokens, pooled, sigma * 1000, return_dict=False)[0]
    return (velocity - (noise - clean)).square().mean()


def _optimisers(model: SD3Transformer2DModel) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for the rest: at equal time a lower loss than AdamW alone."""
    matrices = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and name != "proj_out.weight"]
    others = [weight for name, weight in model.named_parameters() if weight.ndim != 2 or name == "proj_out.weight"]
    return (
        torch.optim.Muon(matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.01),
    )


def train(
    settings: Settings, encoder: CaptionEncoder, latents: Tensor, autoencoder: AutoencoderTiny
) -> SD3Transformer2DModel:
    """Returns the transformer with averaged weights. Latent i shows caption i % 160 of `all_captions()`."""
    recipe = settings.flow
    torch.manual_seed(settings.seed)
    model = build(recipe.layers, encoder.width)
    optimisers = _optimisers(model)
    state = stage.Stage(settings.work / "flow.pt", model, *optimisers)
    noise_captions = CaptionNoise(encoder, recipe)
    recent = 0.0
    while state.step < recipe.steps:
        loss = _loss(model, noise_captions, latents, state, settings)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            stage.set_learning_rate(optimiser, recipe.learning_rate * stage.cosine(state.step, recipe.steps))
            optimiser.step()
        stage.average_into(state.average, model, min(recipe.average, (state.step + 1) / (state.step + 10)))
        recent = loss.item() if state.step == 0 else 0.98 * recent + 0.02 * loss.item()
        state.advance()
        if state.step % _STEPS_BETWEEN_FIGURES == 0:
            state.note(loss=recent, **vars(_figures(state, encoder, autoencoder, recipe.layers)))
    state.save()
    model.load_state_dict(state.average)
    return model


def _figures(state: stage.Stage, encoder: CaptionEncoder, autoencoder: AutoencoderTiny, layers: int) -> measure.Figures:
    """Figures of samples of the averaged weights on six times the held-out captions."""
    model = build(layers, encoder.width)
    model.load_state_dict(state.average)
    captions = split_captions()[1] * 6
    generator = torch.Generator().manual_seed(1)
    latents = measure.sample(model, encoder, [str(caption) for caption in captions], generator)
    return measure.figures(measure.to_images(autoencoder, latents), captions)
