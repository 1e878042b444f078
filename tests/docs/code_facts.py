"""What a program's code says of its surroundings: control files, variables, exit codes. See reached_code.py."""

import ast
import re
from collections.abc import Iterator

from reached_code import Node, named_in, pieces, reached, trees

# Calls that read a variable without naming it; `search_path=True` (unix.processes) is another.
IMPLIED = {"execvpe": "PATH", "execvp": "PATH", "posix_spawnp": "PATH", "localtime": "TZ"}
VARIABLE = r"_?[A-Z][A-Z0-9_]+"
# Here os._exit ends a process that was forked, whose code its parent makes something else of.
CHILDREN = ("admin.children", "deliver.lspawn_children", "deliver.worker", "queue.ledger_apart", "receive.queue_copies",
            "unix.mains", "unix.processes")  # fmt: skip


def text_of(piece: ast.AST | None) -> str | None:
    """The text of a constant, whether str or bytes."""
    value = piece.value if isinstance(piece, ast.Constant) else None
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else None


def texts(nodes: frozenset[Node]) -> set[str]:
    return {text for _, piece in pieces(nodes) if (text := text_of(piece)) is not None}


def _keys(piece: ast.AST) -> list[ast.expr | None]:
    """Where this piece of syntax looks into, or makes, an environment: the names that it uses."""

    def is_environment(expression: ast.AST) -> bool:
        return "environ" in ast.unparse(expression).lower()

    if isinstance(piece, ast.Subscript) and is_environment(piece.value):
        return [piece.slice]
    if isinstance(piece, ast.Call) and isinstance(piece.func, ast.Attribute) and is_environment(piece.func.value):
        return list(piece.args[:1]) if piece.func.attr in ("get", "pop", "setdefault") else []
    if isinstance(piece, ast.Compare) and any(is_environment(side) for side in piece.comparators):
        return [piece.left]
    if isinstance(piece, ast.Dict) and any(
        key is None and is_environment(value) for key, value in zip(piece.keys, piece.values, strict=True)
    ):
        return piece.keys
    return []


def variables(nodes: frozenset[Node]) -> set[str]:
    """The variables that are read or set there as such. (A name in a table of names is not seen: see `texts`.)"""
    found = {text for _, piece in pieces(nodes) for key in _keys(piece) if (text := text_of(key)) is not None}
    return {text for text in found if re.fullmatch(VARIABLE, text)} | set(_implied(nodes))


def _implied(nodes: frozenset[Node]) -> Iterator[str]:
    for module, piece in pieces(nodes):
        if isinstance(piece, ast.Attribute) and piece.attr in IMPLIED and module != "notqmail.unix.processes":
            yield IMPLIED[piece.attr]
        if isinstance(piece, ast.keyword) and piece.arg == "search_path":
            yield "PATH"


def control_files(nodes: frozenset[Node]) -> set[str]:
    """The control files that are read there: by name through a reader, or by path."""
    found = set()
    for module, piece in pieces(nodes):
        if isinstance(piece, ast.Call) and piece.args:
            first, second = piece.args[0], piece.args[1] if len(piece.args) > 1 else None
            reader = first.id if isinstance(first, ast.Name) else ""
            called = piece.func.id if isinstance(piece.func, ast.Name) else ""
            name = text_of(second) if reader == "read" else text_of(first) if called in ("read", "_setting") else None
            found |= {name} if name else set()
            if reader == "read" and any(name == "line_or_me" for _, name in named_in(module, piece.func)):
                found.add("me")
        text = text_of(piece) or ""
        if re.fullmatch(r"control/[a-z0-9.]+", text):
            found.add(text.removeprefix("control/"))
    return found


def _value_of(name: str, statement: ast.stmt) -> ast.expr | None:
    """What `name` becomes in an assignment, also in one of several names to as many values."""
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
        return None
    target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
    if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
        pairs = zip(target.elts, statement.value.elts, strict=True)
        return next(value for each, value in pairs if isinstance(each, ast.Name) and each.id == name)
    return statement.value


def _functions(tree: ast.AST) -> Iterator[ast.AST]:
    """A class's methods and what else is in it, each by itself; a function or a constant as it is."""
    yield from tree.body if isinstance(tree, ast.ClassDef) else [tree]


def _carries_a_code(tree: ast.AST) -> bool:
    """Is this an exception made with an exit code?"""
    if not isinstance(tree, ast.ClassDef) or "Exception" not in [ast.unparse(base) for base in tree.bases]:
        return False
    begin = next(
        (method for method in tree.body if isinstance(method, ast.FunctionDef) and method.name == "__init__"), None
    )
    return begin is not None and any(argument.arg in ("code", "exit_code") for argument in begin.args.args)


