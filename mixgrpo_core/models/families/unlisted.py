"""A pipeline that no row is about: a row made of its own code, to be proven like the others.

What ``encode_prompt`` returns is read in ``__call__``, where the values get the names of arguments; the LoRA sits on
the linear layers of attention and MLP of every block; the embeddings' shapes are those of a real prompt. Guidance stays
off: what it is called, and from which number on it is on, is each pipeline's own.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor
from torch.nn import Linear

from ...support.micro_batches import ran_out
from ...support.quoting import cause
from ..diffusers.family import Config, Embeds, Family
from ..diffusers.loading import Index, ModelFilesError

M = TypeVar("M")
_BLOCK = re.compile(r"[A-Za-z_]\w*\.\d+\.")
_NOT_TRAINED = re.compile(
    r"norm|modulation|(^|[._])mod(_|\.|$)|adaln|emb|caption|context_processor|guidance|time|text_fusion", re.IGNORECASE
)
_PLAIN = {"num_frames": 1, "use_resolution_binning": False, "negative_prompt": None}
_GUIDANCE = ("guidance_scale", "true_cfg_scale")


def network_part(index: Index) -> str:
    """The part that is the network of a pipeline that no row is about."""
    return "unet" if "unet" in index.parts and "transformer" not in index.parts else "transformer"


def family_from(pipeline: type[DiffusionPipeline], network: ModelMixin, part: str) -> Family:
    """A row for a pipeline's class and its network; its example has no shapes yet.

    Raises:
        ModelFilesError: the code does not say what is needed.
    """
    name = pipeline.__name__
    call = inspect.unwrap(pipeline.__call__)
    takes = inspect.signature(call).parameters
    returns = tuple(each if each in takes else "" for each in _returned(call))
    layers = [path for path, module in network.named_modules() if isinstance(module, Linear) and _trained(path)]
    lacking = [part for part in ("latents", "num_inference_steps", "output_type") if part not in takes]
    if not any(returns) or not layers or lacking or not hasattr(pipeline, "prepare_latents"):
        raise ModelFilesError(
            f"{name} is in no row of the table of families, and its code does not say how it is trained (expected "
            "`encode_prompt` and `prepare_latents` in its call and blocks with linear layers): use another model"
        )
    told = network.config.get("guidance_embeds", False)
    kept = _GUIDANCE[:1] if told else ()
    off = {each: 1.0 for each in _GUIDANCE if each in takes and each not in kept}
    fixed = {**off, **{each: value for each, value in _PLAIN.items() if each in takes}}
    return Family(
        name=name.removesuffix("Pipeline"),
        pipelines=(name,),
        architecture=lambda config: name.removesuffix("Pipeline").lower(),
        returns=returns,
        example=lambda config, draw: {},
        linears="|".join(map(re.escape, layers)),
        network=part,
        guidance=None,
        fixed=lambda height, width: fixed,
    )


def with_shapes(family: Family, made: Embeds) -> Family:
    """``family`` with an example as long as a real prompt's embeddings; masks are that prompt's."""

    def example(config: Config, draw: Callable[..., Tensor]) -> Embeds:
        return {
            name: draw(*tensor.shape) if tensor.is_floating_point() and "mask" not in name else tensor
            for name, tensor in made.items()
        }

    return replace(family, example=example)


def _trained(path: str) -> bool:
    return _BLOCK.match(path) is not None and not _NOT_TRAINED.search(path)


def _returned(call: Callable[..., object]) -> Iterator[str]:
    """The names that the first call of ``encode_prompt`` gives what it returns."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(call)))):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        if getattr(node.value.func, "attr", "") == "encode_prompt":
            target = node.targets[0]
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            yield from (getattr(part, "id", "") for part in parts)
            return


def attempted(name: str, load: Callable[[], M]) -> M:
    """What ``load`` gives; whatever a pipeline makes of being asked by its code alone, in a sentence.

    Raises:
        ModelFilesError: it failed. A lack of memory passes through.
    """
    try:
        return load()
    except ModelFilesError:
        raise
    except (ValueError, TypeError, RuntimeError, AttributeError, LookupError) as error:
        if ran_out(error):
            raise
        raise ModelFilesError(
            f"{name} is in no row of the table of families, and asked by what its code says it fails ({cause(error)}): "
            "use another model"
        ) from error
