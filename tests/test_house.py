"""The dependency rules of ARCHITECTURE.md, read from the imports themselves."""

import ast
import pathlib

import pytest

from tests import shared

# A module imports from its own layer and from layers above it in this list (lower in the house), never downwards.
LAYERS = [
    {"protos", "_keras", "registry", "structures", "labels"},
    {"layers", "matching", "visualize"},
    {"data", "backbones", "pixel_decoders", "transformer_decoders", "heads", "losses", "postprocess"},
    {"models", "checkpoints"},
    {"architectures"},
    {"config", "config_checks", "config_deeplab", "config_modes", "config_text", "config_values"},
    {"serving"},
    {"__init__"},
]
STRANGERS = {"data", "models", "losses", "postprocess"}  # of these none knows another
PROGRAMS = {"trainer", "evaluation", "configs", "tests", "tools", "benchmarks"}
CORE_REQUIREMENTS = {"tensorflow", "google", "numpy", "absl", "PIL", "deeplab2_kmax"}


def _modules(package: str) -> list[pathlib.Path]:
    return [path for path in sorted((shared.ROOT / package).rglob("*.py")) if not path.name.endswith("_pb2.py")]


def _imports(path: pathlib.Path) -> list[tuple[str, bool]]:
    """The modules a file imports, in full, each with whether that happens on importing the file."""
    found = []
    tree = ast.parse(path.read_text())
    lazy = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.Lambda))
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import modules in full, not relatively"
            found += [(f"{node.module}.{alias.name}", id(node) not in lazy) for alias in node.names]
    return found


def _layer(part: str) -> int:
    for number, parts in enumerate(LAYERS):
        if part in parts:
            return number
    raise AssertionError(f"deeplab2_kmax/{part} has no layer: give it one here and in ARCHITECTURE.md")


@pytest.mark.parametrize("path", _modules("deeplab2_kmax"), ids=lambda p: str(p.relative_to(shared.ROOT)))
def test_library_imports_go_down(path):
    own = path.relative_to(shared.ROOT / "deeplab2_kmax").parts[0].removesuffix(".py")
    for name, _ in _imports(path):
        parts = name.split(".")
        assert parts[0] not in PROGRAMS, f"{path} imports {name}: the library knows no program"
        if parts[0] != "deeplab2_kmax" or len(parts) == 1 or own == "__init__":
            continue
        other = parts[1]
        if other.startswith("__"):
            continue
        assert _layer(other) <= _layer(own), f"{path} imports {name}: imports go down only"
        if own in STRANGERS and other in STRANGERS:
            assert own == other, f"{path} imports {name}: {own} and {other} share types, not each other"


def test_library_needs_only_its_core_requirements_at_import():
    standard = set(__import__("sys").stdlib_module_names)
    for path in _modules("deeplab2_kmax"):
        for name, eager in _imports(path):
            top = name.split(".")[0]
            if eager and top not in standard:
                assert top in CORE_REQUIREMENTS, f"{path} imports {name}: optional packages load where they are used"


def test_only_one_module_chooses_keras():
    for package in ("deeplab2_kmax", "evaluation", "trainer"):
        for path in _modules(package):
            if path.name == "_keras.py":
                continue
            names = [name for name, _ in _imports(path)]
            assert not [n for n in names if n.split(".")[0] in ("keras", "tf_keras")], path
            used = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)]
            assert not [n for n in used if n.attr == "keras" and getattr(n.value, "id", "") == "tf"], (
                f"{path}: take keras from deeplab2_kmax._keras"
            )


def test_programs_know_each_other_one_way():
    for path in _modules("evaluation"):
        assert not [name for name, _ in _imports(path) if name.split(".")[0] == "trainer"], path
    for package in ("evaluation", "trainer"):
        for path in _modules(package):
            assert not [name for name, _ in _imports(path) if name.split(".")[0] == "tests"], path


def test_every_file_says_what_it_is():
    for package in ("deeplab2_kmax", "evaluation", "trainer"):
        for path in _modules(package):
            text = path.read_text()
            assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
            assert path.name != "utils.py"
