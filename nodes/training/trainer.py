"""The node that trains: group rollouts on the local GPU, rewards, LoRA updates."""

import math
import os
from dataclasses import replace
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ...mixgrpo_core import TrainConfig
from ...mixgrpo_core.advantages import Credit
from ...mixgrpo_core.models.lora_reading import read_lora
from ...mixgrpo_core.models.sizes import require_sizes
from ...mixgrpo_core.rewards.people.votes import unheard, votes_at
from ...mixgrpo_core.rewards.told_apart import recognised
from ...mixgrpo_core.runs.gallery import result_of
from ...mixgrpo_core.runs.model_card import BEFORE_AFTER, REPORT
from ...mixgrpo_core.runs.summary import stopped_by, summary_of
from ...mixgrpo_core.support.spelling import spell
from ...mixgrpo_core.training.forecast import Forecast
from ...mixgrpo_core.training.pace import Pace
from ...mixgrpo_core.training.visits import needed
from ..host.family import require_flow_model
from ..host.identity import lora_digest, model_digest
from ..host.lora_layouts import lora_for
from ..host.model import HostModel
from ..host.texts import PromptSet
from ..live import Command, LiveRun, Preparing
from ..live.canvas_run import CanvasRun, lora_file, loras_folder, runs_folder
from ..live.voting import of_the_run
from ..names import composed
from ..settings.model_family import for_model
from ..sockets import PromptsSocket, Rewards, RewardSocket, SettingsSocket, TrainerSettings, lora_outputs, workflow_note
from .cards import write_run_card
from .expected import forecast, workload
from .loop import Training, probe
from .outcome import applied, curve, grid_that_fits, to_tensor
from .reward_vae import reward_vae_input, tiny_told
from .runs import layers_told, open_run, require_name, require_writable, settled

NEW = "none"
OUTPUTS = 6


