"""The tree is what docs/architecture.md and CONTRIBUTING.md say of it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import METRICS_PY

ROOT = METRICS_PY.parent
PACKAGE = ROOT / "librechat_exporter"
MODULES = sorted(PACKAGE.rglob("*.py"))
# Each layer imports only from itself and those after it: modules and packages of librechat_exporter.
LAYERS = (
    ("cli", "healthcheck", "check", "price_report"),
    ("daemon",),
    ("http",),
    ("page",),
    ("scrape",),
    ("self_metrics", "collectors"),
    ("collector", "historic"),
    ("folds",),
    ("ledger",),
    ("librechat",),
    ("metrics", "refreshed"),
    ("settings", "ending"),
    ("prices", "user_ids"),
    ("faults", "log_lines", "strict_yaml"),
)
# These share a layer, and do not know each other.
APART = ({"collector", "historic"}, {"self_metrics", "collectors"})


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that it names, as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "librechat_exporter":
            names = [node.module] if node.module != "librechat_exporter" else [one.name for one in node.names]
            yield from (str(name).removeprefix("librechat_exporter.") for name in names)


def test_every_module_has_a_layer() -> None:
    layers = [name for layer in LAYERS for name in layer]
    assert sorted(layers) == sorted({layer_of(path) for path in MODULES} - {"__init__"})


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_layers_point_one_way(path: Path) -> None:
    own = layer_of(path)
    imported = {name.split(".")[0] for name in imports(path)} - {"__version__"}
    if own != "__init__":
        [height] = [height for height, layer in enumerate(LAYERS) if own in layer]
        assert imported <= {name for layer in LAYERS[height:] for name in layer}
        for apart in APART:
            assert own not in apart or not imported & (apart - {own})


def test_the_top_is_small_and_no_file_long() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 16
    assert {path.name: size for path in MODULES if (size := len(path.read_text().splitlines())) > 400} == {}


@pytest.mark.parametrize("path", sorted((PACKAGE / "collectors").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_every_collector_module_offers_its_collectors(path: Path) -> None:
    """Nothing but `collectors(settings)` is for others, and none imports another."""
    tree = ast.parse(path.read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
    assert [name for name in names if not name.startswith("_")] == ["collectors"]
    assert not [name for name in imports(path) if name.split(".")[0] == "collectors"]


@pytest.mark.parametrize("path", sorted((PACKAGE / "collectors").glob("*.py")), ids=lambda path: path.stem)
def test_metrics_are_defined_by_keyword_with_their_full_names(path: Path) -> None:
    """A search for a name that an operator sees leads to its definition."""
    told = path.read_text()
    names = re.findall(r'\bname="(librechat_\w+)"', told)
    assert len(names) == len(re.findall(r"^ *(?:\w+ = )?(?:Metric|_gauge|_counter|_hourly)\(", told, re.MULTILINE))


def test_nobody_else_knows_a_field() -> None:
    """A path of a document's field, such as `"$user"`, stands where the fields are given their meaning."""
    knowing = {PACKAGE / "librechat" / "expressions.py", *(PACKAGE / "librechat").glob("*fields.py")}
    for path in set(MODULES) - knowing:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"\$[a-z]", node.value):
                assert node.value in OPERATORS, f"{path.name}: {node.value}"


# Stages of pipelines, accumulators and conditions of matches.
OPERATORS = {
    *("$match", "$group", "$project", "$sort", "$limit", "$count", "$unionWith"),
    *("$sum", "$push", "$first", "$addToSet"),
    *("$and", "$in", "$nin", "$gte", "$lt", "$lte", "$natural", "$not", "$regex", "$type"),
}
