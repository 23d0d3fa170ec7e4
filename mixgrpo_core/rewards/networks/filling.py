"""Networks of transformers filled with a file's tensors: every tensor has its place, nothing is initialised first.

Where the file's names are those of the modules, or are made so, the tensors are assigned to them. Where only
transformers knows how names of files become those of its modules, which differ from version to version, it fills the
network, without a word on the terminal; what it reports as missing or left over is an error here.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ...support.micro_batches import ran_out
from ...support.quoting import LONGEST_CAUSE, brief, listed
from .weight_files import WeightsError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

M = TypeVar("M", bound=nn.Module)
_FAULTS = (
    ("missing_keys", "no tensor"),
    ("unexpected_keys", "nothing to do with"),
    ("mismatched_keys", "another shape of"),
)


def on_meta(build: Callable[[], M]) -> M:
    """The network without numbers: names and shapes only.

    Raises:
        WeightsError: the sizes make no network.
    """
    try:
        with torch.device("meta"):
            return build()
    except Exception as error:
        raise WeightsError(f"the sizes in the file make no network ({error})") from error


def require_same(build: Callable[[], nn.Module], shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Raises WeightsError unless ``shapes`` are exactly those of the network's parameters."""
    expected = {name: tuple(tensor.shape) for name, tensor in on_meta(build).state_dict().items()}
    for what, names in (("lacks", expected.keys() - shapes.keys()), ("has unknown", shapes.keys() - expected.keys())):
        if names:
            raise WeightsError(
                f"{path} {what} {len(names)} parameters, such as {listed(sorted(names))}: it is another network"
            )
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise WeightsError(f"expected {name} of shape {list(shape)} in {path}, found {list(shapes[name])}")


def assigned(build: Callable[[], M], tensors: Mapping[str, Tensor], dtype: torch.dtype) -> M:
    """The network on the CPU with all ``tensors`` in it, in ``dtype``."""
    network = on_meta(build)
    network.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()}, assign=True)
    for module in network.modules():  # constants that files do not hold
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta and name == "position_ids":
                module.register_buffer(name, torch.arange(buffer.shape[-1]).expand(buffer.shape), persistent=False)
    return network


def load_strict(
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
    try:
        network, report = _by_transformers(
            model, None, dtype, {"config": config, "state_dict": state, **(options or {})}
        )
    except RuntimeError as error:
        raise WeightsError(
            f"{source} does not fit a {model.__name__} ({first_line(error)}): is it whole, and the right one?"
        ) from error
    _require_filled(report, source)
    return cast("PreTrainedModel", network)


def of_folder(model: "type[_BaseAutoModelClass]", folder: Path, *, dtype: torch.dtype) -> nn.Module:
    """The network of a hub's folder, in ``dtype`` on the CPU, every weight from its files.

    What is left over is no fault: many folders hold constants that older versions saved, and another network would lack
    something, too.

    Args:
        model: the class that chooses the network's by the folder's ``config.json``.

    Raises:
        WeightsError: no such network, or a tensor is missing or of another shape.
    """
    arguments = {"trust_remote_code": False, "ignore_mismatched_sizes": True}  # sizes are named below
    try:
        network, report = _by_transformers(model, folder, dtype, arguments)
    except Exception as error:  # whatever a network's class says of a configuration that is none
        if ran_out(error):
            raise
        raise WeightsError(f"the network in {folder} cannot be read ({first_line(error)})") from error
    _require_filled({**report, "unexpected_keys": ()}, folder)
    return network


def _by_transformers(
    model: "type[Any]",
    folder: Path | None,
    dtype: torch.dtype,
    arguments: Mapping[str, Any],
) -> tuple[nn.Module, Mapping[str, Any]]:
    """A network, and transformers' report on its loading."""
    import transformers

    name = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"
    chosen: dict[str, Any] = {name: dtype, **arguments}
    with quiet():
        loaded = model.from_pretrained(folder, local_files_only=True, output_loading_info=True, **chosen)
    return cast("tuple[nn.Module, Mapping[str, Any]]", loaded)  # the library's types know the network alone


def _require_filled(report: Mapping[str, Any], source: Path) -> None:
    faults = [
        f"{words} {listed(sorted(_name(entry) for entry in report[kind]))}"
        for kind, words in _FAULTS
        if report.get(kind)
    ]
    if faults:
        raise WeightsError(f"{source} is not what it should be, it has {'; '.join(faults)}: get it again")


def _name(entry: Any) -> str:
    """Of a tensor in a report: alone, or with both shapes."""
    return entry if isinstance(entry, str) else str(entry[0])


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
