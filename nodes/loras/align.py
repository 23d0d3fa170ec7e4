"""The node that trains on votes that are there: no rollouts, no reward."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import comfy.utils
import torch
from comfy_api.latest import io, ui

from ...mixgrpo_core.evaluation.shown import PROMPTS
from ...mixgrpo_core.training.align.forms import DPO, NFT, PNAPO, Form, Ups
from ...mixgrpo_core.training.align.loop import AlignConfig, Look, align
from ...mixgrpo_core.training.align.voted import require_trainable, require_votes
from ...mixgrpo_core.training.align.words import found_words, progress, verdict
from ...mixgrpo_core.training.kept_lora import KeptLora
from ...mixgrpo_core.views.before_after import WITH, WITHOUT
from ..checks import LARGEST_SEED, require_chosen, require_in_range
from ..host.model import HostModel
from ..sockets import lora_outputs, workflow_note
from ..training.loop import probe
from ..training.outcome import applied, to_tensor
from .made import ended_early, fitting_batch, log, name_input, new_file, pictures, require_file_name
from .voted_runs import VotedRun, require_voted, state_of_votes, voted_runs

FORMS: Mapping[str, type[NFT] | type[DPO] | type[PNAPO] | type[Ups]] = MappingProxyType(
    {"NFT": NFT, "DPO": DPO, "PNAPO": PNAPO, "ups only": Ups}
)
_MOST_BETA = 1e6
_DEFAULTS = AlignConfig()


class AlignOnVotes(io.ComfyNode):
    """Trains a LoRA on votes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_AlignOnVotes",
            display_name="Align on Votes",
            category="MixGRPO",
            description=(
                "Trains a LoRA on the votes of an earlier run: no images are made and nobody is asked. Each group that "
                "was voted on kept its latents, so this takes a fraction of a run's time and can be tried again with "
                "other settings."
            ),
            search_aliases=[
                *("mixgrpo", "dpo", "diffusion-dpo", "preference", "train on votes", "offline", "diffusionnft", "rlhf"),
            ],
            inputs=_inputs(),
            outputs=[
                *lora_outputs("The same noise without and with the LoRA."),
                io.String.Output(display_name="report", tooltip="How it went on pairs that were held out."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, **values) -> bool | str:
        inputs = cls.define_schema().inputs
        try:
            if values.get("run") is not None:
                require_voted(values["run"])
            require_chosen(_forms(), values.get("form") or {})
            require_in_range([item for item in inputs if item.id not in ("run", "form")], values)
            if values.get("name") is not None:
                require_file_name(values["name"])
        except (ValueError, RuntimeError) as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, run=None, **_others) -> str:
        """Another vote is another training."""
        return "" if run is None else state_of_votes(run)

    @classmethod
    def execute(
        cls, model, clip, vae, run, form, updates, rank, learning_rate, name, groups, levels, held_out, seed
    ) -> io.NodeOutput:
        numbers = {"updates": updates, "rank": rank, "learning_rate": learning_rate, "groups": groups}
        require_in_range(
            [item for item in cls.define_schema().inputs if item.id not in ("run", "form")],
            {**numbers, "levels": levels, "held_out": held_out, "seed": seed},
        )
        chosen = chosen_form(form)
        config = AlignConfig(
            updates=updates, learning_rate=learning_rate, groups=groups, levels=levels, held_out=held_out, seed=seed
        )
        with torch.inference_mode(False):  # the latents are trained on
            voted = VotedRun.of(run)
            require_votes(voted.found, pairs=chosen.paired, start=chosen.noise == "start")
            file = new_file(name)
            with voted.policy(model, clip, vae, rank=rank, seed=seed) as policy:
                require_trainable(voted.found, policy.digest, policy.latent_shape)
                policy.notes = workflow_note(cls.hidden.extra_pnginfo)
                policy.prepare(voted.prompts)
                probe(policy, voted.prompts)
                lines, last = _trained(policy, voted, chosen, config, file, cls.hidden.unique_id)
                columns = {WITHOUT: None, WITH: policy.lora_state()}
                grid = to_tensor(pictures(policy, voted.prompts[:PROMPTS], columns, voted.config.eval_sigmas))
        report = "\n".join([found_words(voted.found), *voted.found.faults, *lines, verdict(last), f"LoRA: {file}"])
        return io.NodeOutput(*applied(model, file), grid, report, ui=ui.PreviewText(report))


