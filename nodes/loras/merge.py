"""The node that makes one LoRA of several, by training without a reward or exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.utils
import torch
from comfy_api.latest import io, ui

from ...mixgrpo_core.models.lora_file import LoraFile, save_lora
from ...mixgrpo_core.models.lora_joining import joined
from ...mixgrpo_core.models.port import LoraState
from ...mixgrpo_core.support.micro_batches import ran_out
from ...mixgrpo_core.training.kept_lora import KeptLora
from ...mixgrpo_core.training.merging.loop import (
    MergeConfig,
    Teacher,
    distances,
    merge,
    shown_of,
    teachers_of,
    weights_for,
)
from ...mixgrpo_core.training.merging.words import described, left_words, progress
from ..checks import LARGEST_SEED, require_chosen
from ..host.lora_layouts import lora_for
from ..host.model import HostModel
from ..host.texts import PromptSet
from ..settings.model_family import for_model
from ..sockets import SettingsSocket, TeacherSocket, TrainerSettings, lora_outputs, workflow_note
from ..training.loop import OutOfMemory, probe
from ..training.outcome import applied, to_tensor
from .made import Grid, ended_early, log, name_input, new_file, pictures, require_file_name
from .teacher import LoraTeacher

TRAINED, EXACT = "by training", "exact sum"
MOST_TEACHERS = 10
_DEFAULTS = MergeConfig()


class MergeLoras(io.ComfyNode):
    """One LoRA of several."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_MergeLoras",
            display_name="Merge LoRAs",
            category="MixGRPO",
            description=(
                "Makes one LoRA of several. By training, without a reward: a student learns to do on each prompt what "
                "the LoRA for it does, at the rank that you choose. As an exact sum: at once, the ranks add up, and "
                "every LoRA acts on every prompt."
            ),
            search_aliases=["mixgrpo merge", "lora merge", "combine loras", "mix loras", "distillation", "opd"],
            inputs=_inputs(),
            outputs=[
                *lora_outputs("The same noise with the base model, each LoRA, and one.", "merged"),
                io.String.Output(display_name="report", tooltip="How far it is from each LoRA, and where its file is."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, **values) -> bool | str:
        try:
            require_chosen(_ways(), values.get("how") or {})
            if values.get("name") is not None:
                require_file_name(values["name"])
        except (ValueError, RuntimeError) as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, model, vae, settings, teachers: io.Autogrow.Type, how, name) -> io.NodeOutput:
        require_chosen(_ways(), how)
        given = _named([one for one in teachers.values() if one is not None])
        settings = for_model(settings, model)
        file = new_file(name)
        rank = how["rank"] if how["how"] == TRAINED else 1
        with torch.inference_mode(False), _policy(model, vae, joined_prompts(given), settings, rank, how) as policy:
            policy.notes = workflow_note(cls.hidden.extra_pnginfo)
            own = policy.lora_state()
            files = {each: lora_for(one.lora, model.model, own, each) for each, one in given.items()}
            prompts = {each: one.prompts.train for each, one in given.items()}
            taught = teachers_of(policy, files, prompts)
            policy.prepare(policy.texts.train)
            probe(policy, policy.texts.train)
            if how["how"] == TRAINED:
                lines = _trained(policy, taught, _config(how), file, cls.hidden.unique_id)
                merged = policy.lora_state()
            else:
                merged, lines = _summed(policy, files, taught, file)
            columns = {"base model": None, **{one.name: one.weights for one in taught}, "merged": merged}
            grid = to_tensor(pictures(policy, shown_of(taught), columns, _sigmas(settings)))
        report = "\n".join([*lines, f"LoRA: {file}"])
        return io.NodeOutput(*applied(model, file), grid, report, ui=ui.PreviewText(report))


def _inputs() -> list[io.Input]:
    one = TeacherSocket.Input("teacher", tooltip="A LoRA Teacher; another slot appears when this one is connected.")
    return [
        io.Model.Input("model", tooltip="The model that the LoRAs are for, without them."),
        io.Vae.Input("vae", tooltip="Its VAE, for the pictures."),
        SettingsSocket.Input("settings", tooltip="Size, CFG, layers and checkpointing are the trainer's."),
        io.Autogrow.Input(
            "teachers",
            template=io.Autogrow.TemplatePrefix(input=one, prefix="teacher", min=2, max=MOST_TEACHERS),
            tooltip="Two LoRAs or more, each with the prompts that it is for.",
        ),
        _ways(),
        name_input("merged"),
    ]


def _ways() -> io.DynamicCombo.Input:
    return io.DynamicCombo.Input(
        "how",
        options=[io.DynamicCombo.Option(TRAINED, _lessons()), io.DynamicCombo.Option(EXACT, [])],
        tooltip="by training: each LoRA is followed on its own prompts only; a prompt of several has the sum of what "
        "they change. exact sum: no training, and every LoRA acts everywhere.",
    )