class TrainLora(io.ComfyNode):
    """Trains a LoRA by reinforcement learning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_TrainLora",
            display_name="MixGRPO Train",
            category="MixGRPO",
            description=(
                "Teaches the model what the rewards ask for: it makes groups of images, scores them, and trains a LoRA "
                "towards the better ones of each group. Queue it again after a stop and it goes on; a higher number "
                "of iterations extends the run; other settings start a new one."
            ),
            search_aliases=[
                *("mixgrpo", "grpo", "flow-grpo", "rlhf", "dpo", "reinforcement learning", "reward"),
                *("train lora", "train a lora", "fine-tune", "fine tuning", "finetuning"),
            ],
            inputs=_inputs(),
            outputs=[
                *lora_outputs("The same noise without and with the LoRA."),
                io.Image.Output(display_name="curve", tooltip="Rewards, window and health of the run."),
                io.LossMap.Output(display_name="loss_map", tooltip="The loss of every iteration, for Plot Loss Graph."),
                io.String.Output(display_name="summary", tooltip="What came of it, and where the files are."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, run_name=None, start_from=None):
        try:
            if run_name is not None:  # else it comes by wire: known when it runs
                require_name(run_name)
            if start_from is not None:
                _require_listed(start_from)
            require_writable(runs_folder(), loras_folder())
        except (ValueError, RuntimeError) as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, run_name=None, start_from=None, **_others) -> str | float:
        """What the run has on disk: a run that was stopped, or whose folder is gone, goes on when queued again."""
        if run_name is None or start_from is None:
            return math.nan  # comes by wire
        return f"{_age(start_from)} {settled.fingerprint(composed(run_name))}"

    @classmethod
    def execute(cls, model, vae, prompts, rewards, settings, run_name, start_from, reward_vae=None) -> io.NodeOutput:
        with Preparing(cls.hidden.unique_id) as preparing:
            run_name = require_name(run_name)
            _require_listed(start_from)
            before = settled.fingerprint(run_name)
            settings = for_model(settings, model)
            config = configured(settings, rewards, model)
            with torch.inference_mode(False), host_model(model, vae, prompts, settings, start_from) as policy:
                policy.notes = workflow_note(cls.hidden.extra_pnginfo)
                # Before a run is made: the model is asked for one step of one image. The texts first, so that the text
                # encoder and the model need not share the GPU.
                require_sizes(policy, (*prompts.train, *prompts.held_out))
                policy.take_tiny(reward_vae)
                used = needed(config, prompts.train, prompts.held_out)
                policy.prepare(used)
                probe(policy, [prompt for prompt in prompts.train if prompt in used])
                for reward in rewards.rewards.values():  # and the rewards' files and texts; votes have no place yet
                    votes_at(reward, runs_folder(), unheard).prepare([*prompts.train, *prompts.held_out])
                setup = run_setup(policy, model, prompts, rewards, settings, start_from)
                require_writable((runs_folder() / run_name).parent, lora_file(run_name, "last").parent)
                run, config = open_run(run_name, config, setup)
                expected = forecast(policy, prompts, rewards.rewards, config, run, setup)
                preparing.over()
                with _live(cls.hidden.unique_id, run, config, policy, prompts, expected) as live:
                    asked = {  # the host keeps what nodes made for other runs: those remember other scores
                        name: of_the_run(reward, run.path, live.voting, live.tasting)
                        for name, reward in rewards.rewards.items()
                    }
                    training = Training(policy, prompts, asked, config, run, live)
                    command = training.go()
                    if command is Command.PAUSE:
                        live.status("paused")
                        settled.left(run_name)
                        # nodes behind it do not run; the host would show an interrupt as a failure
                        return io.NodeOutput(*[ExecutionBlocker(None)] * OUTPUTS)
                    live.status("evaluating")
                    found = _outputs(model, policy, prompts, training.config, run, settings.family)
                    found.args[1].card = write_run_card(run, rewards.rewards, prompts)
                    why = stopped_by(run.metrics())
                    ending = "stopped" if command or why else "finished"
                    live.status(ending, why or str(found.args[-1]).splitlines()[0])
                if command is None:
                    settled.done(run_name, before)
        return found


def _live(
    node: str,
    run: CanvasRun,
    config: TrainConfig,
    policy: HostModel,
    prompts: PromptSet,
    expected: Forecast | None,
) -> LiveRun:
    """The run, seen from outside."""
    return LiveRun(
        run=run.name,
        node=node,
        folder=run.path,
        iterations=config.iterations,
        plan_of=config.plan,
        sigmas=config.sigmas(policy),
        pace=Pace(workload(prompts, config), expected.rates if expected else None),
        expected=expected.words if expected else "",
    )


def _inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="A flow model (SD3.5, FLUX, ...), SDXL or SD 1.5. LoRAs that it carries stay."),
        io.Vae.Input("vae", tooltip="The model's VAE: rewards look at images, not at latents."),
        PromptsSocket.Input("prompts", tooltip="What to make images of: a Prompt Set."),
        RewardSocket.Input("rewards", tooltip="What to reward: one reward, or several through Combine Rewards."),
        SettingsSocket.Input("settings", tooltip="How to train: Trainer Settings."),
        io.String.Input(
            "run_name",
            default="my-lora",
            tooltip="Name of the run and of its LoRA files; portraits/anna is anna in the folder portraits. The run "
            "is kept in output/mixgrpo/<name>, the LoRA in output/loras/mixgrpo. With other settings than before a new "
            "run <name>-2 is made.",
        ),
        io.Combo.Input(
            "start_from",
            options=[NEW, *folder_paths.get_filename_list("loras")],
            default=NEW,
            advanced=True,
            tooltip="A LoRA file to go on from; its rank must be that of the settings.",
        ),
        reward_vae_input(),
    ]


def _require_listed(lora: str) -> None:
    if lora != NEW and lora not in folder_paths.get_filename_list("loras"):
        raise ValueError(f"start_from: no LoRA file {lora!r}: press R and choose it again")


def _age(lora: str) -> int:
    """When the file to start from was written; 0 for none."""
    path = None if lora == NEW else folder_paths.get_full_path("loras", lora)
    return os.stat(path).st_mtime_ns if path else 0


def configured(settings: TrainerSettings, rewards: Rewards, model: Any) -> TrainConfig:
    """The core's settings with the rewards' weights and credit and, where asked for, the model's own shift.

    Raises:
        ValueError: there is no reward to train on; the model cannot be trained.
    """
    if not any(rewards.weights.values()):
        raise ValueError("every reward has weight 0: give at least one a weight above 0 to train on")
    shift = require_flow_model(model).shift if settings.model_shift else settings.train.shift
    credit = _credit(rewards.credit, settings.train.credit)
    return replace(settings.train, shift=shift, reward_weights=dict(rewards.weights), credit=credit)


def _credit(combined: Credit | None, stages: tuple[Credit, ...]) -> tuple[Credit, ...]:
    """The settings' stages, the first of them as Combine Rewards has it where it has a choice of its own."""
    usual = TrainConfig().credit[0]
    if combined in (None, usual):
        return stages
    if stages[0] != usual:
        raise ValueError(
            f"Combine Rewards makes credit by {spell(combined)} and the settings by {spell(stages[0])}: set Combine "
            "Rewards to its first choice, or take the credit out of the settings"
        )
    return (combined, *stages[1:])


