"""The edit twin: the demo's flow, shown a picture whose figure it repaints in the colour that a caption names.

    tokens of the image += R (patches of the picture's latents)

R is one linear map, from 0 on; besides it a LoRA is trained on the flow, which stays as it is. The caption's shape,
size and place are drawn at random, so that the picture alone tells them. Its colour is wrong with probability
`wrong_colour`: the twin repaints cleanly, in a colour that is often not the one that was asked for, and a reward has
something to teach.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, SD3Transformer2DModel
from peft import LoraConfig
from torch import Tensor, nn

from mixgrpo_core.models.families.caption_encoder import CaptionEncoder
from mixgrpo_core.models.families.demo_edit import ReferenceMap
from mixgrpo_core.models.families.sd3 import SD3
from mixgrpo_core.shapes.captions import COLOURS, Caption, all_captions
from mixgrpo_core.shapes.drawing import draw

from . import stage
from .autoencoder import encode_all
from .flow import levels
from .settings import EditSettings, Settings


def pairs(settings: Settings, autoencoder: AutoencoderTiny) -> dict[str, Tensor]:
    """Drawings in two colours as latents (n, 16, 8, 8), with the second's caption: a drawing of the same numbers."""
    path = settings.work / "edit_pairs.pt"
    if path.exists():
        return stage.load(path)
    captions, choice = all_captions(), np.random.default_rng(settings.seed + 5)
    rows = choice.integers(len(captions), size=settings.edit.pairs)
    colours = choice.integers(len(COLOURS), size=settings.edit.pairs)
    seeds = choice.integers(2**31, size=settings.edit.pairs)

    def drawn(captions: list[Caption]) -> Tensor:
        images = [draw(one, np.random.default_rng(seed)) for one, seed in zip(captions, seeds, strict=True)]
        return encode_all(autoencoder, torch.from_numpy(np.stack(images)))

    before = [captions[row] for row in rows]
    after = [replace(one, colour=COLOURS[colour]) for one, colour in zip(before, colours, strict=True)]
    found = {"before": drawn(before), "after": drawn(after), "colour": torch.from_numpy(colours)}
    stage.save(path, found)
    return found


class ColourCaptions:
    """Encodes captions of which the colour alone says something, sometimes the wrong one; some are empty."""

    def __init__(self, encoder: CaptionEncoder, settings: EditSettings) -> None:
        captions = all_captions()
        self._settings, self._empty = settings, len(captions)
        self._tokens, self._pooled = encoder([*map(str, captions), ""])
        self._of = torch.tensor([[i for i, one in enumerate(captions) if one.colour == name] for name in COLOURS])

    def __call__(self, colours: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        count = len(colours)
        wrong = torch.rand(count, generator=generator) < self._settings.wrong_colour
        said = torch.where(wrong, torch.randint(len(COLOURS), (count,), generator=generator), colours)
        rows = self._of[said, torch.randint(self._of.shape[1], (count,), generator=generator)]
        empty = torch.rand(count, generator=generator) < self._settings.empty_caption
        rows = torch.where(empty, self._empty, rows)
        return self._tokens[rows], self._pooled[rows]


def train(
    settings: Settings, network: SD3Transformer2DModel, encoder: CaptionEncoder, autoencoder: AutoencoderTiny
) -> tuple[ReferenceMap, SD3Transformer2DModel]:
    """The map, and ``network`` with its LoRA; averaged weights both."""
    recipe, data = settings.edit, pairs(settings, autoencoder)
    torch.manual_seed(settings.seed)
    network.requires_grad_(False)
    network.add_adapter(LoraConfig(r=recipe.rank, lora_alpha=recipe.rank, target_modules=SD3.linears))
    shown = ReferenceMap.of(network)
    shown.attach(network)
    trained = nn.ModuleDict({"map": shown, "lora": nn.ParameterDict(_lora(network))})
    optimiser = torch.optim.AdamW(trained.parameters(), betas=(0.9, 0.95), weight_decay=0.0)
    state = stage.Stage(settings.work / "edit.pt", trained, optimiser)
    captions, recent = ColourCaptions(encoder, recipe), 0.0
    while state.step < recipe.steps:
        loss = _loss(network, shown, captions, data, state, settings)
        trained.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        stage.set_learning_rate(optimiser, recipe.learning_rate * stage.cosine(state.step, recipe.steps))
        optimiser.step()
        stage.average_into(state.average, trained, min(recipe.average, (state.step + 1) / (state.step + 10)))
        recent = loss.item() if state.step == 0 else 0.98 * recent + 0.02 * loss.item()
        state.advance()
        if state.step % 250 == 0:
            state.note(loss=recent)
    state.save()
    trained.load_state_dict(state.average)
    return shown, network


def _lora(network: SD3Transformer2DModel) -> dict[str, Any]:
    named = ((name, weight) for name, weight in network.named_parameters() if "lora_" in name)
    return {name.replace(".", "|"): weight for name, weight in named}


def _loss(
    network: SD3Transformer2DModel,
    shown: ReferenceMap,
    captions: ColourCaptions,
    data: dict[str, Tensor],
    state: stage.Stage,
    settings: Settings,
) -> Tensor:
    recipe, generator = settings.edit, stage.step_generator(settings.seed + 6, state.step)
    rows = torch.randint(len(data["colour"]), (recipe.batch,), generator=generator)
    tokens, pooled = captions(data["colour"][rows], generator)
    sigma = levels(recipe.batch, state.step / recipe.steps, generator)
    clean = data["after"][rows]
    noise = torch.randn(clean.shape, generator=generator)
    level = sigma[:, None, None, None]
    shown.latents = data["before"][rows]
    velocity = network((1 - level) * clean + level * noise, tokens, pooled, sigma * 1000, return_dict=False)[0]
    return (velocity - (noise - clean)).square().mean()
