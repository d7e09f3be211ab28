"""The house's floors: arrows point down only, and boxes on one floor do not know each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = "fuse_examples.imaging.oai_example"
ROOT = Path(__file__).parents[2] / PACKAGE.replace(".", "/")
FLOORS = {
    "errors": 1, "catalogue": 1,
    "configuration": 2, "models": 2, "geometry": 2,
    "data": 3, "objectives": 3, "inference": 3, "training": 3,
    "tasks": 4, "evaluation": 4,
    "stages": 5,
    "self_supervised": 6, "downstream": 6, "prepare": 6, "export": 6, "service": 6,
}  # fmt: skip
FORBIDDEN = {("models", "configuration"), ("models", "data"), ("objectives", "models"), ("objectives", "data"), ("training", "tasks")}
STANDARD_LIBRARY_NAMES = {"logging", "random", "statistics", "types", "copy", "io", "signal", "warnings", "typing", "abc", "inspect"}


def imported_rooms(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, room) of every import that reaches a room of the package."""
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            names = [node.module or ""] if node.module != PACKAGE else [f"{PACKAGE}.{alias.name}" for alias in node.names]
        found += [(node.lineno, name.removeprefix(PACKAGE + ".").split(".")[0]) for name in names if name.startswith(PACKAGE + ".")]
    return found


def violations(files: list[Path], root: Path) -> list[str]:
    rows = []
    for file in files:
        room = file.relative_to(root).parts[0].removesuffix(".py")
        for line, other in imported_rooms(ast.parse(file.read_text())):
            if room != other and room in FLOORS and (FLOORS[other] >= FLOORS[room] or (room, other) in FORBIDDEN):
                rows.append(f"{file.relative_to(root)}:{line}: {room} -> {other}")
    return rows


def test_imports_point_down_only() -> None:
    assert violations(sorted(ROOT.rglob("*.py")), ROOT) == []


def test_an_upward_import_is_seen(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.py").write_text(f"from {PACKAGE}.data.cases import Case\nfrom {PACKAGE} import stages\n")
    assert violations([tmp_path / "models" / "bad.py"], tmp_path) == [
        "models/bad.py:1: models -> data",
        "models/bad.py:2: models -> stages",
    ]


def test_every_room_has_a_floor_and_a_fair_name() -> None:
    rooms = {p.name.removesuffix(".py") for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()} - {"__init__"}
    assert rooms <= set(FLOORS)
    stems = {p.stem for p in ROOT.rglob("*.py")}
    assert stems.isdisjoint({"utils", "common", "helpers", "misc"} | STANDARD_LIBRARY_NAMES)


@pytest.mark.parametrize("pattern", ["strict=False", "register_forward", "weights_only=False", "pickle.load", "yaml.load("])
def test_shortcuts_that_hide_errors_are_absent(pattern: str) -> None:
    assert [str(p) for p in ROOT.rglob("*.py") if pattern in p.read_text()] == []
