"""Scoring images with rewards, outside of any training."""

from collections.abc import Sequence

import torch
from comfy_api.latest import io, ui

from ...mixgrpo_core.evaluation.ranking import ImageRanking, ranked, ranking_of
from ...mixgrpo_core.evaluation.reward_probe import Probed, probe, told
from ...mixgrpo_core.rewards.port import Context, RewardBatch, Scores
from ...mixgrpo_core.rewards.scoring import Failure
from ..checks import require_in_range
from ..host.texts import PromptSet
from ..live.sheet import captioned
from ..sockets import PromptsSocket, RewardSocket
from ..training.outcome import to_tensor


class ScoreImages(io.ComfyNode):
    """Scores and ranks images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_ScoreImages",
            display_name="Score Images",
            category="MixGRPO/rewards",
            description=(
                "Scores images by rewards and puts the best first: to pick from a batch, or to see what a reward likes "
                "before a training. Several rewards count by their weights, each on the same scale."
            ),
            search_aliases=[
                "mixgrpo score",
                "rank images",
                "pickscore",
                "hpsv2",
                "imagereward",
                "best of",
                "aesthetic",
            ],
            inputs=[
                io.Image.Input("images", tooltip="Two or more, to compare; one is only scored."),
                RewardSocket.Input("rewards", tooltip="One reward, or several through Combine Rewards."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="",
                    tooltip="What they should show; some rewards read it.",
                ),
                io.Int.Input("keep", default=0, min=0, max=4096, tooltip="How many of the best to pass on; 0 is all."),
                io.Image.Input("reference", optional=True, tooltip="An image to resemble, or the source of an edit."),
                io.Mask.Input("mask", optional=True, tooltip="Over the reference: white where an edit may change it."),
                PromptsSocket.Input(
                    "prompts",
                    optional=True,
                    tooltip="Before a training: images of the base model, the same number for each training prompt, in "
                    "the order of the prompts. The table then says whether the rewards can be learned from, and why.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The images, best first."),
                io.Image.Output(display_name="sheet", tooltip="All images, best first, with their scores."),
                io.String.Output(
                    display_name="table",
                    tooltip="A line per image, best first, and what failed; with prompts before that whether the "
                    "rewards can be learned from.",
                ),
                io.Float.Output(
                    display_name="scores",
                    is_output_list=True,
                    tooltip="The score of every image handed on, of the first reward that counts.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, images, rewards, prompt, keep, reference=None, mask=None, prompts=None) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"keep": keep})
        scored = rewards.unattended
        if not scored:
            raise ValueError("people vote during a training only: connect a reward that scores by itself")
        if not any(rewards.weights[name] for name in scored):
            raise ValueError("every reward has weight 0: give at least one a weight above 0, which ranks the images")
        context = Context(
            reference=None if reference is None else reference[0, ..., :3], mask=None if mask is None else mask[0]
        )
        each, per = ([prompt], len(images)) if prompts is None else (prompts.train, _share(images, prompts))
        contexts = {} if prompts is None else prompts.contexts
        batches = [
            RewardBatch(images=part, prompts=(text,) * per, group=number, context=contexts.get(text, context))
            for number, (text, part) in enumerate(zip(each, images[..., :3].split(per), strict=True))
        ]
        weights = {name: rewards.weights[name] for name in scored}
        with torch.inference_mode(False):
            for reward in scored.values():
                reward.prepare(each)
            probed = [] if prompts is None else probe(scored, batches)
            found = ranking_of(_by_prompt(probed), weights) if probed else ranked(batches, scored, weights)
        if not any(bool(scores.valid.any()) for scores in found.scores.values()):
            why = probed[0].stats.reason if probed else found.failures[-1]
            raise ValueError(f"no image got a score: {why}")
        order = found.order[: keep or None]
        sheet = to_tensor(_sheet(images[..., :3], found))
        verdict = told(probed)
        words = [f"image {i + 1}" + (f" of “{each[i // per]}”" if probed else "") for i in range(len(images))]
        table = f"{verdict}\n\n{found.table(words)}" if probed else found.table(words)
        first = next(name for name in scored if rewards.weights[name] > 0)
        values = found.scores[first]
        scores = [float(values.values[i]) if bool(values.valid[i]) else float("nan") for i in order]
        shown = ui.PreviewImage(sheet, cls=cls).as_dict() | ({"text": (verdict,)} if probed else {})
        return io.NodeOutput(images[list(order)], sheet, table, scores, ui=shown)


def _share(images: torch.Tensor, prompts: PromptSet) -> int:
    """Images of each prompt. Raises ``ValueError`` where they cannot be shared out."""
    count = len(prompts.train)
    if len(images) % count or len(images) < 2 * count:
        raise ValueError(
            f"expected as many images of each of the {count} training prompts, two at least, found {len(images)} "
            "images: give as many prompts as there are images for"
        )
    return len(images) // count


def _by_prompt(probed: Sequence[Probed]) -> list[tuple[dict[str, Scores], tuple[Failure, ...]]]:
    """The scores of each prompt's images; what failed is told among the figures."""
    return [({one.name: one.scores[place] for one in probed}, ()) for place in range(len(probed[0].scores))]


def _sheet(images: torch.Tensor, found: ImageRanking):
    captions = ["\n".join([f"{place}. image {i + 1}", *found.words(i)]) for place, i in enumerate(found.order, start=1)]
    return captioned(images[list(found.order)], captions)
