"""The module `ctk`: stand-ins for the CTK widgets of module panels, drawn as CTK draws them."""

from __future__ import annotations

import sys
import types

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from .properties import exposeStandIn, native, stored
from .qt_module import qt

ctk = types.ModuleType("ctk", __doc__)
sys.modules["ctk"] = ctk
_HEADER = 26  # pixels, height of a collapsible section's title


class _Collapsible:
    """Hides its children while collapsed and shows those again that it hid; for a QWidget with `collapsed`."""

    def _applyCollapsed(self) -> None:
        hidden = self.__dict__.setdefault("_hiddenByCollapse", [])
        if native(self, "collapsed"):
            for child in QtCore.QObject.children(self):
                if isinstance(child, QtWidgets.QWidget) and not _isHiddenOnPurpose(child):
                    QtWidgets.QWidget.setVisible(child, False)
                    hidden.append(child)
        else:
            for child in hidden:
                QtWidgets.QWidget.setVisible(child, True)
            hidden.clear()
        self._fitHeight()
        QtWidgets.QWidget.updateGeometry(self)
        QtWidgets.QWidget.update(self)

    def event(self, event: QtCore.QEvent) -> bool:
        # children that arrive while the section is collapsed
        if event.type() in (QtCore.QEvent.LayoutRequest, QtCore.QEvent.Show) and native(self, "collapsed"):
            self._applyCollapsed()
        return super().event(event)

    def _drawTitle(self, text: str, frame: QtCore.QRect) -> None:
        painter, palette = QtGui.QPainter(self), QtWidgets.QWidget.palette(self)
        painter.setRenderHint(QtGui.QPainter.Antialiasing)
        painter.setPen(palette.color(QtGui.QPalette.Mid))
        painter.setBrush(palette.color(QtGui.QPalette.Button).lighter(103))
        painter.drawRoundedRect(QtCore.QRectF(frame).adjusted(0.5, 0.5, -0.5, -0.5), 3, 3)
        centre = QtCore.QPointF(frame.left() + 13, frame.center().y() + 0.5)
        corners = [(-3, -4.5), (-3, 4.5), (4, 0)] if native(self, "collapsed") else [(-4.5, -3), (4.5, -3), (0, 4)]
        painter.setPen(QtCore.Qt.NoPen)
        painter.setBrush(palette.color(QtGui.QPalette.ButtonText))
        painter.drawPolygon(QtGui.QPolygonF([centre + QtCore.QPointF(*corner) for corner in corners]))
        painter.setPen(palette.color(QtGui.QPalette.ButtonText))
        painter.drawText(frame.adjusted(26, 0, -6, 0), QtCore.Qt.AlignVCenter | QtCore.Qt.AlignLeft, text)
        painter.end()


def _isHiddenOnPurpose(child: QtWidgets.QWidget) -> bool:
    """Not just hidden because nobody has shown it yet."""
    explicit = QtWidgets.QWidget.testAttribute(child, QtCore.Qt.WA_WState_ExplicitShowHide)
    return explicit and QtWidgets.QWidget.isHidden(child)


@exposeStandIn(ctk)
class ctkCollapsibleButton(_Collapsible, qt.QWidget):
    contentsCollapsed = Signal(bool)
    toggled = Signal(bool)
    clicked = Signal(bool)
    text = stored(str, "text", "", after="update")
    collapsed = stored(bool, "collapsed", False, "contentsCollapsed", after="_applyCollapsed")
    flat = stored(bool, "flat", False)
    collapsedHeight = stored(int, "collapsedHeight", 0)
    contentsLineWidth = stored(int, "contentsLineWidth", 1)
    checkable = stored(bool, "checkable", True)

    def __init__(self, *arguments):
        text = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        super().__init__(*arguments[bool(text) :])
        self.__dict__["_text"] = text
        QtWidgets.QWidget.setContentsMargins(self, 0, _HEADER, 0, 0)
        QtWidgets.QWidget.setSizePolicy(self, QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Preferred)
        self._fitHeight()

    checked = Property(bool, lambda self: not native(self, "collapsed"), lambda self, on: self._setOpen(on))

    def _setOpen(self, on: bool) -> None:
        self.collapsed = not on

    def _fitHeight(self) -> None:
        QtWidgets.QWidget.setMinimumHeight(self, _HEADER)
        QtWidgets.QWidget.setMaximumHeight(self, _HEADER if native(self, "collapsed") else 16777215)

    def toggle(self) -> None:
        self.collapsed = not native(self, "collapsed")
        native(self, "toggled").emit(not native(self, "collapsed"))

    def click(self) -> None:
        self.toggle()
        native(self, "clicked").emit(not native(self, "collapsed"))

    def mousePressEvent(self, event) -> None:
        if event.position().y() < _HEADER:
            self.click()

    def paintEvent(self, event) -> None:
        self._drawTitle(native(self, "text"), QtCore.QRect(0, 0, QtWidgets.QWidget.width(self), _HEADER - 2))


