"""Each rule about translation catches what breaks it and lets its neighbour pass; the module breaks none."""

from __future__ import annotations

from pathlib import Path

import pytest
from translation_lint import RULES, check, checkFolder

ROOT = Path(__file__).parents[2]
CASES = {
    "shown-as-it-is": [
        ("label.text = 'Ready'", "label.text = _('Ready')"),
        ("self.ui.runButton.toolTip = 'Run' if ok else ''", "self.ui.runButton.toolTip = _('Run') if ok else ''"),
        ("label.text = f'{count} volumes'", "label.text = f'{count}: {names}'"),
        ("label.text = 'Ready: ' + name", "label.text = names['ready'] + name"),
        ("box.addItem('{} here'.format(name))", "box.addItem(_('{name} here').format(name=name))"),
        ("table.setHorizontalHeaderLabels(['Layer', _('Rate')])", "table.setHorizontalHeaderLabels([_('Layer')])"),
        ("slicer.util.errorDisplay('Failed')", "slicer.util.errorDisplay(_('Failed'))"),
        ("slicer.util.confirmYesNoDisplay(text, windowTitle='Sure')", "ask(text, windowTitle='SpikeReg')"),
        ("slicer.util.showStatusMessage('Done', 3000)", "slicer.util.showStatusMessage(_('Done'), 3000)"),
        ("head = ('Layer', _('Rate'))", "head = ('', 'R', 'A', 'S')"),
        ("_textTable(scene, 'Metrics', head, rows)", "_textTable(scene, _('Metrics'), head, rows)"),
        ("chart.SetXAxisTitle('Layer')", "chart.SetXAxisTitle(_('Layer'))"),
        ("part.say('<b>Done</b>')", "part.say('<br>', 'poor')"),
        ("node.SetName(f'{run} (checkerboard)')", "node.SetName(f'{run} {node.GetName()}')"),
    ],
    "sentence-outside": [
        ("found.append('No volume is chosen.')", "found.append(_('No volume is chosen.'))"),
        ("raise InputError(f'{path}: cannot be read')", "raise InputError(_('{path}: lost').format(path=path))"),
        (
            "def f():\n    yield f'Volume {name} has no data'",
            "def f():\n    '''What a volume has.'''\n    yield 'volume'",
        ),
        ("head = ('Dice before', 'Dice after')", "head = (_('Dice before'), 'dice_before')"),
        ("x = _('{why}').format(why='it is late')", "x = _('it is late')"),
        ("html = '<div class=\"soft\">Not reviewed</div>'", "html = '<div class=\"soft note\">'"),
        ("raise RuntimeError('no result here')", "raise ValueError('no such mode here')"),
        ("note = '''two words'''", "'''What this file is.'''\nx = 1\n'''What x is for.'''"),
    ],
    "no-plain-text": [
        ("def f():\n    _(f'{name} is lost')", "def f():\n    _('{name} is lost').format(name=name)"),
        ("def f():\n    _('a ' + b)", "def f():\n    _('a ' 'b')"),
        ("def f():\n    _(words[kind])", "def f():\n    words[kind]"),
    ],
    "translated-too-early": [
        ("TITLE = _('Layer')", "def title():\n    return _('Layer')"),
        ("class A:\n    words = {'a': _('One')}", "class A:\n    words = {'a': lambda: _('One')}"),
    ],
}
PAIRS = [(rule, bad, good) for rule, pairs in CASES.items() for bad, good in pairs]


@pytest.mark.parametrize(("rule", "bad", "good"), PAIRS, ids=[f"{rule}-{bad}" for rule, bad, _ in PAIRS])
def test_rule_catches_the_bad_and_passes_the_good(rule, bad, good):
    assert f" {rule}: " in "".join(check(bad))
    assert f" {rule}: " not in "".join(check(good))


def test_every_rule_has_cases():
    assert RULES.keys() == CASES.keys()


def test_finding_says_where_and_what_to_write_instead():
    (finding,) = check("\n\nlabel.text = 'Ready'\n", "panel.py")
    assert finding == "panel.py:3: shown-as-it-is: 'Ready' is shown; put it into _()"


def test_the_module_breaks_no_rule():
    folder = ROOT / "SpikeRegSlicer"
    assert len(list(folder.rglob("*.py"))) > 20
    assert checkFolder(folder) == []