class ExitCodes:
    """The exit codes of a program, as far as its text shows them: what `main` returns, what ends it on the way, and
    what `start` makes of a failure that nobody expected. A command with subcommands has no `start`."""

    def __init__(self, module: str, begin: str = "start") -> None:
        self._nodes = reached(module, "main", begin)
        self._asked: set[tuple[str, str]] = set()
        found = self._returned(module, "main") | set(self._ends()) | set(self._subcommands())
        self.all = frozenset(found | ({self._uncaught(module)} if begin == "start" else set()))

    def _uncaught(self, module: str) -> int:
        for _, piece in pieces(frozenset({(module, "start")})):
            if isinstance(piece, ast.keyword) and piece.arg == "uncaught":
                (code,) = self._values(module, piece.value, None)
                return code
        return 111

    def _subcommands(self) -> Iterator[int]:
        """What functions return that argparse is given: `set_defaults(command=...)`."""
        for module, piece in pieces(self._nodes):
            if isinstance(piece, ast.keyword) and piece.arg == "command":
                for target in named_in(module, piece.value):
                    yield from self._returned(*target)

    def _ends(self) -> Iterator[int]:
        """Codes in exceptions that carry one, and where the process is left at once."""
        for module, name in sorted(self._nodes):
            for tree in trees((module, name)):
                for function in _functions(tree):
                    for piece in ast.walk(function):
                        for argument in self._carried(module, piece):
                            yield from self._values(module, argument, function)

    def _carried(self, module: str, piece: ast.AST) -> list[ast.expr]:
        """Where this piece of syntax ends the program, or says with what it will: the expressions for the code."""
        if isinstance(piece, ast.Assign) and any(
            isinstance(target, ast.Attribute) and target.attr == "exit_code" for target in piece.targets
        ):
            return [piece.value]
        if not isinstance(piece, ast.Call):
            return []
        arguments = [*piece.args, *(word.value for word in piece.keywords)]
        called = ast.unparse(piece.func)
        if called == "sys.exit" or (called == "os._exit" and module.removeprefix("notqmail.") not in CHILDREN):
            return arguments
        target = next(named_in(module, piece.func), None)
        return arguments if target is not None and any(map(_carries_a_code, trees(target))) else []

    def _returned(self, module: str, name: str) -> set[int]:
        """What the function of this name may return."""
        if (module, name) in self._asked:
            return set()
        self._asked.add((module, name))
        found: set[int] = set()
        for function in trees((module, name)):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found |= self._returns(module, function)
        return found

    def _returns(self, module: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[int]:
        return {
            value
            for piece in ast.walk(function)
            if isinstance(piece, ast.Return) and piece.value is not None
            for value in self._values(module, piece.value, function)
        }

    def _values(self, module: str, expression: ast.AST, function: ast.AST | None) -> set[int]:
        """The whole numbers that an expression may be; what is not understood is none."""

        def of(*expressions: ast.AST | None) -> set[int]:
            return {value for each in expressions if each is not None for value in self._values(module, each, function)}

        match expression:
            case ast.Constant(value=bool()):
                return set()
            case ast.Constant(value=int(number)):
                return {number}
            case ast.IfExp(body=body, orelse=orelse):
                return of(body, orelse)
            case ast.BoolOp(values=values) | ast.Tuple(elts=values):
                return of(*values)
            case ast.Dict(values=values):
                return of(*values)
            case ast.Subscript(value=table):
                return of(table)
            case ast.Lambda(body=body) | ast.Await(value=body):
                return of(body)
            case ast.Call():
                return self._called(module, expression, function)
            case ast.Name(id=name) | ast.Attribute(value=ast.Name(), attr=name):
                return self._named(module, expression, name, function)
        return set()

    def _called(self, module: str, call: ast.Call, function: ast.AST | None) -> set[int]:
        target = next(named_in(module, call.func), None)
        if isinstance(call.func, ast.Attribute) and call.func.attr == "get":  # a table with a default
            return {
                value for each in (call.func.value, *call.args[1:]) for value in self._values(module, each, function)
            }
        if target is not None and any(
            isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef)) for tree in trees(target)
        ):
            passed = {  # functions and codes handed on: `choose(once=lambda: ...)`, `converse(gone_code=1)`
                value
                for word in call.keywords
                if isinstance(word.value, ast.Lambda) or (word.arg or "").endswith("_code")
                for value in self._values(module, word.value, function)
            }
            return self._returned(*target) | passed
        if isinstance(call.func, ast.Attribute):
            return self._methods(call.func.attr)
        return self._methods(call.func.id) if isinstance(call.func, ast.Name) else set()

    def _methods(self, name: str) -> set[int]:
        """What the methods of this name return, in all classes that are reached."""
        found: set[int] = set()
        for module, owner in sorted(self._nodes):
            for tree in trees((module, owner)):
                for method in tree.body if isinstance(tree, ast.ClassDef) else ():
                    is_it = isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef)) and method.name == name
                    if is_it and (module, f"{owner}.{name}") not in self._asked:
                        self._asked.add((module, f"{owner}.{name}"))
                        found |= self._returns(module, method)
        return found

    def _named(self, module: str, expression: ast.AST, name: str, function: ast.AST | None) -> set[int]:
        target = next(named_in(module, expression), None)
        if target is not None and target[1] == name:
            values = [_value_of(name, tree) for tree in trees(target)]
            return {number for value in values if value for number in self._values(target[0], value, None)}
        found: set[int] = set()
        for piece in ast.walk(function) if function is not None and isinstance(expression, ast.Name) else ():
            if isinstance(piece, (ast.Assign, ast.AnnAssign)) and piece.value is not None:
                targets = piece.targets if isinstance(piece, ast.Assign) else [piece.target]
                if any(isinstance(each, ast.Name) and each.id == name for each in targets):
                    found |= self._values(module, piece.value, None if piece.value is expression else function)
        return found
