"""People as a reward: the node that asks for votes."""

from collections.abc import Mapping
from types import MappingProxyType

from comfy_api.latest import io

from ...mixgrpo_core.rewards.people.votes import HumanVote
from ...mixgrpo_core.rewards.people.voting import Ranking, Thumbs, VoteScheme
from ...mixgrpo_core.rewards.port import Reward
from ..checks import require_in_range
from ..sockets import Rewards, RewardSocket

VOTE_SCHEMES: Mapping[str, VoteScheme] = MappingProxyType({"thumbs": Thumbs(), "ranking": Ranking()})
NAME = "votes"
SECOND_THOUGHTS = 6.0
"""Seconds in which the last thumb can be taken back."""


class HumanVoteNode(io.ComfyNode):
    """A reward that people give in the live view."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_HumanVote",
            display_name="Human Vote",
            category="MixGRPO/rewards",
            description=(
                "You are the reward: the trainer shows each group of images in its node and waits for your thumbs or "
                "your ranking. It never waits for longer than the time limit, and a vote is never lost."
            ),
            search_aliases=["mixgrpo reward", "human feedback", "rlhf", "dpo", "thumbs", "rank images", "preference"],
            inputs=[
                io.Combo.Input(
                    "way",
                    options=list(VOTE_SCHEMES),
                    default="thumbs",
                    tooltip="thumbs: up or down for each image. ranking: click the images in order, the best first.",
                ),
                io.Int.Input(
                    "time_limit",
                    default=300,
                    min=5,
                    max=86_400,
                    tooltip="Seconds to vote on a group. When they are over, the votes that came count; with fewer "
                    "than two the fallback scores the group, or the training goes on without it.",
                ),
                io.Int.Input(
                    "images_shown",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="How many images of a group are shown, two at least; 0 shows all. The others are not "
                    "trained on, unless another reward scores them.",
                ),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=0.05,
                    max=1000.0,
                    step=0.05,
                    tooltip="How much the votes count beside other rewards.",
                ),
                RewardSocket.Input(
                    "fallback",
                    optional=True,
                    tooltip="The reward of groups that nobody voted on in time; without one they teach nothing.",
                ),
            ],
            outputs=[RewardSocket.Output(display_name="reward", tooltip="For the trainer or Combine Rewards.")],
        )

    @classmethod
    def validate_inputs(cls, images_shown=None):
        try:
            require_in_range(cls.define_schema().inputs, {"images_shown": images_shown})
            if images_shown == 1:
                raise ValueError("images_shown: one image cannot be compared; show two or more, or 0 for all")
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, way, time_limit, images_shown, weight, fallback=None) -> io.NodeOutput:
        values = {"way": way, "time_limit": time_limit, "images_shown": images_shown, "weight": weight}
        require_in_range(cls.define_schema().inputs, values)
        vote = HumanVote(
            VOTE_SCHEMES[way],
            shown=images_shown,
            fallback=_only(fallback),
            seconds=float(time_limit),
            second_thoughts=SECOND_THOUGHTS,
        )
        return io.NodeOutput(Rewards(rewards={NAME: vote}, weights={NAME: weight}))


def _only(fallback: Rewards | None) -> Reward | None:
    """The one reward that is trained on. Raises ``ValueError`` where there are several."""
    if fallback is None:
        return None
    trained = [name for name in fallback.rewards if fallback.weights[name] > 0]
    if len(trained) != 1:
        raise ValueError(f"fallback: expected one reward, found {', '.join(trained) or 'none with a weight above 0'}")
    return fallback.rewards[trained[0]]
