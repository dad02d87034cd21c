"""Batch renormalisation (Ioffe 2017): what is trained is the network that runs later.

One image of any contrast is a batch: with BatchNorm the network would learn from each image's own statistics, and be
another one with the running statistics that it is converted with. Here the output is that of the running statistics
from the start (but for a clip), while the gradient still knows that the batch was normalised.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from SpikeRegLib.spiking.unet import AnalogUNet


class BatchRenormalisation(nn.BatchNorm3d):
    """BatchNorm3d with the running statistics in training, too; its tensors have the same names.

    Attributes:
        most_scale, most_shift: how far the factor and the shift from the batch's to the running statistics may go:
            1 and 0 are BatchNorm, infinity the running statistics.
    """

    most_scale, most_shift = 1.0, 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        with torch.no_grad():
            variance, mean = torch.var_mean(x.float(), (0, 2, 3, 4), unbiased=False)
            running = torch.sqrt(self.running_var + self.eps)
            scale = (torch.sqrt(variance + self.eps) / running).clamp(1 / self.most_scale, self.most_scale)
            shift = ((mean - self.running_mean) / running).clamp(-self.most_shift, self.most_shift)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)
        weight, bias = self.weight * scale, self.bias + self.weight * shift
        return functional.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)


def renormalised(network: AnalogUNet) -> AnalogUNet:
    """The network with every BatchNorm renormalised, in place."""
    for name, norm in network.norms.items():
        assert isinstance(norm, nn.BatchNorm3d)
        other = BatchRenormalisation(norm.num_features, eps=norm.eps, momentum=norm.momentum)
        other.load_state_dict(norm.state_dict())
        network.norms[name] = other
    return network


def allow(network: AnalogUNet, share: float) -> None:
    """How far the running statistics count: BatchNorm at 0, factors up to 3 and shifts up to 5 at 1."""
    for norm in network.norms.values():
        assert isinstance(norm, BatchRenormalisation)
        norm.most_scale, norm.most_shift = 1 + 2 * share, 5 * share
