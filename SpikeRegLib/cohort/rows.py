"""One row of a cohort: kept where its result is there already, else registered and written."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from SpikeRegLib.anatomy.segmentation import Segmentation, segment
from SpikeRegLib.cohort.content import Content, content_of, content_of_segmentation
from SpikeRegLib.cohort.folders import begun, clear_failure, result_of, write_failure
from SpikeRegLib.cohort.manifest import SEGMENT, Row
from SpikeRegLib.errors import Cancelled, InputError, SpikeRegError
from SpikeRegLib.outputs.accounts import REGISTRATION, SEGMENTATION, Kind
from SpikeRegLib.outputs.folder import check_results_folder, write_outputs
from SpikeRegLib.outputs.publishing import hidden_beside
from SpikeRegLib.outputs.segmentation_folder import write_segmentation
from SpikeRegLib.pipeline import register
from SpikeRegLib.pipeline.recall import Memory
from SpikeRegLib.pipeline.registration import Registration
from SpikeRegLib.pipeline.shelf import Shelf
from SpikeRegLib.progress import Progress
from SpikeRegLib.system import interrupt
from SpikeRegLib.system.atomic_files import disk_is_full
from SpikeRegLib.system.endings import explain

DONE, KEPT, FAILED = "done", "kept", "failed"


@dataclass(frozen=True)
class Plan:
    """What is the same for all rows.

    Attributes:
        out: the folder of the cohort, absolute.
        outputs: names of the files that every row is to leave; None for all.
        redo: make every row anew, also where its result is there.
        retries: how often a row is tried again that failed for a reason that is not its input's.
    """

    out: str
    outputs: tuple[str, ...] | None = None
    redo: bool = False
    retries: int = 1


@dataclass(frozen=True)
class Outcome:
    """How a row ended.

    Attributes:
        id: of the row.
        state: done, kept (its result was there already) or failed.
        figures: of `figures_of`; empty for a row that failed.
        code, message: of a failure: 2 for what is wrong with the input, 1 for everything else.
        disk_full: the disk is full, so no other row can be written either.
        seconds: of this run, wall clock.
    """

    id: str
    state: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    code: int = 0
    message: str = ""
    disk_full: bool = False
    seconds: float = 0.0


# Networks and images that this process has read, for the rows to come; one row at a time.
_LOCK = threading.Lock()
_MEMORY: list[Memory] = []


def do_row(row: Row, plan: Plan) -> Outcome:
    """Do one row. Whatever is wrong with it becomes part of the outcome.

    Raises:
        Cancelled: the process was told to stop; nothing of the row was written.
    """
    with _LOCK:
        if not _MEMORY:
            _MEMORY.append(Memory(Shelf()))
        began = time.perf_counter()
        folder = Path(plan.out) / row.id
        for attempt in range(plan.retries + 1):
            try:
                return replace(_done(row, plan, folder), seconds=time.perf_counter() - began)
            except (Exception, KeyboardInterrupt) as error:
                if not isinstance(error, SpikeRegError):
                    _MEMORY[0].clear()  # out of memory, or a defect: nothing of that run is trusted
                code, message = explain(error)
                if code == Cancelled.exit_code:
                    raise Cancelled(message) from error
                full = disk_is_full(error, hidden_beside(Path(plan.out)).parent)
                if code != InputError.exit_code and not full and attempt < plan.retries:
                    continue
                failure = Outcome(row.id, FAILED, {}, code, message, full, time.perf_counter() - began)
                leave_failure(folder, failure)
                return failure
        raise AssertionError("not reached")


def leave_failure(folder: Path, outcome: Outcome) -> None:
    """Write down why a row failed, if that can be done."""
    with suppress(InputError):
        write_failure(folder, {"id": outcome.id, "code": outcome.code, "message": outcome.message})


def _done(row: Row, plan: Plan, folder: Path) -> Outcome:
    content = _content(row, plan)
    known = None if plan.redo else _known(row, folder, content)
    if known is not None:
        clear_failure(folder)
        return Outcome(row.id, KEPT, figures_of(known))
    check_results_folder(folder, kind_of(row))
    done: Registration | Segmentation
    with begun(Path(plan.out), row.id):
        interrupt.begin_next()
        if row.what == SEGMENT:
            done = segment(**row.options, listener=_heard)
        else:
            done = register(**row.options, memory=_MEMORY[0], listener=_heard)
        done.result["cohort"] = {"id": row.id, "content": content.digest, "inputs": content.inputs}
        if isinstance(done, Registration):
            write_outputs(done, folder, plan.outputs)
        else:
            write_segmentation(done, folder)
    clear_failure(folder)
    return Outcome(row.id, DONE, figures_of(done.result))


def kind_of(row: Row) -> Kind:
    """What the row leaves in its folder."""
    return SEGMENTATION if row.what == SEGMENT else REGISTRATION


def known_result(row: Row, plan: Plan) -> dict[str, Any] | None:
    """The account of the row's result where that was made from its files and options as they are now.

    Raises:
        InputError: a file that cannot be read.
    """
    return _known(row, Path(plan.out) / row.id, _content(row, plan))


def _content(row: Row, plan: Plan) -> Content:
    return content_of_segmentation(row.options) if row.what == SEGMENT else content_of(row.options, plan.outputs)


def _known(row: Row, folder: Path, content: Content) -> dict[str, Any] | None:
    known = result_of(folder, kind_of(row))
    made_of = None if known is None else known.get("cohort")
    return known if isinstance(made_of, dict) and made_of.get("content") == content.digest else None


def _heard(progress: Progress) -> None:
    interrupt.check()


def figures_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one result that a summary shows; None for what was not measured."""

    def at(*names: str) -> Any:
        value: Any = result
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    cpu = at("cpu_s") or {}
    return {
        "verdict": at("verdict", "level"),
        "reasons": [str(reason) for reason in at("verdict", "reasons") or []],
        "warnings": [str(warning) for warning in at("warnings") or []],
        "similarity_before": at("similarity", "lncc_before"),
        "similarity_after": at("similarity", "lncc_after"),
        "dice_before": at("dice", "before_mean"),
        "dice_after": at("dice", "after_mean"),
        "hd95_mm": at("hd95_mm", "after_mean"),
        "tre_before_mm": at("tre_mm", "before_mean"),
        "tre_after_mm": at("tre_mm", "after_mean"),
        "structure_agreement": at("anatomy", "agreement"),
        "folding_percent": at("deformation", "folding_percent"),
        "sdlogj": at("deformation", "sdlogj"),
        "mean_mm": at("deformation", "mean_mm"),
        "inverse_consistency_mm": at("deformation", "inverse_consistency_mm"),
        "spike_rate": at("spikes", "mean_rate"),
        "cpu_s": sum(value for name, value in cpu.items() if name != "process") if cpu else None,
        "wall_s": at("timing_s", "total"),
        "peak_memory_mb": at("peak_memory_mb"),
        "preset": at("preset"),
        "version": at("versions", "spikereg"),
    }
