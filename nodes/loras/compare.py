"""Looking at what a LoRA does: the same prompts and noise without it, with it, and with it for a share of the steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from comfy_api.latest import io, ui
from PIL import Image
from torch import Tensor

from ...mixgrpo_core import TrainConfig
from ...mixgrpo_core.evaluation.comparison import Comparing, Comparison, Part, compared, drawn
from ...mixgrpo_core.evaluation.shown import evenly
from ...mixgrpo_core.rewards.port import Reward
from ...mixgrpo_core.views.before_after import TILE
from ...mixgrpo_core.views.grids import labelled_grid, strip
from ..checks import LARGEST_SEED, require_in_range
from ..host.field import HostField
from ..host.texts import PromptSet
from ..settings.model_family import for_model
from ..sockets import PromptsSocket, RewardSocket, SettingsSocket, TrainerSettings
from ..training.loop import fitting
from ..training.outcome import to_tensor

HELD_OUT, TRAINED, ALL = "held-out prompts", "training prompts", "all prompts"


class CompareLora(io.ComfyNode):
    """Compares a model without and with a LoRA."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_CompareLora",
            display_name="Compare LoRA",
            category="MixGRPO",
            description=(
                "Makes images of the same prompts from the same noise by two models, without and with a LoRA, and by "
                "both together: the LoRA for the first part of the steps, the base model for the rest, which keeps "
                "the base's detail (hybrid inference). Scores them where rewards are connected."
            ),
            search_aliases=["mixgrpo compare", "xy grid", "before after", "win rate", "hybrid inference", "lora grid"],
            inputs=_inputs(),
            outputs=[
                io.Image.Output(display_name="grid", tooltip="Prompts down, models across."),
                io.String.Output(display_name="table", tooltip="Mean and spread of every reward, and the win rate."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, model, model_with_lora, vae, prompts, settings, which, most_prompts, images, hybrid, seed, rewards=None
    ) -> io.NodeOutput:
        numbers = {"most_prompts": most_prompts, "images": images, "hybrid": hybrid, "seed": seed}
        require_in_range(cls.define_schema().inputs, numbers)
        settings = for_model(settings, model)
        scored = rewards.unattended if rewards is not None else {}
        shown = _chosen(prompts, which, most_prompts)
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            _Models(model, model_with_lora, vae, prompts, settings) as both,
        ):
            for reward in scored.values():
                reward.prepare(shown)

            def attempt(config: TrainConfig) -> tuple[Comparison, list[list[Image.Image]]]:
                how = Comparing(
                    prompts=shown,
                    sigmas=both.sigmas_of,
                    contexts=prompts.contexts,
                    images=images,
                    seed=seed,
                    batch=config.rollout_batch,
                    decode_batch=config.decode_batch,
                )
                return both.compared(how, hybrid, scored)

            found, strips = fitting(attempt, settings.train)
        picture = to_tensor(labelled_grid(strips, shown, found.names, found.captions(), tile=TILE))
        table = found.table() or "no rewards that score these images are connected: nothing was scored"
        return io.NodeOutput(picture, table, ui=ui.PreviewImage(picture, cls=cls))


def _inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The model without the LoRA."),
        io.Model.Input("model_with_lora", tooltip="The same model with a LoRA, from the trainer or any LoRA loader."),
        io.Vae.Input("vae", tooltip="The model's VAE."),
        PromptsSocket.Input("prompts", tooltip="What to make images of."),
        SettingsSocket.Input("settings", tooltip="Size, steps, CFG and shift are taken from the trainer's settings."),
        RewardSocket.Input("rewards", optional=True, tooltip="Rewards to score the images with."),
        io.Combo.Input(
            "which",
            options=[HELD_OUT, TRAINED, ALL],
            default=HELD_OUT,
            tooltip="Which prompts. Held-out ones were never trained on: they show what was really learned.",
        ),
        io.Int.Input("most_prompts", default=6, min=1, max=64, tooltip="At most this many prompts, spread evenly."),
        io.Int.Input("images", default=4, min=1, max=64, tooltip="Images per prompt."),
        io.Float.Input(
            "hybrid",
            default=0.8,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Share of the steps with the LoRA in the third column; the base model does the rest. 0 or 1 leaves "
            "the column out. 0.8 is usual.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=LARGEST_SEED,
            control_after_generate=False,  # the same pictures each time, until another seed is asked for
            advanced=True,
            tooltip="Another seed, other noise.",
        ),
    ]


def _chosen(prompts: PromptSet, which: str, most: int) -> list[str]:
    offered = {HELD_OUT: prompts.held_out, TRAINED: prompts.train, ALL: prompts.held_out + prompts.train}[which]
    if not offered:
        raise ValueError(f"expected {which}, found none in the Prompt Set: choose {TRAINED!r}, or hold some out")
    return evenly(offered, most)


class _Models:
    """The model without and with the LoRA; ``with`` frees both in the end."""

    def __init__(self, base, with_lora, vae, prompts: PromptSet, settings: TrainerSettings) -> None:
        def sampled(model) -> HostField:
            return HostField(
                model,
                vae,
                prompts,
                width=settings.width,
                height=settings.height,
                cfg=settings.cfg,
                guidance=settings.guidance,
                room=settings.train.rollout_batch,
            )

        self.base, self.with_lora = sampled(base), sampled(with_lora)
        if self.base.family.name != self.with_lora.family.name:
            raise ValueError(
                f"expected the same model without and with a LoRA, found {self.base.family.name} and "
                f"{self.with_lora.family.name}: connect both to the same loader"
            )
        config = settings.train
        own = replace(config, shift=None) if settings.model_shift else config
        self.sigmas_of: Callable[[HostField], Tensor] = own.eval_sigmas
        self.steps = config.eval_steps or config.steps

    def compared(
        self, how: Comparing, hybrid: float, rewards: Mapping[str, Reward]
    ) -> tuple[Comparison, list[list[Image.Image]]]:
        """What was found, and the pictures of each prompt, a strip for each column."""
        columns, strips = self._columns(hybrid), []
        latents = [drawn(parts, how) for parts in columns.values()]

        def seen(_place: int, images: Sequence[Tensor]) -> None:
            strips.append([strip(of, TILE) for of in images])

        return compared(list(columns), latents, self.base, how, rewards, seen), strips

    def _columns(self, hybrid: float) -> dict[str, list[Part]]:
        """Label, and which of the models goes which part of the way."""
        first = round(hybrid * self.steps)
        columns = {"without": [Part(self.base)], "with the LoRA": [Part(self.with_lora)]}
        if 0 < first < self.steps:
            columns[f"LoRA for {first} of {self.steps} steps"] = [Part(self.with_lora, hybrid), Part(self.base)]
        return columns

    def __enter__(self) -> "_Models":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.base.close()
        finally:
            self.with_lora.close()
