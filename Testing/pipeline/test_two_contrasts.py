"""A pair of two contrasts through `register`: the network reads both images in one, whichever is the other one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from brains import sample

from SpikeRegLib.images.volumes import Volume
from SpikeRegLib.pipeline import register

# What a T1-like intensity becomes, as a share of the brightest: fluid bright, grey above white matter.
T1, T2 = (0.0, 0.25, 0.45, 0.62, 0.8, 1.0), (0.0, 1.0, 0.62, 0.40, 0.26, 0.22)


def as_t2(volume: Volume) -> Volume:
    """The volume with fluid bright and white matter dark; background stays background."""
    data = volume.data.float()
    share = (data / data[data > 0].quantile(0.995)).clamp(0, 1)
    known, wanted = torch.tensor(T1), torch.tensor(T2)
    above = torch.bucketize(share, known).clamp(1, len(T1) - 1)
    part = (share - known[above - 1]) / (known[above] - known[above - 1])
    turned = torch.lerp(wanted[above - 1], wanted[above], part)
    return replace(volume, data=200 * turned * (share > 0.1))


@pytest.mark.parametrize("turned", ["fixed", "moving"])
def test_the_network_brings_labels_together_across_contrasts(turned: str) -> None:
    pair = {name: sample(name) for name in ("fixed", "moving")}
    pair[turned] = as_t2(pair[turned])
    found = register(
        pair["fixed"], pair["moving"], preset="brain-multicontrast", refine_iterations=0, threads=1,
        fixed_labels=sample("fixed_seg"), moving_labels=sample("moving_seg"),
    )  # fmt: skip
    dice, similarity = found.result["dice"], found.result["similarity"]
    assert not any("dropped" in warning for warning in found.result["warnings"])
    assert similarity["measure"] == "contrast-matched lncc"
    assert similarity["lncc_after"] > similarity["lncc_aligned"]
    assert dice["after_mean"] > dice["aligned_mean"] + 0.02
