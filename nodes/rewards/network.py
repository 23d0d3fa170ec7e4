"""What nodes of rewards with a network share: a choice of files, which are looked into when the reward is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from comfy_api.latest import io

from ...mixgrpo_core.rewards.networks.known_files import KnownFile
from ...mixgrpo_core.rewards.networks.weight_files import SUFFIXES
from ...mixgrpo_core.rewards.port import Reward
from ..host.reward_files import OWN, file_input, file_problem, fingerprint, path_of
from ..sockets import one_reward


@dataclass(frozen=True, kw_only=True)
class FileChoice:
    """An input of a node: one of the files that there are.

    Attributes:
        known: files that would do, for the sentence that says what is missing.
        first: of them, those that are chosen at first where they are there; all of ``known`` when None.
        kinds: folders of ``models/`` that are looked into.
        name: of the input.
        folders: whether a hub's folders are offered.
        suffixes: of the files that are offered.
    """

    tooltip: str
    known: Sequence[KnownFile]
    first: Sequence[KnownFile] | None = None
    kinds: Sequence[str] = (OWN,)
    name: str = "file"
    folders: bool = True
    suffixes: Sequence[str] = SUFFIXES

    def input(self) -> io.Input:
        """What the node shows; the list is made anew each time."""
        first = self.known if self.first is None else self.first
        return file_input(self.kinds, self.tooltip, first, name=self.name, folders=self.folders, suffixes=self.suffixes)

    def problem(self, chosen: str | None) -> str:
        """What is wrong with a choice; nothing where it comes by wire."""
        return file_problem(chosen, self.kinds, self.known, input=self.name)

    def path(self, chosen: str) -> str:
        """Where the chosen file is. Raises ``ValueError`` where it is not there."""
        return str(path_of(chosen, self.kinds, self.known))


class NetworkRewardNode(io.ComfyNode):
    """A node of one reward with a network. A subclass whose inputs are not ``file`` alone names them in
    ``validate_inputs``: the host leaves the checks of inputs that are named there to the node."""

    FILES: ClassVar[tuple[FileChoice, ...]] = ()

    @classmethod
    def validate_inputs(cls, file=None) -> bool | str:
        return cls.file_problem(file=file) or True

    @classmethod
    def fingerprint_inputs(cls, **chosen) -> str:
        """A changed file is read again."""
        return " ".join(fingerprint(choice.kinds, chosen.get(choice.name)) for choice in cls.FILES)

    @classmethod
    def file_problem(cls, **chosen: str | None) -> str:
        """What is wrong with the first bad choice among ``FILES``."""
        return next(filter(None, (choice.problem(chosen.get(choice.name)) for choice in cls.FILES)), "")

    @staticmethod
    def made(name: str, reward: Reward, weight: float) -> io.NodeOutput:
        """The node's output. What is wrong with its files is said now, not when the training starts."""
        reward.prepare(())
        return one_reward(name, reward, weight)
