"""Pictures of what LoRAs do: the images that the gallery shows, without and with each LoRA."""

import torch
from toy import ToyModel

from mixgrpo_core.evaluation.shown import IMAGES, shown_images
from mixgrpo_core.views.before_after import TILE, lora_sheet
from mixgrpo_core.views.grids import labelled_grid

PROMPTS = ["a", "bbb"]


def sigmas(model):
    return model.grid(4)


def test_columns_are_the_shown_images_of_each_lora():
    model, other = ToyModel(), {name: tensor.clone() for name, tensor in ToyModel().lora().items()}
    for seed, weights in enumerate((model.lora(), other)):
        weights["net.lora_B.weight"].data.normal_(generator=torch.Generator().manual_seed(seed))
    made = lora_sheet(model, PROMPTS, {"none": None, "own": model.lora_state(), "other": other}, sigmas)
    cells = []
    for index, prompt in enumerate(PROMPTS):
        base, own = (
            shown_images(model, prompt, index, sigmas, images=IMAGES, lora_share=share, batch=IMAGES)
            for share in (0.0, 1.0)
        )
        with model.with_weights(other):
            cells.append([base, own, shown_images(model, prompt, index, sigmas, images=IMAGES, batch=IMAGES)])
    assert not torch.equal(*cells[0][:2]) and not torch.equal(*cells[0][1:])
    assert made.tobytes() == labelled_grid(cells, PROMPTS, ["none", "own", "other"], tile=TILE).tobytes()
