"""What tests of bases in fewer bits share: which libraries are there, and a GGUF file."""

from importlib.util import find_spec
from pathlib import Path

from diffusers import FluxTransformer2DModel

from mixgrpo_core.models.quantization import LIBRARIES

NEEDS = "needs pip install torchao optimum-quanto bitsandbytes gguf in the environment of the tests"


def installed(quantization):
    library = LIBRARIES[quantization]
    return find_spec(library.partition(".")[0]) is not None and find_spec(library) is not None


def gguf_file(path: Path, found: FluxTransformer2DModel, without: str = "") -> Path:
    """The network as llama.cpp's tools write it: rows of 32 in 8 bits, the rest in float32."""
    import gguf

    writer = gguf.GGUFWriter(path, "flux")
    for name, weight in found.state_dict().items():
        if name == without:
            continue
        whole = weight.ndim != 2 or weight.shape[-1] % 32 or "norm" in name
        kind = gguf.GGMLQuantizationType.F32 if whole else gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(weight.numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
