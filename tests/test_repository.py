"""The repository follows its own rules."""

import ast
import graphlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src"
LOCKS = ["requirements.lock", "requirements-quadruped.lock", "requirements-dev.lock"]

# Packages on top of the core; the core knows none of them.
DOMAINS = {"growth", "pendulum", "quadruped", "sinusoid", "tabular"}
# Rooms of the quadruped; each knows itself and those before it, and the demo beside them knows all.
ROOMS = (
    "body",
    "world",
    "standin",
    "walking",
    "data",
    "logs",
    "dynamics",
    "conditioned",
    "identification",
    "deployment",
    "transfer",
)
FRONT = {"cli", "__main__"}  # what a person calls; nothing imports it

NOT_OURS = {".git", ".venv", "build", "dist", "runs", "__pycache__"}
# In pieces, for this file is searched as well.
INDEX_ADDRESS = re.compile(
    "|".join([r"://\S*/simp" + r"le\b", r"pythonhosted\." + "org", "--(extra-)?index-" + "url"])
    + "|--find-"
    + "links|fil"
    + "e://"
)


def module_name(path: Path, root: Path = SOURCES) -> str:
    """Dotted name of a source file."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_modules(root: Path = SOURCES) -> dict[str, ast.Module]:
    """Parsed source of each module below a folder."""
    return {module_name(path, root): ast.parse(path.read_text()) for path in root.rglob("*.py")}


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from runtime_nodes(child)


def imports(tree: ast.Module, modules: dict[str, ast.Module]) -> set[str]:
    """Those of the given modules that a module imports, at any depth of its code."""
    found = set()
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & modules.keys()
            if inner - modules.keys():
                found.add(node.module)
    return found & modules.keys()


def import_graph(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """What each module imports."""
    return {name: imports(tree, modules) for name, tree in modules.items()}


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of imports, or an empty list."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def layer(module: str) -> str:
    """Where a module stands: "core", "front", or the name of its domain."""
    second = [*module.split("."), ""][1]
    return "front" if second in FRONT else second if second in DOMAINS else "core"


def wrong_imports(graph: dict[str, set[str]]) -> list[str]:
    """Imports from a layer into one it must not know."""
    allowed = {"core": {"core"}, "front": {"core", "front", *DOMAINS}}
    return [
        f"{module} imports {target}"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if layer(target) not in allowed.get(layer(module), {"core", layer(module)})
    ]


def wrong_rooms(graph: dict[str, set[str]]) -> list[str]:
    """Imports from a room of the quadruped into a later one, or of what stands beside the rooms."""

    def room(module: str) -> int:
        third = [*module.split("."), "", ""][2]
        return ROOMS.index(third) if third in ROOMS else len(ROOMS)

    within = {
        module: {target for target in targets if layer(target) == "quadruped"}
        for module, targets in graph.items()
        if layer(module) == "quadruped"
    }
    return [
        f"{module} imports {target}"
        for module, targets in sorted(within.items())
        for target in sorted(targets)
        if room(target) > room(module)
    ]


def unsafe_code(tree: ast.Module) -> list[str]:
    """Lines that could run code out of data."""
    banned = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "eval", "exec"}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").partition(".")[0]}
        elif isinstance(node, ast.Call):
            names = {node.func.id} if isinstance(node.func, ast.Name) else set()
            names |= {
                "pickle"
                for keyword in node.keywords
                if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
            }
        else:
            continue
        if names & banned:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of each package of a lock file."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", (ROOT / name).read_text(), flags=re.MULTILINE)[1:]
    found = {}
    for block in blocks:
        package, version = re.match(r"([^=\s]+)==(\S+)", block).groups()
        found[package] = (version, len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)))
    return found


def normalized(requirement: str) -> str:
    """Name of a requirement as lock files write it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement).group()).lower()