@exposeStandIn(ctk)
class ctkCollapsibleGroupBox(_Collapsible, qt.QGroupBox):
    toggled = Signal(bool)
    collapsed = stored(bool, "collapsed", False, after="_applyCollapsed")
    collapsedHeight = stored(int, "collapsedHeight", 14)

    def __init__(self, *arguments):
        super().__init__(*arguments)
        QtWidgets.QWidget.setContentsMargins(self, 0, _HEADER, 0, 0)
        self._fitHeight()

    def _fitHeight(self) -> None:
        QtWidgets.QWidget.setMinimumHeight(self, _HEADER)
        QtWidgets.QWidget.setMaximumHeight(self, _HEADER if native(self, "collapsed") else 16777215)

    def mousePressEvent(self, event) -> None:
        if event.position().y() < _HEADER:
            self.collapsed = not native(self, "collapsed")
            native(self, "toggled").emit(not native(self, "collapsed"))

    def paintEvent(self, event) -> None:
        title = QtWidgets.QGroupBox.title(self)
        self._drawTitle(title, QtCore.QRect(0, 0, QtWidgets.QWidget.width(self), _HEADER - 2))


@exposeStandIn(ctk)
class ctkSliderWidget(qt.QWidget):
    """A slider with a spin box; the value is a float."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    rangeChanged = Signal(float, float)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal)
        self._spinBox = QtWidgets.QDoubleSpinBox()
        self._decimals, self._pageStep = 2, 10.0
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._spinBox)
        self._spinBox.setRange(0, 99)
        self._spinBox.setMinimumWidth(76)
        self._spinBox.valueChanged.connect(self._onSpinBox)
        self._slider.valueChanged.connect(self._onSlider)
        self._scale()

    def _onSpinBox(self, value: float) -> None:
        self._scale()
        native(self, "valueChanged").emit(value)

    def _onSlider(self, position: int) -> None:
        self._spinBox.setValue(self._spinBox.minimum() + position * self._spinBox.singleStep())

    def _scale(self) -> None:
        box, step = self._spinBox, self._spinBox.singleStep() or 1
        blocked = self._slider.blockSignals(True)
        self._slider.setRange(0, max(1, round((box.maximum() - box.minimum()) / step)))
        self._slider.setValue(round((box.value() - box.minimum()) / step))
        self._slider.blockSignals(blocked)

    def _set(self, setter: str, value) -> None:
        getattr(self._spinBox, setter)(value)
        self._scale()
        if setter in ("setMinimum", "setMaximum"):
            native(self, "rangeChanged").emit(self._spinBox.minimum(), self._spinBox.maximum())

    value = Property(float, lambda self: self._spinBox.value(), lambda self, value: self._set("setValue", value))
    minimum = Property(float, lambda self: self._spinBox.minimum(), lambda self, to: self._set("setMinimum", to))
    maximum = Property(float, lambda self: self._spinBox.maximum(), lambda self, to: self._set("setMaximum", to))
    singleStep = Property(
        float, lambda self: self._spinBox.singleStep(), lambda self, to: self._set("setSingleStep", to)
    )
    decimals = Property(int, lambda self: self._spinBox.decimals(), lambda self, to: self._set("setDecimals", to))
    suffix = Property(str, lambda self: self._spinBox.suffix(), lambda self, to: self._set("setSuffix", to))
    prefix = Property(str, lambda self: self._spinBox.prefix(), lambda self, to: self._set("setPrefix", to))
    pageStep = stored(float, "pageStep", 10.0)
    tracking = stored(bool, "tracking", True)
    tickInterval = stored(float, "tickInterval", 0.0)
    spinBoxVisible = Property(
        bool, lambda self: not self._spinBox.isHidden(), lambda self, to: self._spinBox.setVisible(to)
    )

    def setRange(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum


@exposeStandIn(ctk)
class ctkDoubleSpinBox(qt.QDoubleSpinBox):
    pass


def paintElided(combo: QtWidgets.QComboBox, mode: QtCore.Qt.TextElideMode) -> None:
    """Paint a combo box with its text cut by an ellipsis where there is too little room."""
    option, painter = QtWidgets.QStyleOptionComboBox(), QtWidgets.QStylePainter(combo)
    QtWidgets.QComboBox.initStyleOption(combo, option)
    style = QtWidgets.QWidget.style(combo)
    field = style.subControlRect(style.ComplexControl.CC_ComboBox, option, style.SubControl.SC_ComboBoxEditField, combo)
    option.currentText = painter.fontMetrics().elidedText(option.currentText, mode, field.width())
    painter.drawComplexControl(style.ComplexControl.CC_ComboBox, option)
    painter.drawControl(style.ControlElement.CE_ComboBoxLabel, option)


@exposeStandIn(ctk)
class ctkComboBox(qt.QComboBox):
    """Shows that a text is longer than there is room, where `elideMode` says so."""

    defaultText = stored(str, "defaultText", "")
    elideMode = stored("QVariant", "elideMode", QtCore.Qt.ElideNone)

    def paintEvent(self, _event) -> None:
        paintElided(self, native(self, "elideMode"))


@exposeStandIn(ctk)
class ctkCheckBox(qt.QCheckBox):
    pass


@exposeStandIn(ctk)
class ctkPushButton(qt.QPushButton):
    pass


@exposeStandIn(ctk)
class ctkCheckablePushButton(qt.QPushButton):
    checkBoxControlsButtonToggleState = stored(bool, "checkBoxControlsButtonToggleState", True)


@exposeStandIn(ctk)
class ctkMenuButton(qt.QPushButton):
    pass


@exposeStandIn(ctk)
class ctkMessageBox(qt.QMessageBox):
    dontShowAgain = stored(bool, "dontShowAgain", False)
    dontShowAgainVisible = stored(bool, "dontShowAgainVisible", False)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")


@exposeStandIn(ctk)
class ctkFittedTextBrowser(qt.QTextBrowser):
    collapsed = stored(bool, "collapsed", False)
    collapsibleText = stored(str, "collapsibleText", "")


class _PathWidget(qt.QWidget):
    """A line for a path and the button that opens the file window."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._line, self._button = QtWidgets.QLineEdit(), QtWidgets.QToolButton()
        self._button.setText("…")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line, 1)
        layout.addWidget(self._button)
        self._line.textChanged.connect(lambda text: native(self, self._changed).emit(text))
        self._button.clicked.connect(lambda *_: self.browse())

    def browse(self) -> None:
        path = qt.QFileDialog.getOpenFileName(self, "Select", self._line.text())
        if path:
            self._line.setText(path)


