"""Ways to keep the frozen weights of linear layers in fewer bits."""

from typing import Literal

Quantization = Literal["float8", "int8 torchao", "int8 quanto", "nf4 bitsandbytes"]
FLOAT8: Quantization = "float8"
TORCHAO: Quantization = "int8 torchao"
QUANTO: Quantization = "int8 quanto"
NF4: Quantization = "nf4 bitsandbytes"
LIBRARIES: dict[Quantization | None, str] = {TORCHAO: "torchao", QUANTO: "optimum.quanto", NF4: "bitsandbytes"}
"""What has to be installed."""
BYTES: dict[Quantization | None, float] = {FLOAT8: 1.0, TORCHAO: 1.0, QUANTO: 1.0, NF4: 0.5 + 4 / 64}
"""Of a weight; scales of a whole row are left out, those of 64 weights are not."""