def _lessons() -> list[io.Input]:
    return [
        io.Int.Input("updates", default=_DEFAULTS.updates, min=1, max=100_000, tooltip="Steps of the optimizer."),
        io.Int.Input("rank", default=16, min=1, max=1024, tooltip="Of the merged LoRA; alpha is twice as much."),
        io.Float.Input(
            "learning_rate",
            default=_DEFAULTS.learning_rate,
            min=1e-7,
            max=1.0,
            step=1e-7,
            round=False,
            tooltip="Of AdamW.",
        ),
        io.Float.Input(
            "anchor",
            default=_DEFAULTS.anchor,
            min=0.0,
            max=100.0,
            step=0.01,
            tooltip="Weight of the distance to the base model: above 0 the result stays nearer to it.",
        ),
        io.Int.Input(
            "prompts_per_update",
            default=_DEFAULTS.prompts,
            min=1,
            max=1024,
            tooltip="Prompts in an update, of the LoRAs by turns.",
        ),
        io.Int.Input("images", default=_DEFAULTS.images, min=1, max=64, tooltip="Images of each prompt."),
        io.Int.Input("steps", default=_DEFAULTS.steps, min=2, max=200, tooltip="Of the sampling that is looked at."),
        io.Int.Input(
            "seed", default=0, min=0, max=LARGEST_SEED, control_after_generate=False, tooltip="Of noise and order."
        ),
    ]


def _config(how: Mapping[str, Any]) -> MergeConfig:
    return MergeConfig(
        updates=how["updates"],
        learning_rate=how["learning_rate"],
        prompts=how["prompts_per_update"],
        images=how["images"],
        steps=how["steps"],
        anchor=how["anchor"],
        seed=how["seed"],
    )


def _named(teachers: Sequence[LoraTeacher]) -> dict[str, LoraTeacher]:
    """The teachers by their names; the second of a name has a number behind it."""
    if len(teachers) < 2:
        raise ValueError(f"expected two LoRAs or more to merge, found {len(teachers)}: connect a LoRA Teacher for each")
    found: dict[str, LoraTeacher] = {}
    for one in teachers:
        numbered = (f"{one.name} {number}" for number in range(2, MOST_TEACHERS + 2))
        found[next(name for name in (one.name, *numbered) if name not in found)] = one
    return found


def joined_prompts(teachers: Mapping[str, LoraTeacher]) -> PromptSet:
    """The prompts of all teachers, by one text encoder.

    Raises:
        ValueError: they have several text encoders or negative prompts.
    """
    sets = [one.prompts for one in teachers.values()]
    first = sets[0]
    for name, one in teachers.items():
        clip = one.prompts.clip
        if clip.cond_stage_model is not first.clip.cond_stage_model or clip.layer_idx != first.clip.layer_idx:
            raise ValueError(f"the prompts of {name} have a text encoder of their own: connect one to all Prompt Sets")
        if one.prompts.negative != first.negative:
            raise ValueError(f"the prompts of {name} have another negative prompt: give all Prompt Sets the same")
    prompts = tuple(dict.fromkeys(prompt for one in sets for prompt in one.train))
    contexts = {prompt: context for one in sets for prompt, context in one.contexts.items()}
    return PromptSet(train=prompts, held_out=(), negative=first.negative, clip=first.clip, contexts=contexts)


def _policy(
    model: Any, vae: Any, prompts: PromptSet, settings: TrainerSettings, rank: int, how: Mapping[str, Any]
) -> HostModel:
    return HostModel(
        model,
        vae,
        prompts,
        width=settings.width,
        height=settings.height,
        rank=rank,
        alpha=2.0 * rank,
        seed=how.get("seed", 0),
        cfg=settings.cfg,
        guidance=settings.guidance,
        checkpointing=settings.checkpointing,
        layers=settings.layers,
    )


def _sigmas(settings: TrainerSettings) -> Grid:
    train = replace(settings.train, shift=None) if settings.model_shift else settings.train
    return train.eval_sigmas


def _trained(policy: HostModel, teachers: Sequence[Teacher], config: MergeConfig, file: Path, node: str) -> list[str]:
    """A line for each look at the distances; the file is written on the way."""
    bar, lines = comfy.utils.ProgressBar(config.updates, node_id=node), []
    kept = KeptLora(
        model=policy,
        path=file,
        config={"teachers": [one.name for one in teachers], **vars(config)},
        learning_rate=config.learning_rate,
        seed=config.seed,
    )
    try:
        for report in kept.following(merge(policy, teachers, config), ended_early("Merge LoRAs", file)):
            bar.update_absolute(report.update, config.updates)
            if report.distances:
                lines.append(progress(report))
                log.info("MixGRPO: %s", lines[-1])
    except Exception as error:
        if not ran_out(error):
            raise
        raise OutOfMemory(
            f"out of memory with {config.images} images at a time: take fewer images, a lower rank, or a smaller size"
        ) from error
    return lines


def _summed(
    policy: HostModel, files: Mapping[str, LoraFile], teachers: Sequence[Teacher], file: Path
) -> tuple[LoraState, list[str]]:
    """The exact sum in the policy's terms, and how far it is from each teacher on its prompts."""
    state = joined(list(files.values()), [1.0] * len(files))
    rank = max(len(tensor) for name, tensor in state.items() if ".lora_A" in name)
    save_lora(file, state, metadata={**policy.lora_about.metadata, **described(files, rank, file.stem)})
    weights = weights_for(policy, "sum", LoraFile(state=state, metadata={}, rank=rank))
    with policy.with_weights(weights):
        far = distances(policy, teachers, _DEFAULTS)
    return weights, [f"the sum of {', '.join(files)}, rank {rank}; {left_words(far)}"]
