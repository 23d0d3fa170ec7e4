"""How far an iteration moved the policy, by a look at some latents with its weights and with those of before.

For updates that cannot tell each other's moves (`steering`): a single one, and those of objectives without recorded
steps. The move is exact here, ``rms(v - v_old) / rms(v)``, on `MEMBERS` images of one prompt.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch

from ..models.port import FlowModel, LoraState, Velocity
from ..models.sizes import sized
from ..support.seeds import derive_seed
from .pieces import Draw, Group, Moment, Noise, Piece, draw_pieces, transition_pieces

MEMBERS: Final = 2
_LEVELS: Final = (0.8, 0.4)
"""Of noise, where there are no recorded steps."""


@dataclass(frozen=True)
class LookBack:
    """Compares the weights of now with those before the updates.

    Attributes:
        before: LoRA weights; they are not changed.
        batch: rows of a call at most.
    """

    model: FlowModel[Any]
    before: LoraState
    batch: int

    @torch.no_grad()
    def sums(self, group: Group, moment: Moment) -> tuple[float, float]:
        """Mean squares over steps and their distinct latents: of the velocity, and of its change."""
        few = group.select(torch.arange(min(MEMBERS, group.count)))

        def ask(velocity: Velocity) -> tuple[float, float]:
            found = []
            for piece in self._pieces(few, moment):
                now = velocity(piece.x, piece.sigma)
                with self.model.with_weights(self.before):
                    change = now - velocity(piece.x, piece.sigma)
                found.append(torch.stack([one.float().square().flatten(1).mean(1) for one in (now, change)]))
            size, changed = torch.cat(found, 1).mean(1).tolist()
            return size, changed

        return sized(self.model, group.prompt).run((group.cond,), ask)

    def _pieces(self, group: Group, moment: Moment) -> Iterator[Piece]:
        if group.trajectory.transitions:
            return transition_pieces(group, self.batch)
        draws = [Draw(sigma=level, noise=Noise.MEMBER) for level in _LEVELS]
        seed = derive_seed("look back", moment.seed, moment.iteration, group.place)
        return draw_pieces(group, draws, sized(self.model, group.prompt), seed, self.batch)
