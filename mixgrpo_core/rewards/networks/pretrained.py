"""Weights put into classes of transformers, each tensor exactly once, without a word on the terminal.

transformers itself maps the names of files to those of its modules, which differ from version to version; so it is
the one to fill them, and what it reports as missing or left over is an error here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor

from ...support.quoting import LONGEST_CAUSE, brief
from .weight_files import WeightsError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

M = TypeVar("M")


def filled(
    model: "type[PreTrainedModel]",
    config: "PretrainedConfig",
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype,
    source: Path,
    options: Mapping[str, Any] | None = None,
) -> "PreTrainedModel":
    """A ``model`` of ``config`` that holds exactly ``tensors``, in ``dtype`` on the CPU.

    Args:
        source: the file of the tensors, for messages.
        options: further arguments of the model's constructor.

    Raises:
        WeightsError: a tensor is missing, left over or of another shape.
    """
    state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    with quiet():
        try:
            network, found = with_info(
                model.from_pretrained(
                    None,
                    config=config,
                    state_dict=state,
                    output_loading_info=True,
                    local_files_only=True,
                    **dtype_argument(dtype),
                    **(options or {}),
                )
            )
        except RuntimeError as error:
            raise WeightsError(
                f"{source} does not fit a {model.__name__} ({first_line(error)}): is it whole, and the right one?"
            ) from error
    check_filled(found, source)
    return network


def with_info(loaded: M) -> tuple[M, Mapping[str, Any]]:
    """A network and the report on its loading: what ``from_pretrained`` gives with ``output_loading_info``."""
    return cast("tuple[M, Mapping[str, Any]]", loaded)  # the libraries' types know the network alone


def check_filled(found: Mapping[str, Any], source: Path) -> None:
    """What transformers reports after loading from ``source``.

    Raises:
        WeightsError: tensors are missing, left over or of another shape.
    """
    faults = [
        f"{words} {', '.join(sorted(map(str, found[kind]))[:3])}{', ...' if len(found[kind]) > 3 else ''}"
        for kind, words in (
            ("missing_keys", "no tensor"),
            ("unexpected_keys", "nothing to do with"),
            ("mismatched_keys", "another shape of"),
        )
        if found.get(kind)
    ]
    if faults:
        raise WeightsError(f"{source} is not what it should be, it has {'; '.join(faults)}: get it again")


def dtype_argument(dtype: torch.dtype) -> dict[str, Any]:
    """The argument of ``from_pretrained`` for the dtype, by the name that this version of transformers has for it."""
    import transformers

    return {"dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype": dtype}


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without progress bars and warnings: what they would say is checked here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """What an error says, without what follows."""
    return brief(str(error).strip().split("\n")[0], LONGEST_CAUSE)
