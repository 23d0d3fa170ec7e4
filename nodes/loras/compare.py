"""Looking at what a LoRA does: the same prompts and noise without it, with it, and with it for a share of the steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...mixgrpo_core.evaluation.held_out import Evaluation, win_rate
from ...mixgrpo_core.rewards.port import Reward, RewardBatch, Scores
from ...mixgrpo_core.rewards.scoring import score
from ...mixgrpo_core.rewards.stats import RewardStats
from ...mixgrpo_core.sampling.ode import carried, decode
from ...mixgrpo_core.sampling.schedule import start_of
from ...mixgrpo_core.support.seeds import derive_seed
from ...mixgrpo_core.support.sized import size_of
from ..checks import LARGEST_SEED, require_in_range
from ..host.field import HostField
from ..host.texts import PromptSet
from ..live.labelled import labelled
from ..settings.model_family import for_model
from ..sockets import PromptsSocket, RewardSocket, SettingsSocket, TrainerSettings
from ..training.outcome import TILE, to_tensor

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
            _Comparison(model, model_with_lora, vae, prompts, settings) as both,
        ):
            columns = both.columns(hybrid)
            for reward in scored.values():
                reward.prepare(shown)
            pictures = [both.pictures(share, shown, images, seed) for share in columns.values()]
            found = _scored(pictures, shown, scored)
        cells = [[column.pictures[place] for column in found] for place in range(len(shown))]
        captions = [[column.caption(place) for column in found] for place in range(len(shown))] if scored else None
        picture = to_tensor(labelled(cells, shown, list(columns), captions, tile=TILE))
        table = _table(dict(zip(columns, found, strict=True)))
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
    most = min(most, len(offered))
    return [offered[place * len(offered) // most] for place in range(most)]


@dataclass(frozen=True)
class _Column:
    """One model's images ``[n, H, W, 3]`` and scores, a prompt an entry."""

    pictures: list[Tensor] = field(default_factory=list)
    scores: dict[str, list[Scores]] = field(default_factory=dict)

    def caption(self, place: int) -> str:
        means = {name: groups[place].values[groups[place].valid] for name, groups in self.scores.items()}
        return "  ".join(f"{name} {float(values.mean()):.3g}" for name, values in means.items() if len(values))

    def evaluation(self) -> Evaluation:
        stats = {name: RewardStats.of(groups) for name, groups in self.scores.items()}
        return Evaluation(iteration=0, rewards=stats, scores=self.scores)


class _Comparison:
    """Two models that sample the same prompts from the same noise; ``with`` frees both in the end."""

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
        self.sigmas_of = own.eval_sigmas
        self.steps = config.eval_steps or config.steps
        self.batch, self.decode_batch = config.rollout_batch, config.decode_batch

    def columns(self, hybrid: float) -> dict[str, float]:
        """Label and share of the steps with the LoRA."""
        steps = self.steps
        middle = (
            {f"LoRA for {round(hybrid * steps)} of {steps} steps": hybrid} if 0 < round(hybrid * steps) < steps else {}
        )
        return {"without": 0.0, "with the LoRA": 1.0, **middle}

    def pictures(self, share: float, prompts: Sequence[str], images: int, seed: int) -> list[Tensor]:
        """Images ``[images, H, W, 3]`` of every prompt."""
        latents = self._latents(share, prompts, images, seed)
        made = zip(prompts, latents, strict=True)
        return [decode(_at_size(self.base, prompt), found, self.decode_batch) for prompt, found in made]

    def _latents(self, share: float, prompts: Sequence[str], images: int, seed: int) -> list[Tensor]:
        """All prompts by the one model, then all by the other: changing weights takes longer than keeping latents."""
        switch, of_size = round(share * self.steps), [_at_size(self.base, prompt) for prompt in prompts]
        grids = [self.sigmas_of(base) for base in of_size]
        noise = [base.noise(derive_seed("compare", seed, place), images) for place, base in enumerate(of_size)]
        latents = [start_of(*each) for each in zip(noise, grids, strict=True)]
        for model, part in ((self.with_lora, slice(switch + 1)), (self.base, slice(switch, None))):
            if len(grids[0][part]) > 1:
                latents = [
                    carried(_at_size(model, prompt), model.encode(prompt), x, sigmas[part], batch=self.batch)
                    for prompt, x, sigmas in zip(prompts, latents, grids, strict=True)
                ]
        return latents

    def __enter__(self) -> "_Comparison":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.base.close()
        finally:
            self.with_lora.close()


def _at_size(model: HostField, prompt: str) -> HostField:
    return model.at(size_of(prompt) or model.resolution)


def _scored(pictures: Sequence[list[Tensor]], prompts: Sequence[str], rewards: Mapping[str, Reward]) -> list[_Column]:
    """The columns of ``pictures``. Those of a prompt are one group: a judge that compares images compares models."""
    columns = [_Column(made, {name: [] for name in rewards}) for made in pictures]
    for place, prompt in enumerate(prompts if rewards else ()):
        made = [column.pictures[place] for column in columns]
        images = torch.cat(made)
        found, _ = score(rewards, RewardBatch(images=images, prompts=(prompt,) * len(images), group=place))
        for name, scores in found.items():
            parts = (scores.values.split(len(made[0])), scores.valid.split(len(made[0])))
            for column, values, valid in zip(columns, *parts, strict=True):
                column.scores[name].append(replace(scores, values=values, valid=valid))
    return columns


def _figures(stats: RewardStats) -> str:
    """Mean and spread, and what could not be scored."""
    if not stats.failed:
        return f"{stats.mean:.4g} ± {stats.spread:.3g}"
    if not stats.valid:
        return f"no score ({stats.reason})"
    return f"{stats.mean:.4g} ± {stats.spread:.3g} ({stats.valid} of {stats.count} images: {stats.reason})"


def _table(columns: Mapping[str, _Column]) -> str:
    """A line per reward: mean and spread of every column, and how often it beats the first one."""
    found = {label: column.evaluation() for label, column in columns.items()}
    first = next(iter(found.values()))
    if not first.rewards:
        return "no rewards that score these images are connected: nothing was scored"
    lines = []
    for name in first.rewards:
        lines.append(name)
        for label, evaluation in found.items():
            stats = evaluation.rewards[name]
            wins = float("nan") if evaluation is first else win_rate(evaluation, first, name)
            better = "" if math.isnan(wins) else f", better than without in {wins:.1%}"
            lines.append(f"  {label}: {_figures(stats)}{better}")
    return "\n".join(lines)
