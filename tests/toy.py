"""A torch-only policy for tests: the exact velocity of a Gaussian target plus a rank-2 residual that is trained."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter

from mixgrpo_core.models.pictures import maps_over_latents
from mixgrpo_core.models.port import LoraAbout
from mixgrpo_core.rewards.port import RewardBatch, Scores
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.support.seeds import seeded_noise


class ToyModel:
    """Latents ``[3, 2, 2]``, decoded by a sigmoid; a prompt is its length. Deterministic from ``seed``."""

    latent_shape = (3, 2, 2)
    device = torch.device("cpu")
    min_steps = 2
    digest = ""
    guided = False
    lora_about = LoraAbout()

    def __init__(self, seed: int = 0, noise_of_batching: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.down = Parameter(torch.randn(2, 14, generator=generator) / 4)
        self.up = Parameter(torch.zeros(12, 2))
        self.evaluations = 0
        self.noise_of_batching = noise_of_batching
        self.weights: Mapping[str, Tensor] | None = self.lora()

    def lora(self) -> dict[str, Tensor]:
        return {"net.lora_A.weight": self.down, "net.lora_B.weight": self.up}

    def encode(self, prompt: str) -> float:
        return len(prompt) / 10

    def prepare(self, prompts) -> None:
        pass

    def noise(self, seed: int, count: int) -> Tensor:
        return seeded_noise(seed, (count, *self.latent_shape))

    def grid(self, steps: int) -> Tensor:
        return flow_sigmas(steps, 3.0)

    def places(self, maps: Tensor) -> Tensor:
        return maps_over_latents(maps, self.latent_shape)

    def run(self, conds: Sequence[float], body: Callable):
        prompts = torch.tensor(conds, dtype=torch.float64)

        def velocity(x: Tensor, sigma: Tensor, rows: Tensor | None = None) -> Tensor:
            self.evaluations += len(x)
            flat = x.flatten(1)
            cond = prompts[:1] if rows is None else prompts[rows]
            cond = cond.to(x.dtype)[:, None]
            variance = (1 - sigma) ** 2 * 0.25 + sigma**2
            v = (sigma - (1 - sigma) * 0.25) / variance * (flat - (1 - sigma) * cond) - cond
            if self.weights is not None:
                features = torch.cat([flat, sigma.expand(len(x), 1), torch.ones(len(x), 1)], 1)
                v = v + features @ self.weights["net.lora_A.weight"].T @ self.weights["net.lora_B.weight"].T
            v = v + self.noise_of_batching * len(x)  # what batch-dependent kernels do in low precision
            return v.view_as(x)

        return body(velocity)

    @contextmanager
    def with_weights(self, weights: Mapping[str, Tensor] | None):
        before, self.weights = self.weights, weights
        try:
            yield
        finally:
            self.weights = before

    def decode(self, x: Tensor, *, grad: bool = False) -> Tensor:
        return torch.sigmoid(x).permute(0, 2, 3, 1)

    def parameters(self) -> list[Parameter]:
        return [self.down, self.up]

    def lora_state(self) -> dict[str, Tensor]:
        return {name: tensor.detach() for name, tensor in self.lora().items()}

    @torch.no_grad()
    def load_lora_state(self, state: Mapping[str, Tensor]) -> None:
        for name, tensor in self.lora().items():
            tensor.copy_(state[name])


class Red:
    """How red the images are: the mean of their first channel."""

    def prepare(self, prompts) -> None:
        pass

    def __call__(self, batch: RewardBatch) -> Scores:
        return Scores.of(batch.images[..., 0].mean((1, 2)))

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state) -> None:
        pass


class Dark(Red):
    """How dark the other channels are."""

    def __call__(self, batch: RewardBatch) -> Scores:
        return Scores.of(1 - batch.images[..., 1:].mean((1, 2, 3)))
