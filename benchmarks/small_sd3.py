"""Seconds per iteration and rows by phase on a tiny Stable Diffusion 3 of random weights, at two settings.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/small_sd3.py [--rounds 4]

The network has the size of that on which another framework was once timed beside this one (1,105,216 parameters, two
blocks of width 128; 128 px, 333 text tokens, guidance 4.5, float32). CPU seconds of one thread and one process; the
presets take turns, medians after a first round that warms up. Writes ``small_sd3.md``.
"""

# ruff: noqa: E402
import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from time import process_time

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from tiny_sd3 import LETTERS, clip_encoder, clip_tokenizer
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

from mixgrpo_core import DPMpp2M, FlowSDE, FrozenWindow, StepReport, TrainConfig, WindowPlanner, dance_grpo, train
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.families.sd3 import load_sd3
from mixgrpo_core.objectives import GRPO
from mixgrpo_core.rewards.pixels.measures import Brightness, More, PixelReward
from mixgrpo_core.support import phases

phases.time = SimpleNamespace(perf_counter=process_time)  # the machine may be shared
PAGE = Path(__file__).with_suffix(".md")
SIDE, GUIDANCE, WIDTH = 128, 4.5, 64
PARAMETERS = 1_105_216
FRAMEWORK = "Flow-Factory"
SAMPLING, TRAINING = ("rollout", "decode", "reward"), ("train", "probe")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is timed, and what was measured of the other framework at it: sampling and decoding, optimising, in all.

    Attributes:
        stochastic: steps that are noisy and trained.
        same: what the same algorithm took here then, over that.
    """

    steps: int
    stochastic: int
    images: int
    prompts: int
    late: int
    theirs: tuple[float, float, float]
    their_rows: str
    same: float


SETTINGS = {
    "A": Setting(
        steps=10, stochastic=2, images=8, prompts=4, late=3, theirs=(4.70, 1.87, 6.57), their_rows="", same=0.99
    ),
    "C": Setting(
        steps=25,
        stochastic=4,
        images=12,
        prompts=2,
        late=8,
        theirs=(9.6, 3.22, 12.8),
        their_rows="1200 / 192 / 0",
        same=1.07,
    ),
}
HEAD = """# A tiny Stable Diffusion 3

`benchmarks/small_sd3.py`: CPU seconds of an iteration on one thread, and rows through the network by phase, of a Stable
Diffusion 3 of random weights with {parameters:,} parameters: {side} px, 333 text tokens, guidance {guidance} (two rows
of each), float32, a LoRA of rank 32 on attention alone, 2 updates, `FlowSDE(0.8)`. One process, presets in turns,
medians of {rounds} rounds after one that warms up. The machine may be shared: compare within a table.

* *the same algorithm*: noise of its own for every image, a window at the start: what the other framework computes;
* DanceGRPO: noise in every step, a random 60 % of them trained;
* MixGRPO: a window at the start, where it stands first, or further on; Flash and Flash* have 0.4 and 0.2 of the steps
  behind it.

