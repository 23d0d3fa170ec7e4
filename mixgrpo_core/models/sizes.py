"""A model at the sizes that prompts have of their own."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from ..support.sized import Size, size_of
from .port import Cond, FlowModel, TakesSizes

T = TypeVar("T")


def sized(model: FlowModel[Cond], prompt: str) -> FlowModel[Cond]:
    """The model for images of the prompt's own size, which is the model itself where the prompt has none.

    Raises:
        ValueError: a size that the model does not make.
    """
    size = size_of(prompt)
    if size is None:
        return model
    if isinstance(model, TakesSizes):
        return model.at(size)
    raise ValueError(
        f"expected prompts without a size of their own for {type(model).__name__}, which makes images of one size: "
        "leave the size out"
    )


def of_sizes(model: FlowModel[Cond], prompts: Iterable[str], make: Callable[[FlowModel[Cond]], T]) -> dict[Size, T]:
    """What ``make`` gives of the model at each size that some of the prompts have of their own."""
    first = {size: prompt for prompt in prompts if (size := size_of(prompt)) is not None}
    return {size: make(sized(model, prompt)) for size, prompt in first.items()}


def require_sizes(model: FlowModel[Cond], prompts: Iterable[str]) -> None:
    """Raise ``ValueError``, in one sentence, for a prompt whose own size the model does not make."""
    for prompt in {size_of(prompt): prompt for prompt in prompts}.values():
        try:
            sized(model, prompt)
        except ValueError as error:
            height, width = size_of(prompt) or (0, 0)
            raise ValueError(
                f"the prompt {str(prompt)[:40]!r} asks for images of {width} x {height} (width x height): {error}"
            ) from error
