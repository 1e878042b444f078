"""Small wrong changes to a module, each by itself: what a slip of the hand, or of the mind, would make of it."""

import ast
import copy
from collections.abc import Callable, Iterator

_OTHER_COMPARISONS: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn], ast.NotIn: [ast.In],
}  # fmt: skip
_OTHER_SIGNS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip

Change = Callable[[], None]


class Place:
    """Where a node stands: the lines of its statement, and whether they run when the module is imported."""

    def __init__(self, first: int = 1, last: int = 1, at_import: bool = True) -> None:
        self.first, self.last, self.at_import = first, last, at_import

    def inner(self, node: ast.AST) -> "Place":
        """The place of a node that stands here."""
        if isinstance(node, ast.Lambda):
            return Place(self.first, self.last, self.at_import)
        if not isinstance(node, ast.stmt):
            return self
        body = getattr(node, "body", None)
        last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or node.lineno
        return Place(node.lineno, last, self.at_import)


class Mutant:
    """`text` is the whole changed module, `place` where it differs, `what` how."""

    def __init__(self, place: Place, line: int, what: str, text: str) -> None:
        self.place, self.line, self.what, self.text = place, line, what, text


def mutants_of(source: str) -> Iterator[Mutant]:
    """All there are, in the order of the file."""
    tree = ast.parse(source)
    original = ast.unparse(tree)
    for node, place in _live_nodes(tree, Place()):
        for what, changed, change in _changes(node):
            undo = copy.copy(node.__dict__)
            before = ast.unparse(node).split("\n", 1)[0]
            change()
            text = ast.unparse(tree)
            if text != original:
                where = place if changed is node else _inside(node, place).inner(changed)
                yield Mutant(where, getattr(changed, "lineno", 0), f"{what}: {before}", text)
            node.__dict__.clear()
            node.__dict__.update(undo)


def _inside(node: ast.AST, place: Place) -> Place:
    """The place of the statements of a node's body."""
    runs_later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return Place(place.first, place.last, place.at_import and not runs_later)


def _live_nodes(node: ast.AST, place: Place) -> Iterator[tuple[ast.AST, Place]]:
    """What can make a difference: no documentation, no types."""
    yield node, place
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        around = _inside(node, place) if name == "body" else place
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_dead(child):
                yield from _live_nodes(child, around.inner(child))


def _is_dead(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return True
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id in ("__slots__", "TYPE_CHECKING") for target in node.targets
    )


def _changes(node: ast.AST) -> "Iterator[tuple[str, ast.AST, Change]]":
    """What is done, to which node, and the doing."""
    if isinstance(node, ast.Compare):
        for other in _OTHER_COMPARISONS.get(type(node.ops[0]), []):
            yield f"{other.__name__}", node, _setter(node, "ops", [other(), *node.ops[1:]])
    elif isinstance(node, ast.BoolOp):
        yield "and/or", node, _setter(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.BinOp) and type(node.op) in _OTHER_SIGNS:
        yield "sign", node, _setter(node, "op", _OTHER_SIGNS[type(node.op)]())
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "not", node, _setter(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Call) and len(node.args) == 2 and not node.keywords:
        yield "arguments swapped", node, _setter(node, "args", node.args[::-1])
    for name in ("body", "orelse", "finalbody"):
        statements = getattr(node, name, None)
        if isinstance(statements, list):
            yield from _other_statements(node, name, statements)


def _other_constants(node: ast.Constant) -> "Iterator[tuple[str, ast.AST, Change]]":
    if isinstance(node.value, bool):
        yield "the other", node, _setter(node, "value", not node.value)
    elif isinstance(node.value, int):
        yield "+1", node, _setter(node, "value", node.value + 1)
        yield "-1", node, _setter(node, "value", node.value - 1)
    elif isinstance(node.value, bytes):
        yield "other bytes", node, _setter(node, "value", node.value + b"?")


def _other_statements(node: ast.AST, name: str, statements: list[ast.stmt]) -> "Iterator[tuple[str, ast.AST, Change]]":
    for place, statement in enumerate(statements):
        if isinstance(statement, ast.AugAssign | ast.Raise | ast.Continue | ast.Break | ast.Delete) or (
            isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant | ast.Yield)
        ):
            without = [*statements[:place], ast.Pass(), *statements[place + 1 :]]
            yield f"left out ({ast.unparse(statement)[:60]})", statement, _setter(node, name, without)
        after = statements[place + 1] if place + 1 < len(statements) else None
        if isinstance(statement, ast.Expr) and isinstance(after, ast.Expr) and not _is_dead(statement):
            swapped = [*statements[:place], after, statement, *statements[place + 2 :]]
            yield "swapped with the next", statement, _setter(node, name, swapped)


def _setter(node: ast.AST, name: str, value: object) -> Change:
    return lambda: setattr(node, name, value)