@exposeStandIn(ctk)
class ctkPathLineEdit(_PathWidget):
    Files, Dirs, Drives, Hidden, Readable, Writable = (QtCore.QDir.Files, QtCore.QDir.Dirs, QtCore.QDir.Drives,
        QtCore.QDir.Hidden, QtCore.QDir.Readable, QtCore.QDir.Writable)  # fmt: skip
    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    _changed = "currentPathChanged"
    currentPath = Property(str, lambda self: self._line.text(), lambda self, path: self._line.setText(path))
    nameFilters = stored("QStringList", "nameFilters", [])
    label = stored(str, "label", "")
    settingKey = stored(str, "settingKey", "")
    filters = stored("QVariant", "filters", None)


@exposeStandIn(ctk)
class ctkDirectoryButton(_PathWidget):
    directoryChanged = Signal(str)
    directorySelected = Signal(str)
    _changed = "directoryChanged"
    directory = Property(
        str, lambda self: QtCore.QDir(self._line.text()).absolutePath(), lambda self, path: self._line.setText(path)
    )
    text = stored(str, "text", "")


class ctkWidgetsUtils:
    @staticmethod
    def grabWidget(widget) -> QtGui.QImage:
        return QtWidgets.QWidget.grab(widget).toImage()


ctk.ctkWidgetsUtils = ctkWidgetsUtils
