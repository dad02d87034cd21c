"""Every reason why a run cannot start, each a sentence that names the node and says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from slicer.i18n import tr as _

from . import grids, transforms
from .drawn_problems import labelProblems, landmarkProblems, nonLinearParent, pairProblems, regionProblems
from .inputs import Inputs
from .volume_problems import isGrey, sheared, volumeProblems


def problems(inputs: Inputs) -> list[str]:
    """Every reason why the run cannot start; [] = it can."""
    removed = list(_removed(inputs))
    if removed:
        return removed
    found = [*_imageProblems(inputs, "fixed"), *_imageProblems(inputs, "moving")]
    if inputs.fixed is not None and inputs.fixed is inputs.moving:
        found = [
            _('"{fixed}" is both fixed and moving; choose another volume as one of the two.').format(
                fixed=inputs.fixed.GetName()
            )
        ]
    if found:
        return found
    return [
        *labelProblems(inputs, inputs.fixed_mask, inputs.fixed, _("mask")),
        *labelProblems(inputs, inputs.moving_mask, inputs.moving, _("mask")),
        *labelProblems(inputs, inputs.fixed_leave_out, inputs.fixed, _("mask")),
        *labelProblems(inputs, inputs.moving_leave_out, inputs.moving, _("mask")),
        *labelProblems(inputs, inputs.fixed_labels, inputs.fixed, _("segmentation")),
        *labelProblems(inputs, inputs.moving_labels, inputs.moving, _("segmentation")),
        *pairProblems(inputs),
        *_initialTransformProblems(inputs.initial_transform),
        *landmarkProblems(inputs),
        *regionProblems(inputs),
    ]


def outputProblems(inputs: Inputs, transform, warped) -> list[str]:
    """Reasons why chosen output nodes cannot take the result: writing them would change what the run reads."""
    found = []
    read = (inputs.fixed, inputs.moving, inputs.fixed_mask, inputs.moving_mask)
    if warped is not None and warped in (*read, inputs.fixed_leave_out, inputs.moving_leave_out):
        found.append(
            _('The warped volume would overwrite the input "{warped}"; choose another output.').format(
                warped=warped.GetName()
            )
        )
    if warped is not None and (warped.IsA("vtkMRMLLabelMapVolumeNode") or warped.IsA("vtkMRMLTensorVolumeNode")):
        found.append(
            _('"{warped}" cannot hold the warped volume; choose a scalar volume.').format(warped=warped.GetName())
        )
    if transform is None:
        return found
    name = transform.GetName()
    if transform is inputs.initial_transform:
        found.append(_('"{name}" is both initial transform and output; choose another output.').format(name=name))
    for field in fields(inputs):
        node = getattr(inputs, field.name)
        if node is not None and transform in transforms.parents(node) and not transforms.isOwn(transform, inputs.pair):
            found.append(
                _('"{node}" is under the output transform "{name}"; take it out, or choose another.').format(
                    node=node.GetName(), name=name
                )
            )
    return found


def _removed(inputs: Inputs) -> Iterator[str]:
    for field in fields(inputs):
        node = getattr(inputs, field.name)
        if node is not None and node.GetScene() is None:
            yield _('"{node}" is no longer in the scene; choose another node.').format(node=node.GetName())


def _imageProblems(inputs: Inputs, role: str) -> Iterator[str]:
    volume = inputs.fixed if role == "fixed" else inputs.moving
    if volume is None:
        yield (
            _("No fixed volume is chosen; choose the image that stays.")
            if role == "fixed"
            else _("No moving volume is chosen; choose the image to bring onto the fixed one.")
        )
        return
    yield from volumeProblems(volume)
    if not isGrey(volume):
        return
    nonLinear = list(nonLinearParent(volume, inputs))
    yield from nonLinear
    placement = inputs.standing(volume)
    name = volume.GetName()
    if not nonLinear and role == "fixed" and not grids.worldGrid(volume, placement).isRectangular():
        yield (
            _(
                'Volume "{name}" is sheared by its transform "{transform}"; resample it on a rectangular '
                "grid with the module Resample Scalar/Vector/DWI Volume and choose the result."
            ).format(name=name, transform=volume.GetParentTransformNode().GetName())
            if volume.GetParentTransformNode()
            else sheared(name)
        )
    if not nonLinear and role == "moving" and not grids.ownGrid(volume).isRectangular():
        yield sheared(name)


def _initialTransformProblems(node) -> Iterator[str]:
    if node is None:
        return
    for link in (node, *transforms.parents(node)):
        if not link.IsLinear() and link.IsAbstractTransformComputedFromInverse(link.GetTransformFromParent()):
            yield (
                _(
                    'The initial transform "{link}" is the inverse of a non-linear one and has no exact file; '
                    "convert it to a displacement field in the module Transforms and choose that."
                ).format(link=link.GetName())
            )
