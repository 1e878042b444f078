"""What of our source a program can reach: its definitions, followed by name from `main` and `start`.

Finer than imports, for a module may hold two faces: a node is a function, a class or a constant of a module, and an
edge is a name in it. A class is one node, with all its methods. Imports within functions count; those for types do not.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "notqmail"
Node = tuple[str, str]  # the module's dotted name, the definition's


class Module:
    """A module's definitions, and what each name in it was imported as."""

    def __init__(self, dotted: str, path: Path) -> None:
        self.dotted = dotted
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        tree = ast.parse(path.read_text())
        for statement in _statements(tree.body):
            for name in _defined(statement):
                self.definitions.setdefault(name, []).append(statement)
        for node in _without_types(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("notqmail"):
                self.imported |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
            elif isinstance(node, ast.Import):
                self.imported |= {alias.asname: (alias.name, "") for alias in node.names if alias.asname}


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, also those under `if` and `try`, but for the imports of types."""
    for statement in body:
        if _is_for_types(statement):
            continue
        yield statement
        if isinstance(statement, (ast.If, ast.Try)):
            yield from _statements(statement.body + statement.orelse)
            for handler in getattr(statement, "handlers", []):
                yield from _statements(handler.body)


def _without_types(tree: ast.AST) -> Iterator[ast.AST]:
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not _is_for_types(child):
            yield from _without_types(child)


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


@cache
def modules() -> dict[str, Module]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = [part for part in path.relative_to(PACKAGE.parent).with_suffix("").parts if part != "__init__"]
        found[".".join(parts)] = Module(".".join(parts), path)
    return found


def resolve(module: str, name: str, attribute: str = "") -> Node | None:
    """Where `name`, or `name.attribute` when that is a module's, is defined; None when it is not ours or local."""
    if module not in modules():
        return None
    here = modules()[module]
    if name in here.definitions and not attribute:
        return module, name
    if name not in here.imported:
        return None
    origin, original = here.imported[name]
    inner = f"{origin}.{original}" if original else origin
    if inner in modules():
        return resolve(inner, attribute) if attribute else None
    return None if attribute else resolve(origin, original)


def named_in(module: str, tree: ast.AST) -> Iterator[Node]:
    """The definitions of ours that a piece of code names."""
    for node in ast.walk(tree):
        found = None
        if isinstance(node, ast.Name):
            found = resolve(module, node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = resolve(module, node.value.id, node.attr)
        if found is not None:
            yield found


def trees(node: Node) -> list[ast.stmt]:
    return modules()[node[0]].definitions[node[1]]


@cache
def reached(module: str, *entries: str) -> frozenset[Node]:
    """Every definition that can be reached from these of `module`."""
    seen: set[Node] = set()
    waiting = [node for entry in entries if (node := resolve(module, entry)) is not None]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += [found for tree in trees(node) for found in named_in(node[0], tree) if found not in seen]
    return frozenset(seen)


def pieces(nodes: frozenset[Node]) -> Iterator[tuple[str, ast.AST]]:
    """Every piece of syntax in these definitions, with its module."""
    for node in sorted(nodes):
        for tree in trees(node):
            for piece in ast.walk(tree):
                yield node[0], piece