def _inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The model that made the images that were voted on."),
        io.Clip.Input("clip", tooltip="Its text encoder."),
        io.Vae.Input("vae", tooltip="Its VAE, for the pictures of before and after."),
        io.Combo.Input(
            "run",
            options=voted_runs(),
            tooltip="A run with votes: its size, CFG and negative prompt are taken. Press R after one was made.",
        ),
        _forms(),
        io.Int.Input("updates", default=_DEFAULTS.updates, min=1, max=100_000, tooltip="Steps of the optimizer."),
        io.Int.Input("rank", default=16, min=1, max=1024, tooltip="Of the LoRA; alpha is twice as much."),
        io.Float.Input(
            "learning_rate",
            default=_DEFAULTS.learning_rate,
            min=1e-7,
            max=1.0,
            step=1e-7,
            round=False,
            tooltip="Of AdamW. Lower it where the report says that the better images are drawn worse.",
        ),
        name_input("from-votes"),
        io.Int.Input(
            "groups",
            default=_DEFAULTS.groups,
            min=1,
            max=1024,
            advanced=True,
            tooltip="Groups of images in an update; no more than there are.",
        ),
        io.Int.Input(
            "levels",
            default=_DEFAULTS.levels,
            min=1,
            max=64,
            advanced=True,
            tooltip="Levels of noise at which each group is looked at in an update.",
        ),
        io.Float.Input(
            "held_out",
            default=_DEFAULTS.held_out,
            min=0.0,
            max=0.9,
            step=0.05,
            advanced=True,
            tooltip="Share of the prompts that is not trained on: what the report says is of their pairs.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=LARGEST_SEED,
            control_after_generate=False,
            advanced=True,
            tooltip="Of the LoRA's first values, noise and order.",
        ),
    ]


def _forms() -> io.DynamicCombo.Input:
    return io.DynamicCombo.Input(
        "form",
        options=[
            io.DynamicCombo.Option("NFT", [_beta(NFT, "Smaller goes further at once.")]),
            io.DynamicCombo.Option("DPO", [_beta(DPO, "A small one lets images get worse.")]),
            io.DynamicCombo.Option("PNAPO", [_beta(PNAPO, "A small one lets images get worse.")]),
            io.DynamicCombo.Option("ups only", []),
        ],
        tooltip="NFT uses every vote. DPO learns from pairs of a group, one noise for both; PNAPO from the same pairs "
        "with the noise that each image began with. 'ups only' learns from what is liked alone.",
    )


def _beta(form: type[NFT] | type[DPO] | type[PNAPO], more: str) -> io.Input:
    return io.Float.Input(
        "beta",
        default=form().beta,
        min=0.01,
        max=_MOST_BETA,
        step=0.01,
        tooltip=f"How strongly the LoRA is held to the base model. {more}",
    )


def chosen_form(values: Mapping[str, Any]) -> Form:
    """The form of a choice. Raises ``ValueError``."""
    require_chosen(_forms(), values)
    form = FORMS[values["form"]]()
    return form if isinstance(form, Ups) else replace(form, beta=float(values["beta"]))


def _trained(
    policy: HostModel, voted: VotedRun, form: Form, config: AlignConfig, file: Path, node: str
) -> tuple[list[str], Look | None]:
    """Train; a line for each look, and the last of them. The file is written on the way."""
    bar = comfy.utils.ProgressBar(config.updates, node_id=node)

    def attempt(batch: int) -> tuple[list[str], Look | None]:
        told = {"form": form.name, **vars(form), **vars(config), "votes of": voted.run.name}
        kept = KeptLora(model=policy, path=file, config=told, learning_rate=config.learning_rate, seed=config.seed)
        lines, last = [], None
        reports = align(policy, voted.found.groups, form, replace(config, batch=batch))
        for report in kept.following(reports, ended_early("Align on Votes", file)):
            bar.update_absolute(report.update, config.updates)
            if report.look is not None:
                lines.append(progress(report))
                last = report.look
                log.info("MixGRPO: %s", lines[-1])
        return lines, last

    return fitting_batch(attempt, policy, config.batch)
