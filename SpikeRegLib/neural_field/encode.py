"""The encoder's part: one pass over a pair on its working frame gives the codes, with the activity of every layer."""

from __future__ import annotations

import torch

from SpikeRegLib.images.frames import Frame
from SpikeRegLib.networks.deploy import deploy
from SpikeRegLib.networks.passes import Prediction, Recording, energy_of, rate_maps, with_fallback
from SpikeRegLib.neural_field.coded import rounded
from SpikeRegLib.neural_field.codes import Codes
from SpikeRegLib.neural_field.model import FieldNetwork
from SpikeRegLib.progress import Listener, Progress
from SpikeRegLib.spiking.activity import ActivityRecorder, sum_layers
from SpikeRegLib.spiking.spec import Layer
from SpikeRegLib.spiking.unet import SpikingUNet


def predict_codes(
    network: FieldNetwork,
    fixed: torch.Tensor,
    moving: torch.Tensor,
    frame: Frame,
    *,
    device: str,
    spike_maps: bool,
    listener: Listener,
) -> tuple[Prediction, Codes]:
    """Run the encoder on a pair.

    Args:
        network: with a dense or a spiking encoder, in evaluation mode; its decoders stay where they are.
        fixed, moving: [D, H, W] in [0, 1] on the frame, moving already aligned.
        frame: isotropic, with the voxel size that the encoder was made for.
        device: "cpu", "cuda" or "mps"; out of memory there falls back to the CPU, with a warning.
        spike_maps: keep rate maps (spiking encoders only).
        listener: called for every layer.

    Returns:
        Activity, energy and maps as of any network, with a zero displacement, since only decoders make one; and the
        codes, rounded, on the CPU.
    """
    encoder = network.encoder
    found: list[Codes] = []

    def attempt(place: str, _: int | None) -> Prediction:
        ready = deploy(encoder, place)
        network.overall.to(place)
        spiking = isinstance(encoder, SpikingUNet)
        recorder = ActivityRecorder(encoder.spec, frame.shape, maps=spike_maps) if spiking else None
        layers = encoder.spec.layers

        def heard(layer: Layer) -> None:
            fraction = (layers.index(layer) + 1) / len(layers)
            listener(Progress("predict", fraction, f"encoder: {layer.name}"))

        image = torch.stack((fixed, moving))[None].to(place)
        record = Recording(recorder, image, heard)
        with torch.inference_mode():
            codes = network.encode(image, spacing_mm=frame.spacing[0], recorder=record, encoder=ready)
        found[:] = [rounded(codes)]
        recorders = [] if recorder is None else [recorder]
        return Prediction(
            displacement=torch.zeros(3, *frame.shape),
            passes=1,
            passes_run=1,
            views=1,
            layers=sum_layers([recorder.layers for recorder in recorders]),
            energy=energy_of(encoder, frame, recorders, 1),
            maps=rate_maps([recorder.maps for recorder in recorders], frame, encoder.spec),
            timesteps=encoder.spec.timesteps,
            device=place,
            arithmetic=getattr(ready, "arithmetic", "float32"),
        )

    return with_fallback(attempt, device, None, longest=0), found[0]
