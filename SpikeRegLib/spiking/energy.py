"""The energy proxy: operations times the energy of one operation. An analytical proxy, never a measurement.

    E_ANN = e_MAC * dense MACs
    E_SNN = e_MAC * (MACs of layers fed by analog values) + e_AC * (synaptic operations)

Constants: 45 nm, 32-bit float (Horowitz 2014): e_MAC = 4.6 pJ, e_AC = 0.9 pJ. Memory traffic and neuron updates are not
in the proxy; they are counted beside it (`memory`). Formulas, sources and limits: Docs/energy.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from SpikeRegLib.spiking.spec import NetworkSpec, paper_unet

MAC_PJ = 4.6
AC_PJ = 0.9
FORMULA = "E_SNN = e_MAC x analog MACs + e_AC x synaptic operations;  E_ANN = e_MAC x dense MACs"


@dataclass(frozen=True)
class EnergyTable:
    """Operations of one inference (all passes) and the proxy computed from them.

    Attributes:
        dense_twin_macs: of the same network with analog activations.
        paper_baseline_macs: of the paper's dense network on the same field of view at its own 1 mm spacing.
        analog_macs: of layers that read the image, and of the smoothing after the head where there is one.
        synaptic_ops: of layers that read spikes; None where no image was run.
        neuron_updates: membrane updates, all neurons and time steps; None where no image was run.
    """

    dense_twin_macs: int
    paper_baseline_macs: int
    analog_macs: int
    synaptic_ops: int | None
    neuron_updates: int | None
    mac_pj: float = MAC_PJ
    ac_pj: float = AC_PJ

    @property
    def snn_mj(self) -> float | None:
        """Proxy of the spiking network in millijoules."""
        if self.synaptic_ops is None:
            return None
        return (self.mac_pj * self.analog_macs + self.ac_pj * self.synaptic_ops) * 1e-9

    @property
    def ann_mj(self) -> float:
        """Proxy of the dense twin in millijoules."""
        return self.mac_pj * self.dense_twin_macs * 1e-9

    def as_result(self) -> dict[str, Any]:
        """The `energy` entry of result.json."""
        snn = self.snn_mj
        return {
            "mac_pj": self.mac_pj,
            "ac_pj": self.ac_pj,
            "dense_twin_macs": self.dense_twin_macs,
            "paper_baseline_macs": self.paper_baseline_macs,
            "analog_macs": self.analog_macs,
            "synaptic_ops": self.synaptic_ops,
            "neuron_updates": self.neuron_updates,
            "snn_mj": snn,
            "ann_mj": self.ann_mj,
            "reduction_vs_twin": None if not snn else self.ann_mj / snn,
            "reduction_vs_paper": None if not snn else self.mac_pj * self.paper_baseline_macs * 1e-9 / snn,
        }


def published_reduction(rate: float, timesteps: int = 4, *, mac_pj: float = MAC_PJ, ac_pj: float = AC_PJ) -> float:
    """The reduction that the paper's own formula gives, AC = T rate MAC in every layer: e_MAC / (e_AC T rate)."""
    return mac_pj / (ac_pj * timesteps * rate)


def paper_baseline_macs(shape: tuple[int, int, int], spacing_mm: float) -> int:
    """Dense MACs of the paper's network over the field of view of a grid: 80.52e9 at 160x192x224, scaled by voxels.

    Args:
        shape: (D, H, W) of the grid the network here runs on.
        spacing_mm: of that grid; the paper's network works at 1 mm.
    """
    from SpikeRegLib.spiking.activity import dense_macs

    reference = (160, 192, 224)
    voxels_1mm = shape[0] * shape[1] * shape[2] * spacing_mm**3
    per_voxel = sum(dense_macs(paper_unet(), reference).values()) / (reference[0] * reference[1] * reference[2])
    return round(per_voxel * voxels_1mm)


def smoothing_macs(spec: NetworkSpec, shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of the smoothing after the head, or 0: it reads the head's analog field.

    By the paper's convention they are no part of the dense cost of either twin.
    """
    return 3 * 3**3 * math.prod(spec.shapes(shape)[spec.head.name]) if spec.smoothing else 0


def dense_rows(spec: NetworkSpec, shape: tuple[int, int, int]) -> list[dict[str, Any]]:
    """What is known of every layer without running it, named as in `LayerActivity`; None for what spikes decide."""
    from SpikeRegLib.spiking.activity import dense_macs
    from SpikeRegLib.spiking.traffic import dense_bytes

    macs = dense_macs(spec, shape)
    unknown = ("synaptic_ops", "neuron_updates", "rate", "silent_percent", "sram_bytes", "dram_bytes")
    rows = []
    for layer in spec.layers:
        dense_sram, dense_dram = dense_bytes(layer, spec, shape, macs[layer.name])
        row: dict[str, Any] = {"name": layer.name, "dense_macs": macs[layer.name]}
        row |= {"analog_macs": macs[layer.name] if "image" in layer.inputs else 0, **dict.fromkeys(unknown)}
        rows.append(row | {"dense_sram_bytes": dense_sram, "dense_dram_bytes": dense_dram})
    return rows


def dense_table(spec: NetworkSpec, shape: tuple[int, int, int]) -> EnergyTable:
    """The part of the table that needs no image: dense and analog multiply-accumulates of one pass.

    Args:
        spec: of either twin.
        shape: (D, H, W) of the images.
    """
    from SpikeRegLib.spiking.activity import dense_macs

    macs = dense_macs(spec, shape)
    analog = sum(macs[layer.name] for layer in spec.layers if "image" in layer.inputs) + smoothing_macs(spec, shape)
    return EnergyTable(sum(macs.values()), paper_baseline_macs(shape, spec.input_spacing_mm), analog, None, None)
