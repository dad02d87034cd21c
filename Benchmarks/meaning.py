"""What code does, as text: without comments, layout, docstrings and the messages it gives to people."""

from __future__ import annotations

import ast

# Calls and keywords whose strings are read by people alone, and the names that such strings are kept under.
_TELLING = {"Progress", "print", "warn"}
_HELPS = {"help", "metavar", "description", "epilog", "remedy"}
_KEPT_AS = {"warning", "warnings", "message", "misfit"}


def meaning(source: str) -> str:
    """Python code that does the same as `source`, word by word the same for all that differ in words for people only.

    Left out are docstrings, comments, layout, and strings in `raise`, in progress reports, in warnings and in the help
    of options. All other strings may be keys or names, so they count: better a result made anew than an old one kept.
    """
    return ast.unparse(_WithoutWords().visit(ast.parse(source)))


class _WithoutWords(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return _Silent().visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = _last_name(node.func)
        of = _last_name(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        if name in _TELLING or (name in ("append", "extend") and of in _KEPT_AS):
            return _Silent().visit(node)
        node.keywords = [_Silent().visit(word) if word.arg in _HELPS else word for word in node.keywords]
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        told = all(_last_name(target) in _KEPT_AS for target in node.targets)
        return _Silent().visit(node) if told else self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        return _Silent().visit(node) if _last_name(node.target) in _KEPT_AS else self.generic_visit(node)


class _Silent(ast.NodeTransformer):
    """Empties every string."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")


def _last_name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
