"""The whole model of NePhi: an encoder, dense or spiking, that reads a pair, and the decoders of its codes."""

from __future__ import annotations

import torch
from torch import nn

from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.field import Decoders
from SpikeRegLib.neural_field.sizes import FieldSizes
from SpikeRegLib.space.grids import Grid
from SpikeRegLib.spiking.spec import Layer
from SpikeRegLib.spiking.unet import Recorder, RegistrationUNet, SpikingUNet

# The layer whose mean over the image the global code is read from: the coarsest one.
PAIR_LAYER = "bottleneck"


class FieldNetwork(nn.Module):
    """Pair of images -> codes -> displacement at any point.

    Args:
        encoder: of a spec whose output is "codes"; dense or spiking, both read and give the same units.
        options: `local_size` is that of the encoder's head.

    Raises:
        ValueError: encoder and options do not fit.
    """

    def __init__(self, encoder: RegistrationUNet, options: FieldSizes) -> None:
        super().__init__()
        spec = encoder.spec
        spacing_mm = spec.input_spacing_mm * spec.output_stride()
        if spec.output != "codes" or spec.head.out_channels != options.local_size:
            raise ValueError(f"encoder {spec.name} does not give codes of {options.local_size} channels")
        if spacing_mm != options.code_spacing_mm:
            raise ValueError(f"encoder {spec.name} gives codes {spacing_mm} mm apart, not {options.code_spacing_mm}")
        self.options = options
        self.encoder = encoder
        width = next(layer.out_channels for layer in spec.layers if layer.name == PAIR_LAYER)
        self.overall = nn.Linear(width, options.global_size)
        self.decoders = Decoders(options)

    def encode(
        self, image: torch.Tensor, *, spacing_mm: float, recorder: Recorder | None = None,
        encoder: RegistrationUNet | None = None,
    ) -> Codes:  # fmt: skip
        """Codes of a pair, in mm from its first voxel.

        Args:
            image: [1, 2, D, H, W], fixed and moving in [0, 1], moving aligned; any size.
            spacing_mm: of the image, isotropic.
            recorder: sees the inputs and the output of every layer of the encoder.
            encoder: the same encoder made ready to run, see `spiking.deploy`.
        """
        used = encoder or self.encoder
        pair = _PairMean(recorder)
        local = used(image, recorder=pair)[0]
        stride = used.spec.output_stride()
        depth, height, width = local.shape[1:]
        far = [(n - 1) * spacing_mm for n in image.shape[:1:-1]]
        assert pair.mean is not None
        return Codes(
            overall=self.overall(pair.mean * self._unit()),
            local=local,
            grid=Grid((depth, height, width), spacing_mm * stride),
            centre_mm=(far[0] / 2, far[1] / 2, far[2] / 2),
        )

    def _unit(self) -> torch.Tensor | float:
        """What one count of the layer `PAIR_LAYER` stands for, per channel."""
        if not isinstance(self.encoder, SpikingUNet):
            return 1.0
        return self.encoder.threshold(PAIR_LAYER) / self.encoder.spec.timesteps


class _PairMean:
    """A recorder that keeps the mean of `PAIR_LAYER` over the image, and passes all on to another one."""

    def __init__(self, after: Recorder | None) -> None:
        self.after = after
        self.reads_inputs = after is not None and getattr(after, "reads_inputs", True)
        self.mean: torch.Tensor | None = None

    def __call__(self, layer: Layer, inputs: list[torch.Tensor], output: torch.Tensor) -> None:
        if layer.name == PAIR_LAYER:
            self.mean = output[0].float().mean((1, 2, 3))
        if self.after is not None:
            self.after(layer, inputs, output)
