"""Small modules of Slicer's Python: `slicer.packaging`, `SampleData`. Nothing is ever installed."""

from __future__ import annotations

import importlib.metadata
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from packaging.requirements import Requirement

# --- slicer.packaging: requests are recorded -------------------------------------------------------------------------


@dataclass(frozen=True)
class InstallRequest:
    requirements: list[str]
    requester: str | None


installRequests: list[InstallRequest] = []


class InstallationForbidden(RuntimeError):
    """A test must not change the Python environment."""


def load_requirements(path: str | Path) -> list[Requirement]:
    lines = [line.strip() for line in Path(path).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def pip_check(requirement: str | Requirement | list) -> bool:
    """Whether everything asked for is installed in a version that fits."""
    requirements = requirement if isinstance(requirement, list) else [requirement]
    return all(_isInstalled(Requirement(str(one))) for one in requirements)


def pip_ensure(requirements: Any, constraints: Any = None, requester: str | None = None, **keywords: Any) -> None:
    """Record the request; answered with `dialogs.answer("confirm", ...)` where something is missing."""
    from . import dialogs

    requirements = requirements if isinstance(requirements, list) else [requirements]
    missing = [str(one) for one in requirements if not pip_check(one)]
    if not missing or slicer.app.testingEnabled():
        return
    installRequests.append(InstallRequest(missing, requester))
    if keywords.get("prompt_install", True) and not dialogs.ask("confirm", "\n".join(missing), requester or ""):
        raise RuntimeError("User declined package installation")


def pip_install(requirements: Any, **_: Any) -> None:
    raise InstallationForbidden(f"pip_install({requirements}): use slicer.packaging.pip_ensure from the Run handler")


def _isInstalled(requirement: Requirement) -> bool:
    if requirement.marker and not requirement.marker.evaluate():
        return True
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


packagingModule = types.ModuleType("slicer.packaging", "Requests to install are recorded, never carried out.")
packagingModule.Requirement = Requirement
for _function in (load_requirements, pip_check, pip_ensure, pip_install):
    setattr(packagingModule, _function.__name__, _function)
packagingModule.pip_uninstall = pip_install

# --- SampleData ------------------------------------------------------------------------------------------------------


class SampleDataLogic:
    @staticmethod
    def registerCustomSampleDataSource(category: str = "Custom", **source: Any) -> None:
        """Kept in `slicer.modules.sampleDataSources`, as Slicer does, but as the plain keywords."""
        known = {"sampleName", "uris", "fileNames", "nodeNames", "customDownloader", "thumbnailFileName"}
        known |= {"loadFileTypes", "loadFiles", "loadFileProperties", "checksums", "loadFileType"}
        if source.keys() - known:
            raise TypeError(f"registerCustomSampleDataSource has no {sorted(source.keys() - known)}")
        sources = vars(slicer.modules).setdefault("sampleDataSources", {})
        sources.setdefault(category, []).append(types.SimpleNamespace(**source))


sampleData = types.ModuleType("SampleData", "Registered sources, without the panel.")
sampleData.SampleDataLogic = SampleDataLogic


def install() -> None:
    """Make these modules importable and forbid installation through `slicer.util`."""
    sys.modules[packagingModule.__name__] = slicer.packaging = packagingModule
    sys.modules["SampleData"] = sampleData
    slicer.util.pip_install = slicer.util.pip_uninstall = pip_install
