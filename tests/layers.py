"""The structure of a package as its imports show it: what a test of layers asks, for the core and for the nodes."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class House:
    """The modules under ``folder``, which may import from the entries of ``floors`` down to their own.

    An entry is a folder or a module at the top; ``""`` is the package's own ``__init__``.
    """

    folder: Path
    floors: Sequence[str]

    @cached_property
    def modules(self) -> dict[str, Path]:
        """By dotted name under the folder; a package's ``__init__`` by the package's own name."""
        return {self._name(path): path for path in sorted(self.folder.rglob("*.py"))}

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.modules.items()}

    @cached_property
    def graph(self) -> dict[str, set[str]]:
        """Modules of this house that each module imports, anywhere in it."""
        return {name: set(self._inside(name)) for name in self.modules}

    @cached_property
    def packages(self) -> dict[str, set[str]]:
        """Other top-level packages that each module imports, anywhere in it."""
        return {name: set(self.outside(ast.walk(tree))) for name, tree in self.trees.items()}

    def packages_at_import(self, module: str) -> set[str]:
        """Those that are imported as soon as the module is."""
        return set(self.outside(iter(self.trees[module].body)))

    def floor(self, module: str) -> int:
        return self.floors.index(module.split(".")[0])

    def _name(self, path: Path) -> str:
        parts = path.relative_to(self.folder).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def _inside(self, module: str) -> Iterator[str]:
        path = self.modules[module]
        package = path.relative_to(self.folder.parent).parent.parts
        for node in ast.walk(self.trees[module]):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else ())]
            if not base or base[0] != self.folder.name:
                continue
            for alias in node.names:
                whole = ".".join([*base[1:], alias.name])
                yield whole if whole in self.modules else ".".join(base[1:])

    @staticmethod
    def outside(nodes: Iterator[ast.AST]) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.split(".")[0]

    # What is wrong, as lists for an assertion: empty is right.

    def without_a_floor(self) -> list[str]:
        return sorted({name.split(".")[0] for name in self.modules} - {*self.floors})

    def floors_without_modules(self) -> list[str]:
        return sorted({*self.floors} - {name.split(".")[0] for name in self.modules})

    def imports_that_go_up(self) -> list[str]:
        return [
            f"{name} -> {other}"
            for name, others in self.graph.items()
            for other in sorted(others)
            if self.floor(other) > self.floor(name)
        ]

    def imports_of_nothing(self) -> list[str]:
        return [f"{name} -> {other}" for name, others in self.graph.items() for other in others - self.modules.keys()]

    def circles(self) -> dict[str, set[str]]:
        """Strip modules that import nothing that is left, until none is: what remains is in a circle or above one."""
        # what a package's own __init__ gathers from its files is no circle: the files do not ask for the package
        left = {name: {other for other in others if other != name} for name, others in self.graph.items()}
        while free := [name for name, others in left.items() if not others & left.keys()]:
            for name in free:
                del left[name]
        return left

    def names_that_shadow(self) -> list[str]:
        """Names that a package's ``__init__`` binds to something else than its module of that name."""
        found = []
        for package, path in self.modules.items():
            if path.name != "__init__.py":
                continue
            inner = package + "." if package else ""
            own = {  # ``from . import name`` binds the module itself
                alias.asname or alias.name
                for node in self.trees[package].body
                if isinstance(node, ast.ImportFrom) and node.level == 1 and not node.module
                for alias in node.names
            }
            names = {*bound_names(self.trees[package])} - own
            found.extend(sorted(inner + name for name in names if inner + name in self.modules))
        return found

    def too_long(self, file_lines: int = 300, function_lines: int = 70) -> list[str]:
        found = []
        for name, path in self.modules.items():
            lines = path.read_text(encoding="utf-8").count("\n")
            if lines > file_lines:
                found.append(f"{name}: {lines} lines")
            for node in ast.walk(self.trees[name]):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = node.end_lineno - node.lineno + 1
                    if length > function_lines:
                        found.append(f"{name}.{node.name}: {length} lines")
        return found

    def prints(self) -> list[str]:
        return [
            f"{name}:{node.lineno}"
            for name, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print"
        ]


def bound_names(tree: ast.Module) -> Iterator[str]:
    """What the top level of a module gives a name to."""
    inner = [node for branch in tree.body if isinstance(branch, ast.If) for node in branch.body]
    for node in (*tree.body, *inner):
        if isinstance(node, ast.ImportFrom | ast.Import):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