The other framework is {framework} (a0b2bc5, its files as they are, float32 on both sides), timed on 26 November 2026
beside this package on a network of these sizes with these settings. It was not run again and nothing of it is here:
its seconds are that day's. *The same algorithm* took {c} of its time at C and {a} at A then; by that the last column
but one goes over from *the same algorithm* to it.
"""


def make_folder(path: Path) -> Path:
    """Write the pipeline to ``path`` as a real one is written."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *((letter, -2.0) for letter in LETTERS)]
    torch.manual_seed(0)
    network = SD3Transformer2DModel(
        sample_size=SIDE // 8,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=32,
        num_attention_heads=4,
        caption_projection_dim=128,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        pos_embed_max_size=32,
    )
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS
    StableDiffusion3Pipeline(
        transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=AutoencoderKL(
            block_out_channels=(16, 16, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=16,
            norm_num_groups=8,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=clip_encoder(WIDTH // 2),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_encoder(WIDTH // 2),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=T5EncoderModel(
            T5Config(vocab_size=30, d_model=WIDTH, d_ff=16, d_kv=8, num_heads=2, num_layers=1)
        ),
        tokenizer_3=T5TokenizerFast(vocab=pieces, extra_ids=0),
    ).save_pretrained(path)
    return path


def load(path: Path) -> PipelineModel:
    return load_sd3(path, rank=32, alpha=64, layers="attention", dtype=torch.float32, guidance=GUIDANCE)


def configs(setting: Setting) -> dict[str, TrainConfig]:
    """By preset."""

    def window(start: int, tail: float = 1.0) -> WindowPlanner:
        return WindowPlanner(window=FrozenWindow(size=setting.stochastic, start=start), tail_ratio=tail)

    mixed = TrainConfig(
        iterations=1,
        steps=setting.steps,
        images_per_prompt=setting.images,
        prompts_per_iteration=setting.prompts,
        updates=2,
        learning_rate=3e-4,
        kernel=FlowSDE(eta=0.8),
        objective=GRPO(clip=1e-4),
        planner=window(0),
        eval_every=0,
        decode_dtype="float32",
    )
    dance = dance_grpo()
    return {
        "the same algorithm": replace(mixed, shared_noise=False),
        "DanceGRPO": replace(mixed, planner=dance.planner, kernel=dance.kernel),
        "MixGRPO, window at 0": mixed,
        f"MixGRPO, window at {setting.late}": replace(mixed, planner=window(setting.late)),
        "MixGRPO-Flash": replace(mixed, planner=window(0, 0.4), tail_solver=DPMpp2M()),
        "MixGRPO-Flash*": replace(mixed, planner=window(0, 0.2), tail_solver=DPMpp2M()),
    }


def iteration(model: PipelineModel, config: TrainConfig, seed: int) -> StepReport:
    """One iteration; what it learns is thrown away."""
    prompts = [f"{letter} red circle" for letter in LETTERS[: config.prompts_per_iteration]]
    before = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    reward = {"brightness": PixelReward(Brightness(), More())}
    [report] = train(model, prompts, reward, replace(config, seed=seed))
    model.load_lora_state(before)
    return report


def spent(report: StepReport, phases_: tuple[str, ...]) -> float:
    return sum(report.seconds.get(phase, 0.0) for phase in phases_)


def table(model: PipelineModel, setting: Setting, rounds: int) -> str:
    """Of one setting."""
    asked = configs(setting)
    found: dict[str, list[StepReport]] = {name: [] for name in asked}
    for number in range(rounds + 1):
        for name, config in asked.items():
            report = iteration(model, config, number)
            if number:
                found[name].append(report)
    first = _medians(found["the same algorithm"])
    theirs = setting.theirs
    lines = [
        f"| | rollout + decode + reward, s | update, s | iteration, s (range) | / the same algorithm | / {FRAMEWORK} "
        "| rows rollout / train / probe |",
        "|---|---|---|---|---|---|---|",
        f"| {FRAMEWORK}, that day | {theirs[0]:.2f} | {theirs[1]:.2f} | {theirs[2]:.2f} | | 1 | {setting.their_rows} |",
    ]
    images = setting.images * setting.prompts
    for name, reports in found.items():
        middle, totals = _medians(reports), [spent(one, SAMPLING) + spent(one, TRAINING) for one in reports]
        counts = [round(reports[-1].nfe.get(phase, 0.0) * images) for phase in ("rollout", "train", "probe")]
        ratio = middle["all"] / first["all"]
        lines.append(
            f"| {name} | {middle['sampling']:.2f} | {middle['training']:.2f} | {middle['all']:.2f} "
            f"({min(totals):.2f}-{max(totals):.2f}) | {ratio:.2f} | {ratio * setting.same:.2f} "
            f"| {' / '.join(map(str, counts))} |"
        )
    return "\n".join(lines)


def _medians(reports: list[StepReport]) -> Mapping[str, float]:
    parts = {"sampling": SAMPLING, "training": TRAINING, "all": (*SAMPLING, *TRAINING)}
    return {name: statistics.median(spent(one, of) for one in reports) for name, of in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    same = {name.lower(): setting.same for name, setting in SETTINGS.items()}
    told = {"parameters": PARAMETERS, "side": SIDE, "guidance": GUIDANCE, "framework": FRAMEWORK, **same}
    parts = [HEAD.format(rounds=options.rounds, **told)]
    with tempfile.TemporaryDirectory() as folder:
        model = load(make_folder(Path(folder) / "sd3"))
        for name, setting in SETTINGS.items():
            parts.append(
                f"## {name}: {setting.steps} steps, {setting.stochastic} of them noisy, {setting.prompts} prompts x "
                f"{setting.images} images\n"
            )
            parts.append(table(model, setting, options.rounds) + "\n")
    text = "\n".join(parts)
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
