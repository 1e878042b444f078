"""Small wrong changes to a module, each by itself: what a slip of the hand, or of the mind, would make of it."""

import ast
import copy
from collections.abc import Iterator

_OTHER_COMPARISONS: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn], ast.NotIn: [ast.In],
}  # fmt: skip
_OTHER_SIGNS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip


class Mutant:
    """`text` is the whole changed module, `line` where it differs, `what` how."""

    def __init__(self, line: int, what: str, text: str) -> None:
        self.line, self.what, self.text = line, what, text


def mutants_of(source: str) -> Iterator[Mutant]:
    """All there are, in the order of the file."""
    tree = ast.parse(source)
    original = ast.unparse(tree)
    for node in _live_nodes(tree):
        for what, change in _changes(node):
            undo = copy.copy(node.__dict__)
            before = ast.unparse(node).split("\n", 1)[0]
            change()
            text = ast.unparse(tree)
            if text != original:
                yield Mutant(getattr(node, "lineno", 0), f"{what}: {before}", text)
            node.__dict__.clear()
            node.__dict__.update(undo)


def _live_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """What can make a difference: no documentation, no types."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_dead(child):
                yield from _live_nodes(child)


def _is_dead(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return True
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id in ("__slots__", "TYPE_CHECKING") for target in node.targets
    )


def _changes(node: ast.AST) -> "Iterator[tuple[str, object]]":
    if isinstance(node, ast.Compare):
        for other in _OTHER_COMPARISONS.get(type(node.ops[0]), []):
            yield f"{other.__name__}", _setter(node, "ops", [other(), *node.ops[1:]])
    elif isinstance(node, ast.BoolOp):
        yield "and/or", _setter(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.BinOp) and type(node.op) in _OTHER_SIGNS:
        yield "sign", _setter(node, "op", _OTHER_SIGNS[type(node.op)]())
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "not", _setter(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Call) and len(node.args) == 2 and not node.keywords:
        yield "arguments swapped", _setter(node, "args", node.args[::-1])
    for name in ("body", "orelse", "finalbody"):
        statements = getattr(node, name, None)
        if isinstance(statements, list):
            yield from _other_statements(node, name, statements)


def _other_constants(node: ast.Constant) -> "Iterator[tuple[str, object]]":
    if isinstance(node.value, bool):
        yield "the other", _setter(node, "value", not node.value)
    elif isinstance(node.value, int):
        yield "+1", _setter(node, "value", node.value + 1)
        yield "-1", _setter(node, "value", node.value - 1)
    elif isinstance(node.value, bytes):
        yield "other bytes", _setter(node, "value", node.value + b"?")


def _other_statements(node: ast.AST, name: str, statements: list[ast.stmt]) -> "Iterator[tuple[str, object]]":
    for place, statement in enumerate(statements):
        if isinstance(statement, ast.AugAssign | ast.Raise | ast.Continue | ast.Break | ast.Delete) or (
            isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant | ast.Yield)
        ):
            without = [*statements[:place], ast.Pass(), *statements[place + 1 :]]
            yield f"left out, line {statement.lineno} ({ast.unparse(statement)[:60]})", _setter(node, name, without)
        after = statements[place + 1] if place + 1 < len(statements) else None
        if isinstance(statement, ast.Expr) and isinstance(after, ast.Expr) and not _is_dead(statement):
            swapped = [*statements[:place], after, statement, *statements[place + 2 :]]
            yield f"swapped, line {statement.lineno} with the next", _setter(node, name, swapped)


def _setter(node: ast.AST, name: str, value: object) -> object:
    return lambda: setattr(node, name, value)
