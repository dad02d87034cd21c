"""Sizes of a neural deformation field."""

from __future__ import annotations

from dataclasses import dataclass

from SpikeRegLib.text.ranges import DECODER_WEIGHTS, check_numbers, within


@dataclass(frozen=True)
class FieldSizes:
    """Everything that decides the shape of the codes and of the decoder.

    Attributes:
        global_size: values of the code that holds for the whole pair.
        local_size: channels of the grid of codes that hold for a neighbourhood.
        code_spacing_mm: distance of neighbouring local codes, 8 mm: an eighth of the resolution of images at 1 mm.
        frequencies: random Fourier frequencies of the position.
        frequency_scale: their standard deviation, in cycles per `extent_mm`.
        extent_mm: unit of the position for the Fourier features.
        width: of the hidden layers of the decoder.
        hidden_layers: of the decoder, at least one.
        first_omega: factor on the argument of the first sine; the Fourier features bring frequencies already.
        hidden_omega: factor on the arguments of the other sines (Sitzmann et al. 2020).
        cell_phase: give the decoder the position within a cell of the local codes as sine and cosine of its phase, so
            that the field can have detail between two codes.
        decoder_seed: of the frequencies and of the first weights.
    """

    global_size: int = 32
    local_size: int = 32
    code_spacing_mm: float = 8.0
    frequencies: int = 32
    frequency_scale: float = 1.0
    extent_mm: float = 100.0
    width: int = 64
    hidden_layers: int = 2
    first_omega: float = 1.0
    hidden_omega: float = 30.0
    cell_phase: bool = True
    decoder_seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)
        within("weights of the decoders", self.weights, *DECODER_WEIGHTS)

    @property
    def weights(self) -> int:
        """Weights of both decoders together."""
        features = 2 * self.frequencies + (6 if self.cell_phase else 0)
        read = self.code_size + features  # by every gate, with the one before it
        first = features + 1 + read + 1
        other = self.width + 1 + read + self.width + 1
        return 2 * (self.width * (first + (self.hidden_layers - 1) * other) + 3 * (self.width + 1))

    @property
    def code_size(self) -> int:
        """Values of the whole code at one point."""
        return self.global_size + self.local_size


def paper_options() -> FieldSizes:
    """The sizes of the paper: 128 frequencies, width 128."""
    return FieldSizes(frequencies=128, width=128, cell_phase=False)
