"""A reward that another process computes, on another device or machine, and maybe for several runs at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ..port import RewardBatch, Scores, StatelessReward
from .endpoint import Endpoint, client_package


@dataclass(frozen=True)
class RewardElsewhere(StatelessReward):
    """Sends images and prompts as they are to ``mixgrpo-judge serve-rewards``, and takes the scores that come back.

    Ours. What is not answered is masked. Only images and prompts travel, so a reward that compares with a picture, or
    that remembers, is not served.

    Attributes:
        endpoint: the server.
        reward: what the server calls the reward.
    """

    endpoint: Endpoint
    reward: str

    def prepare(self, prompts: Sequence[str]) -> None:
        """See that the server is there and has the reward.

        Raises:
            ImportError: the client is not installed. ConnectionError, ValueError: one sentence.
        """
        self._client.check()

    def __call__(self, batch: RewardBatch) -> Scores:
        images = batch.images.detach().float().cpu()
        found = self._client.score(images, batch.prompts, cancelled=self.endpoint.cancelled)
        valid = torch.tensor([value is not None for value in found.values])
        values = torch.tensor([0.0 if value is None else value for value in found.values])
        return Scores(values, valid, found.problem)

    @cached_property
    def _client(self) -> Any:
        return client_package().open_reward(self.endpoint.name, self.reward, file=self.endpoint.file)
