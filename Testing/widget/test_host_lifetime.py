"""Qt objects made in Python end as under PythonQt: with their last reference, and not in one of their own signals."""

from __future__ import annotations

import pytest
import qt
import slicer
from host import signals
from host.lifetime import DroppedInItsSignal

pytestmark = pytest.mark.usefixtures("application")


class Ticks:
    """Holds a timer that fires once, and does with it then as told."""

    def __init__(self, then) -> None:
        self.gone: list[bool] = []
        self.timer = qt.QTimer()
        self.timer.setSingleShot(True)
        self.timer.timeout.connect(lambda: then(self))
        self.timer.destroyed.connect(lambda: self.gone.append(True))
        self.timer.start(0)
        for _ in range(20):
            slicer.app.processEvents()


def drop(ticks) -> None:
    ticks.timer = None


def dropLater(ticks) -> None:
    ticks.timer.deleteLater()
    ticks.timer = None


def dropInALocalVariable(ticks) -> None:
    timer, ticks.timer = ticks.timer, None
    timer.stop()


def dropWithinAnotherSlot(ticks) -> None:
    """The timer fires again while its slot lets the application work; the last reference goes in there."""
    ticks.timer.timeout.disconnect()
    ticks.timer.timeout.connect(lambda: drop(ticks))
    ticks.timer.start(0)
    slicer.app.processEvents()


@pytest.mark.parametrize("then", [drop, dropLater, dropInALocalVariable, dropWithinAnotherSlot])
def test_the_last_reference_may_not_go_in_the_objects_own_signal(then):
    ticks = Ticks(then)
    (error,) = signals.errors
    signals.errors.clear()
    assert isinstance(error, DroppedInItsSignal) and "QTimer went inside its own signal timeout" in str(error)
    assert ticks.gone == [True], "after the signal it is deleted"


def keepUntilTheEventLoop(ticks) -> None:
    qt.QTimer.singleShot(0, lambda: drop(ticks))


def test_from_the_event_loop_it_may_and_deletes_at_once():
    assert Ticks(keepUntilTheEventLoop).gone == [True]
    ticks = Ticks(lambda ticks: None)
    assert ticks.gone == [] and ticks.timer.singleShot
    ticks.timer = None
    assert ticks.gone == [True], "no event loop is needed outside of signals"


def test_what_has_a_parent_belongs_to_it():
    top = qt.QWidget()
    button = qt.QPushButton("Close", top)
    held = [button]
    button.clicked.connect(lambda: held.clear())
    del button
    held[0].click()
    assert not held and not signals.errors and top.findChild(qt.QPushButton) is not None


def test_a_process_may_not_go_in_its_signals_either(tmp_path):
    held = [qt.QProcess()]
    held[0].errorOccurred.connect(lambda error: held.clear())
    held[0].start(str(tmp_path / "no such program"), [])
    for _ in range(20):
        slicer.app.processEvents()
    assert [type(error) for error in signals.errors] == [DroppedInItsSignal]
    signals.errors.clear()