def project() -> dict:
    """The parsed pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_no_file_names_a_package_index():
    offenders = []
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and not NOT_OURS.intersection(parts) and not parts[0].endswith("_cache"):
            found = INDEX_ADDRESS.search(path.read_bytes().decode(errors="ignore"))
            offenders += [f"{path}: {found.group()}"] if found else []
    assert not offenders


@pytest.mark.parametrize("name", LOCKS)
def test_locks_have_hashes_and_no_addresses(name):
    packages = locked(name)
    assert len(packages) > 10
    assert not [package for package, (_, hashes) in packages.items() if hashes == 0]
    assert "://" not in (ROOT / name).read_text()


@pytest.mark.parametrize("name", LOCKS)
def test_locks_cover_the_declared_dependencies(name):
    declared = {normalized(item) for item in project()["project"]["dependencies"]}
    groups = project()["dependency-groups"]
    for group in ["build", "dev"] if name == LOCKS[-1] else ["build"]:
        declared |= {normalized(item) for item in groups[group] if isinstance(item, str)}
    if name == LOCKS[1]:
        extras = project()["project"]["optional-dependencies"]
        declared |= {normalized(item) for item in extras["quadruped"]}
    assert not declared - locked(name).keys(), "run `make lock`"


def test_tests_have_what_the_extras_need():
    extras = project()["project"]["optional-dependencies"].values()
    assert {item for items in extras for item in items} <= {*project()["dependency-groups"]["dev"][1:]}


def test_locks_agree_with_each_other():
    runtime, quadruped, development = (locked(name) for name in LOCKS)
    assert runtime.items() <= quadruped.items() <= development.items(), "run `make lock`"


def test_nothing_installs_torch():
    everything = {name for lock in LOCKS for name in locked(lock)}
    everything |= {normalized(item) for item in project()["project"]["dependencies"]}
    assert "torch" not in everything


def test_dependencies_are_bounded_from_below_only():
    bounds = [*project()["project"]["dependencies"]]
    bounds += [item for items in project()["project"]["optional-dependencies"].values() for item in items]
    assert not [item for item in bounds if not re.fullmatch(r"[\w.-]+>=[\d.]+", item)]


def test_every_module_says_what_it_is_for():
    assert not [name for name, tree in read_modules().items() if not ast.get_docstring(tree)]


def test_sources_run_no_code_from_data():
    offenders = {name: unsafe_code(tree) for name, tree in read_modules().items()}
    assert not {name: lines for name, lines in offenders.items() if lines}


def test_layers_know_only_what_lies_below():
    assert not wrong_imports(import_graph(read_modules()))


def test_rooms_know_only_those_before_them():
    graph = import_graph(read_modules())
    assert not wrong_rooms(graph)
    assert {name.split(".")[2] for name in graph if name.startswith("dmcm.quadruped.")} > set(ROOMS)
    later = {"dmcm.quadruped.world.arena": {"dmcm.quadruped.data.grid", "dmcm.quadruped.body.properties"}}
    assert wrong_rooms(later) == ["dmcm.quadruped.world.arena imports dmcm.quadruped.data.grid"]
    assert wrong_rooms({"dmcm.quadruped.dynamics.page": {"dmcm.quadruped.demo"}})
    assert not wrong_rooms({"dmcm.quadruped.demo": {"dmcm.quadruped.dynamics.model"}})


def test_no_imports_in_circles():
    assert not find_cycle(import_graph(read_modules()))


UNSAFE = [
    "import pickle",
    "from pickle import load",
    "eval(text)",
    "exec(text)",
    "np.load(path, allow_pickle=True)",
    "np.load(path, allow_pickle=flag)",
]


@pytest.mark.parametrize("code", UNSAFE)
def test_unsafe_code_is_found(code):
    assert unsafe_code(ast.parse(f"def f():\n    {code}"))


def test_harmless_code_is_not_taken_for_unsafe():
    lines = [
        '"""No pickle."""',
        "import numpy",
        "model.eval()",
        "np.load(path, allow_pickle=False)",
    ]
    assert not unsafe_code(ast.parse("\n".join(lines)))


def test_circles_and_wrong_layers_are_found(tmp_path):
    package = tmp_path / "dmcm"
    (package / "sinusoid").mkdir(parents=True)
    (package / "__init__.py").write_text("from dmcm.a import A")
    (package / "a.py").write_text("def f():\n    from dmcm import b")
    (package / "b.py").write_text("import dmcm.a")
    (package / "cli.py").write_text("import dmcm.sinusoid")
    (package / "sinusoid" / "__init__.py").write_text("from dmcm.cli import main")
    (package / "c.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import dmcm.sinusoid\n"
    )
    graph = import_graph(read_modules(tmp_path))
    assert graph["dmcm"] == {"dmcm.a"}
    assert graph["dmcm.c"] == set()
    assert wrong_imports(graph) == ["dmcm.sinusoid imports dmcm.cli"]
    assert set(find_cycle({name: graph[name] for name in ("dmcm.a", "dmcm.b")})) == {
        "dmcm.a",
        "dmcm.b",
    }
    (package / "b.py").write_text("import dmcm.sinusoid")
    graph = import_graph(read_modules(tmp_path))
    assert "dmcm.b imports dmcm.sinusoid" in wrong_imports(graph)


def test_every_package_on_top_of_the_core_is_named_a_domain():
    """A package with a study or a protocol of its own is no part of the core."""
    packages = {path.parent.name for path in (SOURCES / "dmcm").glob("*/__init__.py")}
    assert packages - {"networks", "solvers"} - FRONT == DOMAINS
