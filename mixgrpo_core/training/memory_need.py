"""How much memory a training needs besides the network's weights, and the batches that fit in what there is."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from ..models.policy import OLD
from ..settings.config import TrainConfig
from ..support.activations import PassMemory

_GRADIENT, _MOMENTS = 1, 2
"""What AdamW keeps of each trained number besides the number itself."""


@dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """Bytes besides the weights, by what is done.

    Attributes:
        passes: of the network's calls.
        lora: bytes of the trained tensors.
        decoding: of a group, which counts where it is decoded beside a rollout.
    """

    passes: PassMemory
    lora: int
    decoding: int = 0

    def of(self, config: TrainConfig) -> int:
        """Bytes of a run with these settings: the larger of a call that samples and a call that trains."""
        return self.kept(config) + max(self.sampling(config), self.training(config))

    def kept(self, config: TrainConfig) -> int:
        """What stands beside the LoRA: its gradient, AdamW's states, its average and the policies that lag behind."""
        old = OLD in config.objective.needs
        copies = _GRADIENT + _MOMENTS + (config.ema is not None) + len(config.objective.policies) + old
        return copies * self.lora

    def sampling(self, config: TrainConfig) -> int:
        """The largest call of a rollout, and what is decoded beside it."""
        most = max(config.images_per_prompt, config.eval_images)
        beside = self.decoding if config.decode_beside else 0
        return self.passes.sampling.of(min(config.rollout_batch, most)) + beside

    def training(self, config: TrainConfig) -> int:
        """The largest call of an update with its backward pass; other policies that it asks are asked within."""
        images = min(config.update_batch, config.images_per_prompt)
        others = bool(config.regularisers or config.objective.regularisers or config.objective.policies)
        return self.passes.training.of(images) + (self.passes.sampling.of(images) if others else 0)

    def fitted(self, config: TrainConfig, room: int, names: Collection[str]) -> TrainConfig:
        """The settings with those batches lowered, of ``names``, that do not fit in ``room`` bytes; 1 at the least."""
        room -= self.kept(config)
        for name, need in (("rollout_batch", self.sampling), ("update_batch", self.training)):
            if name in names:
                while getattr(config, name) > 1 and need(config) > room:
                    config = replace(config, **{name: getattr(config, name) - 1})
        return config


def lora_bytes(parameters: Iterable[Tensor]) -> int:
    """Bytes of the trained tensors."""
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)
