"""Will it fit, and how long will it take: one real rollout and one real update before hours of work."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace

import comfy.model_management
import torch
from comfy_api.latest import io, ui

from ...mixgrpo_core import StepReport, TrainConfig, train
from ...mixgrpo_core.models.sizes import require_sizes
from ...mixgrpo_core.rewards.people.votes import HumanVote, votes_as
from ...mixgrpo_core.rewards.pixels.measures import Brightness, More, PixelReward
from ...mixgrpo_core.rewards.port import Reward
from ...mixgrpo_core.rewards.wrappers.transforms import afresh
from ...mixgrpo_core.runs.reports import Event
from ...mixgrpo_core.support.durations import duration
from ...mixgrpo_core.support.sized import largest, size_of
from ...mixgrpo_core.training.decoding import BFLOAT16
from ...mixgrpo_core.training.forecast import Forecast
from ...mixgrpo_core.training.timed_step import rates_of_a_step
from ...mixgrpo_core.training.workload import Rates, Timed, Workload
from ..host.model import HostModel
from ..settings.model_family import for_model
from ..sockets import PromptsSocket, RewardSocket, SettingsSocket
from .expected import workload
from .loop import fitting, probe
from .reward_vae import reward_vae_input
from .trainer import configured, host_model

MEASURED = "by what was measured now"


class FitCheck(io.ComfyNode):
    """Measures one rollout and one update."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_FitCheck",
            display_name="Fit Check",
            category="MixGRPO",
            description=(
                "Makes one group of images and one update with your settings, keeps nothing, and says how much memory "
                "that took, how long an iteration and the whole run will take, and what to lower if it does not fit."
            ),
            search_aliases=["mixgrpo fit", "dry run", "vram", "memory check", "out of memory", "how long"],
            inputs=[
                io.Model.Input("model", tooltip="The model that will be trained."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                PromptsSocket.Input("prompts", tooltip="The prompts; that with the largest images is rolled out."),
                RewardSocket.Input("rewards", tooltip="The rewards; they need memory, too."),
                SettingsSocket.Input("settings", tooltip="The settings to try."),
                reward_vae_input(),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="Memory, seconds, and what to lower.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model, vae, prompts, rewards, settings, reward_vae=None) -> io.NodeOutput:
        settings = for_model(settings, model)
        config = configured(settings, rewards, model)
        lowered: list[str] = []
        with torch.inference_mode(False), host_model(model, vae, prompts, settings) as policy:
            require_sizes(policy, (*prompts.train, *prompts.held_out))
            policy.take_tiny(reward_vae)
            tried_on = largest(prompts.train, policy.resolution)
            policy.prepare([tried_on])
            probe(policy, [tried_on])
            asked = {name: votes_as(afresh(reward), _instead) for name, reward in rewards.rewards.items()}
            report, tried = _first_fitting(policy, [tried_on], asked, config, lowered)
            rates = _rates(policy, tried_on, asked, report, tried)
            computed = _computed(policy.at(size_of(tried_on) or policy.resolution), config)
        family = [f"settings for: {settings.family}"] if settings.family else []
        text = "\n".join(
            [computed, *family, _words(report, tried, Forecast(workload(prompts, config), rates, MEASURED), lowered)]
        )
        return io.NodeOutput(text, ui=ui.PreviewText(text))


def _instead(vote: HumanVote) -> Reward:
    """Nobody is asked for votes here: what scores a group that nobody voted on, or anything that tells images apart."""
    return vote.fallback or PixelReward(Brightness(), More())


def _first_fitting(policy, prompts, rewards, config: TrainConfig, lowered: list[str]) -> tuple[StepReport, TrainConfig]:
    """One group and one update; batches are halved until they fit. ``lowered`` hears what was halved."""
    trial = replace(config, iterations=1, prompts_per_iteration=1, updates=1, eval_every=0)

    def once(config: TrainConfig) -> tuple[StepReport, TrainConfig]:
        carried = {prompt: policy.texts.contexts[prompt] for prompt in prompts if prompt in policy.texts.contexts}
        with closing(train(policy, prompts, rewards, config, contexts=carried, observer=_stop_when_asked)) as reports:
            return next(reports), config

    def lower(config: TrainConfig, words: str) -> None:
        policy.make_room(config)
        lowered.append(words)

    return fitting(once, trial, lower)


def _stop_when_asked(event: Event) -> None:
    comfy.model_management.throw_exception_if_processing_interrupted()


def _computed(policy: HostModel, config: TrainConfig) -> str:
    """The memory that the settings as they were asked for need, from the network's own passes."""
    need, weights = policy.memory_need, policy.patcher.model_size()
    if need is None:
        return "computed: nothing, this network decides by numbers what it does; what was measured counts"
    parts = {
        f"sampling {config.rollout_batch}": need.sampling(config),
        f"training {config.update_batch}": need.training(config),
        "the LoRA's gradient, AdamW and averages": need.kept(config),
    }
    return (
        f"computed, as set: {_gib(need.of(config) + weights)} with all weights ({_gib(weights)}) on the device, of "
        "which " + ", ".join(f"{name} {_gib(size)}" for name, size in parts.items())
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def _rates(
    policy: HostModel, prompt: str, rewards: Mapping[str, Reward], report: StepReport, config: TrainConfig
) -> Rates:
    """What the work of a run takes.

    The network by the group of ``report``, split among calls and rows, for a run's calls have rows of several prompts;
    decoding and scores by a step, for a first group may be decoded and scored twice.
    """
    step = rates_of_a_step(policy, prompt, config, rewards, low=report.decoded.get("dtype") == BFLOAT16)
    return step if report.flat_groups else Workload(config, shown=0).measured(Timed.of(report), step)


def _words(report: StepReport, config: TrainConfig, forecast: Forecast, lowered: Sequence[str]) -> str:
    """What was measured of ``config``'s one group, and what the run will take by it."""
    per_prompt = sum(report.seconds.values())
    noise = report.update.figures.get("ratio_first")
    lines = [
        f"peak memory: {_gib(report.peak_memory)}",
        f"one prompt ({config.images_per_prompt} images): {duration(per_prompt)}, of which "
        + ", ".join(f"{phase} {duration(seconds)}" for phase, seconds in report.seconds.items()),
        forecast.words,
        f"batches that fit: rollout {config.rollout_batch}, decode {config.decode_batch}, update {config.update_batch}",
    ]
    lines += lowered or ["everything fitted as set"]
    if noise is not None:
        lines.append(f"first ratio is off 1 by {noise:.1e} (rounding between rollout and update)")
    if report.flat_groups:
        lines.append(
            "all images of the group scored the same: there was nothing to train on, the update's memory is not in this"
        )
    return "\n".join(lines)
