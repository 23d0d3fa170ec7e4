"""People who vote."""

import torch
from toy import Red

from mixgrpo_core.rewards.people.ballot import State
from mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_core.rewards.port import RewardBatch
from mixgrpo_core.rewards.taste.sources import read_picture


def voting(folder):
    """Somebody who likes red, and votes as soon as there is a ballot."""

    def hear(ballot):
        box = BallotBox(folder / "votes")
        if ballot.open:
            images = torch.stack([read_picture(path) for path in box.pictures(ballot.id)])
            red = Red()(RewardBatch(images=images, prompts=(ballot.prompt,) * len(images))).values
            votes = {place: 1 if value > red.median() else -1 for place, value in enumerate(red.tolist())}
            box.vote(ballot.id, votes, State.DONE)

    return hear