def host_model(model: Any, vae: Any, prompts: PromptSet, settings: TrainerSettings, start_from: str = NEW) -> HostModel:
    """The MODEL as a policy with a LoRA: a fresh one, or the one of a file."""
    policy = HostModel(
        model,
        vae,
        prompts,
        width=settings.width,
        height=settings.height,
        rank=settings.rank,
        alpha=settings.alpha,
        seed=settings.train.seed,
        cfg=settings.cfg,
        guidance=settings.guidance,
        checkpointing=settings.checkpointing,
        layers=settings.layers,
    )
    policy.make_room(settings.train)
    if start_from != NEW:
        lora = read_lora(folder_paths.get_full_path_or_raise("loras", start_from))
        policy.load_lora_file(lora_for(lora, model.model, policy.lora_state(), start_from))
    return policy


def run_setup(
    policy: HostModel, model: Any, prompts: PromptSet, rewards: Rewards, settings: TrainerSettings, start_from: str
) -> dict[str, Any]:
    """What must be the same for a run to go on, besides the core's settings."""
    clip = prompts.clip
    return {
        "model": f"{policy.family.name} {model_digest(model, 'diffusion_model')}",
        "text encoder": f"{model_digest(clip.patcher)} {clip.layer_idx}",
        "vae": model_digest(policy.vae.patcher),
        **tiny_told(policy),
        "prompts": prompts.digest,
        "negative": prompts.negative,
        "rewards": {name: recognised(reward) for name, reward in rewards.rewards.items()},
        "size": [settings.width, settings.height],
        "cfg": settings.cfg,
        "guidance": settings.guidance,
        "rank": settings.rank,
        "alpha": settings.alpha,
        **layers_told(settings.layers),
        "start": NEW if start_from == NEW else f"{start_from} {lora_digest(policy.lora_state())}",
    }


def _outputs(
    model: Any, policy: HostModel, prompts: PromptSet, config: TrainConfig, run: CanvasRun, family: str
) -> io.NodeOutput:
    """The run's LoRA - the last one or its average, or what was kept -, what it does, and what came of the run."""
    grid = grid_that_fits(policy, run, prompts, config)
    grid.save(run.path / BEFORE_AFTER)
    metrics = run.metrics()
    picture = to_tensor(grid)
    file, _ = result_of(run, averaged=config.ema is not None)
    with_lora, lora = applied(model, file)
    losses = {"loss": [report["update"]["loss"] or 0.0 for report in metrics]}
    image = curve(metrics, config, run.path / REPORT, grid)
    text = summary_of(run, metrics, config, run.name).text()
    text += f"\nsettings for: {family}" if family else ""
    # without a preview for the host, which shows it at whatever node has this number in the workflow that is open
    return io.NodeOutput(with_lora, lora, picture, image, losses, text)
