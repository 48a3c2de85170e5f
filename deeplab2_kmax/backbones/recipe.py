"""Which residual block stands where in the networks of the ResNet family, and with which stride, rate and drop path.

Nominal strides are those of a network of output stride 32: they choose the kind of a block at every output stride.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from deeplab2_kmax.layers import activations, axial_block, conv, residual, switchable_atrous
from deeplab2_kmax.layers import norm as norms


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the blocks of one network have in common.

    Args:
        wide: two 3x3 convolutions a block (wide bottlenecks in the last stage) instead of bottlenecks.
        output_stride: 4, 8, 16 or 32; stages that would stride further dilate instead.
        width_multiplier: factor on the filters.
        axial_beyond_stride: blocks of at least this nominal input stride use axial attention; 0: none.
        num_heads: of axial attention.
        expansion: bottleneck channels of axial blocks, key_expansion and value_expansion those of keys and values, all
            as multiples of the filters.
        sac_beyond_stride: stages whose nominal output stride is at least this use switchable atrous convolution,
            wherever they have 3x3 convolutions; 0 or -1: none.
        squeeze_and_excite: in every block.
        drop_path_keep_prob: keep probability of residual branches, from input stride `drop_path_beyond_stride` on.
        drop_path_schedule: "constant", or "linear" from 1 at the stem to `drop_path_keep_prob` at the end.
        recompute_stages: numbers of the stages whose blocks training computes again for their gradients.
        norm: factory of the norms.
        activation: used everywhere.

    Raises:
        ValueError: a value makes no sense.
    """

    norm: norms.Norm
    activation: activations.Activation
    wide: bool = False
    output_stride: int = 32
    width_multiplier: float = 1.0
    axial_beyond_stride: int = 0
    num_heads: int = 8
    expansion: float = 2.0
    key_expansion: float = 1.0
    value_expansion: float = 2.0
    sac_beyond_stride: int = -1
    squeeze_and_excite: bool = False
    drop_path_keep_prob: float = 1.0
    drop_path_schedule: str = "constant"
    drop_path_beyond_stride: int = 16
    recompute_stages: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.output_stride not in (4, 8, 16, 32):
            raise ValueError(f"output_stride is 4, 8, 16 or 32, but got {self.output_stride}.")
        if not 0.0 < self.drop_path_keep_prob <= 1.0:
            raise ValueError(f"drop_path_keep_prob lies in (0, 1], but got {self.drop_path_keep_prob}.")
        if self.drop_path_schedule not in ("constant", "linear"):
            raise ValueError(f"drop_path_schedule is 'constant' or 'linear', but got {self.drop_path_schedule!r}.")

    def blocks(
        self, number: int, input_stride: int, stride: int, count: int, *, filters: int | None = None
    ) -> list[residual.ResidualBlock]:
        """The `count` blocks of one stage.

        Args:
            number: of the stage, as `recompute_stages` counts.
            input_stride: nominal stride of its input.
            stride: nominal stride of its first block.
            count: of blocks.
            filters: a quarter of the channels it gives; `self.filters(input_stride * stride)` if None.
        """
        filters = self.filters(input_stride * stride) if filters is None else filters
        first = self._block(number, input_stride, stride, filters, is_first=True)
        return [first, *(self._block(number, input_stride, stride, filters) for _ in range(count - 1))]

    def filters(self, stride: int) -> int:
        """A quarter of the channels of a stage with this nominal output stride."""
        return int(round(stride * 16 * self.width_multiplier))

    def keep(self, input_stride: int) -> float:
        """Keep probability of the residual branch of a block with this nominal input stride."""
        if input_stride < self.drop_path_beyond_stride:
            return 1.0
        if self.drop_path_schedule == "constant":
            return self.drop_path_keep_prob
        return 1.0 - (1.0 - self.drop_path_keep_prob) * (math.log2(input_stride) - 1.0) / 4.0

    def _block(
        self, number: int, input_stride: int, stride: int, filters: int, *, is_first: bool = False
    ) -> residual.ResidualBlock:
        behind = input_stride * stride
        here = input_stride if is_first else behind
        shared: dict[str, Any] = {
            "stride": stride if is_first and input_stride < self.output_stride else 1,
            "norm": self.norm,
            "activation": self.activation,
            "drop_path": 1.0 - self.keep(here),
            "squeeze_and_excite": self.squeeze_and_excite,
            "recompute": number in self.recompute_stages,
        }
        if here >= self.axial_beyond_stride > 0:
            return axial_block.AxialBlock(
                filters,
                num_heads=self.num_heads,
                expansion=self.expansion,
                key_expansion=self.key_expansion,
                value_expansion=self.value_expansion,
                **shared,
            )
        switchable = behind >= self.sac_beyond_stride > 0
        shared["conv3x3"] = switchable_atrous.SwitchableConvNormAct if switchable else conv.ConvNormAct
        shared["dilation"] = max(1, here // self.output_stride)
        if not self.wide:
            return residual.Bottleneck(filters, **shared)
        if behind == 32:
            return residual.Bottleneck(filters, inner=2 * filters, **shared)
        return residual.Basic(filters, second_dilation=max(1, behind // self.output_stride), **shared)


def is_switchable(block: residual.ResidualBlock) -> bool:
    """Whether the 3x3 convolutions of a block are switchable atrous ones."""
    convolutions = [getattr(block, name, None) for name in ("conv1", "conv2")]
    return any(isinstance(layer, switchable_atrous.SwitchableConvNormAct) for layer in convolutions)
