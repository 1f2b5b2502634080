# SPDX-License-Identifier: MIT
"""The house as its plan has it: who imports whom, who may load a helper, who prints, how long a file may be.

Everything here reads the sources (ast) and does not run them, but for the tests of what an import brings in.
"""

from __future__ import annotations

import ast
import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src"
PACKAGE = SOURCE / "lkm"

LEAVES = frozenset({"errors", "names", "root", "values"})
"""Single modules that everybody may import."""

# The graph: a folder, and the folders that it may import beside itself and the leaves. A folder that is missing
# here is a decision that nobody took.
GRAPH = {
    "formats": set[str](),
    "system": {"formats"},
    "tree": {"formats", "system"},
    "preflight": {"formats", "system", "tree"},
    "modpost": {"formats", "system", "tree", "preflight"},
    "diagnosis": {"formats", "system", "tree"},
    "rescue": {"formats", "system", "tree", "preflight", "diagnosis"},
    "boot": {"formats", "system", "tree"},
    "lab": {"formats"},
    "cli": {"formats", "system", "tree", "preflight", "modpost", "diagnosis", "rescue", "boot", "lab"},
}

CORE = LEAVES | {"formats", "system", "tree", "preflight", "modpost", "diagnosis", "rescue", "boot"}
"""What runs on a host with nothing but Python 3.9 and its standard library: all but a signature."""

ZSTD = frozenset({"compression", "zstandard"})
"""Allowed in formats/zstd.py alone, which does without them too."""

PURE = {
    "formats",
    "diagnosis",
    "rescue/plan.py",
    "rescue/planner.py",
    "rescue/heal_plan.py",
    "rescue/complete.py",
    "rescue/edits.py",
    "rescue/gate.py",
    "rescue/proof.py",
    *(
        f"boot/{name}.py"
        for name in (
            "compare", "fates", "image", "initcall", "layout", "life", "messages", "modules_of", "page", "picture",
            "symbols", "tables", "timeline",
        )
    ),
    *(
        f"modpost/{name}.py"
        for name in ("aliases", "assemble", "checks", "device_ids", "link", "merge", "objects", "problems")
    ),
}  # fmt: skip
EFFECTS = frozenset({
    "asyncio", "ctypes", "fcntl", "glob", "io", "mmap", "multiprocessing", "pathlib", "posix", "random", "select",
    "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time", "urllib",
})  # fmt: skip
"""Modules that ask the operating system, the clock or chance."""

OS_PURE = frozenset(
    {"os.strerror", "os.path", "os.path.basename", "os.path.join", "os.fsdecode", "os.fsencode"}
)
"""What of `os` only computes."""

MAY_LOAD = {
    "init_module": {"system/calls.py", "system/load.py", "rescue/execute.py"},
    "assemble_helper": {"rescue/assemble.py", "rescue/execute.py"},
    "execute_step": {"rescue/execute.py", "rescue/execution.py", "rescue/heal.py"},
}
"""Who may name what leads to code in the kernel: where it is defined, and its one caller or two."""

MAY_EXIT = {"__main__.py", "lab/agent.py", "rescue/helper/rebuild.py"}
"""Programs of their own, beside cli/: the agent runs in a guest, rebuild for maintainers."""

MAX_FILE = 400
MAX_FUNCTION = 50

HEAVY_FOR_LIST = frozenset({
    "asyncio", "ctypes", "dataclasses", "hashlib", "inspect", "json", "lkm.diagnosis", "lkm.lab", "lkm.rescue",
    "lkm.system.snapshot", "pathlib", "qemu", "rich", "socket", "ssl", "subprocess", "tempfile", "urllib",
})  # fmt: skip
"""What `lkm list` does without: together they would cost more than the rest of its start."""

FILES = sorted(PACKAGE.rglob("*.py"))
CODE_FILES = sorted(
    path
    for top in (PACKAGE, REPOSITORY / "tests", REPOSITORY / "bench")
    for path in top.rglob("*")
    if path.suffix in {".py", ".c", ".h", ".S", ".sh"}
)


def name_of(path: Path) -> str:
    """As in `system/calls.py`."""
    return path.relative_to(PACKAGE).as_posix()


def folder_of(path: Path) -> str:
    """`system` for system/calls.py; `errors` for errors.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 9))


def is_pure(path: Path) -> bool:
    return folder_of(path) in PURE or name_of(path) in PURE


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, also in functions; `from lkm import x` as `lkm.x`."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            assert node.level == 0, f"{path}: relative import of {module}"
            yield from (f"lkm.{alias.name}" for alias in node.names) if module == "lkm" else (module,)


def names_in(path: Path) -> set[str]:
    """Every identifier of a file: imported, called, defined or an attribute."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.add(node.name.rpartition(".")[2])
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def test_a_file_imports_only_what_stands_before_it() -> None:
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in FILES
        for module in imports_of(path)
        if module.startswith("lkm.") and module.split(".")[1] not in may_import(folder_of(path))
    ]
    assert not wrong


def may_import(folder: str) -> set[str]:
    """The folders and leaves that a file of `folder` may import."""
    if folder == "__init__":
        return {"tree"}
    if folder == "__main__":
        return {"cli"}
    if folder in LEAVES:
        return {"errors"}
    return {folder, *GRAPH[folder], *LEAVES, "__version__"}


def test_the_graph_has_no_cycle() -> None:
    """Every folder comes after all that it may import, or the order would mean nothing."""
    order = list(GRAPH)
    for folder, others in GRAPH.items():
        assert all(order.index(other) < order.index(folder) for other in others)


def test_no_folder_is_without_its_place() -> None:
    assert {folder_of(path) for path in FILES} <= {*GRAPH, *LEAVES, "__init__", "__main__"}


def test_the_core_imports_the_standard_library_only() -> None:
    foreign = {
        (name_of(path), top)
        for path in FILES
        if folder_of(path) in CORE
        for top in (module.split(".")[0] for module in imports_of(path))
        if top != "lkm" and (top not in sys.stdlib_module_names or top in ZSTD)
    }
    signatures = {(name, "cryptography") for name in ("rescue/signing.py", "preflight/certificates.py")}
    assert foreign == {*(("formats/zstd.py", name) for name in ZSTD), *signatures}


@pytest.mark.parametrize("path", [path for path in FILES if is_pure(path)], ids=name_of)
def test_what_is_pure_asks_nobody(path: Path) -> None:
    """It opens nothing, starts nothing and knows no time: the bytes, or the snapshot, come from the caller."""
    effects = {module for module in imports_of(path) if module.split(".")[0] in EFFECTS}
    if name_of(path) == "formats/zstd.py":
        effects -= {"ctypes", "ctypes.util"}  # libzstd
    effects |= {module for module in imports_of(path) if module.startswith("lkm.system")}
    effects |= names_in(path) & {"open", "__import__", "import_module"}
    effects |= {
        text
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute)
        and (text := ast.unparse(node)).startswith("os.")
        and text not in OS_PURE
    }
    assert effects <= {"lkm.system.snapshot", "lkm.system.scanned"}


@pytest.mark.parametrize("name", MAY_LOAD)
def test_only_a_few_may_lead_code_into_the_kernel(name: str) -> None:
    found = {name_of(path) for path in FILES if name in names_in(path)}
    assert found <= MAY_LOAD[name]
    assert "rescue/execute.py" in found


def test_only_the_command_line_prints_and_exits() -> None:
    wrong = [
        f"{name_of(path)}:{node.lineno}: {ast.unparse(node)}"
        for path in FILES
        if folder_of(path) != "cli" and name_of(path) not in MAY_EXIT
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "input", "exit", "sys.exit"})
        or (isinstance(node, ast.Attribute) and ast.unparse(node) in {"sys.stdout", "sys.stderr"})
        or (isinstance(node, ast.Name) and node.id == "SystemExit")
    ]
    assert not wrong


def test_files_are_short() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE} == {}


def test_functions_are_short() -> None:
    long = [
        f"{name_of(path)}: {node.name}"
        for path in FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION
    ]
    assert not long


def test_every_module_says_what_it_is() -> None:
    silent = [name_of(path) for path in FILES if not ast.get_docstring(tree_of(path))]
    assert not silent


def test_nothing_happens_at_import() -> None:
    """Definitions, constants and imports; what a module does, its functions do."""
    busy = [
        f"{name_of(path)}:{node.lineno}"
        for path in FILES
        for node in tree_of(path).body
        if isinstance(node, (ast.For, ast.While, ast.With))
        or (isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant))
    ]
    assert not busy


def test_every_file_names_its_licence() -> None:
    """What runs in a kernel is under the GPL, all else under MIT. An empty file needs none."""
    wrong = []
    for path in CODE_FILES:
        head = path.read_text(encoding="utf-8").splitlines()[:2]
        if head and not any(f"SPDX-License-Identifier: {licence_of(path)}" in line for line in head):
            wrong.append(path.relative_to(REPOSITORY).as_posix())
    assert not wrong


def licence_of(path: Path) -> str:
    in_a_kernel = path.suffix in {".c", ".h", ".S"} or path.parent == PACKAGE / "rescue/helper"
    elsewhere = {"rebuild.py", "fake.c"}  # the one is a tool, the other is preloaded by tests
    return "GPL-2.0-or-later" if in_a_kernel and path.name not in elsewhere else "MIT"


def test_the_core_is_written_in_python_3_9() -> None:
    """vermin knows in which release each feature came. compression.zstd (3.14) is tried, and done without."""
    paths = [str(path) for path in FILES if folder_of(path) in CORE | {"cli"}]
    command = [f"{sys.prefix}/bin/vermin", "--no-tips", "-t=3.9-", "--violations"]
    excluded = ["--exclude", "compression", "--exclude", "compression.zstd"]
    done = subprocess.run([*command, *excluded, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def old_python() -> str:
    """The oldest Python at hand that lkm is made for: 3.9 if it is here, else this one."""
    for name in ("python3.9", "python3.10"):
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    return sys.executable


def test_every_module_of_the_core_imports_without_third_party_packages() -> None:
    modules = [
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if folder_of(path) in CORE | {"cli"}
    ]
    script = f"import sys, importlib\nsys.path.insert(0, {str(SOURCE)!r})\n"
    script += f"for name in {modules!r}: importlib.import_module(name)\n"
    done = subprocess.run(
        [old_python(), "-I", "-S", "-B", "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def modules_after(script: str, *arguments: str) -> set[str]:
    """What is imported when `script` has run in a fresh interpreter, beyond what an empty one imports."""
    # -S: the editable install of the venv imports much at start, an installed lkm does not.
    prologue = f"import sys; start = set(sys.modules); sys.path.insert(0, {str(SOURCE)!r})"
    epilogue = "print(*(set(sys.modules) - start), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{prologue}\n{script}\n{epilogue}", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def test_import_lkm_imports_nothing_else() -> None:
    assert modules_after("import lkm") == {"lkm"}


def test_list_imports_nothing_heavy(tmp_path: Path) -> None:
    make_tree(tmp_path)
    script = "from lkm.cli.main import run\nassert run(['list', '--root', sys.argv[1]]) == 0"
    loaded = modules_after(script, str(tmp_path))
    assert "lkm.system.module_list" in loaded
    assert not loaded & HEAVY_FOR_LIST


def make_tree(top: Path) -> None:
    """A /proc and a /sys with one loaded module."""
    (top / "proc").mkdir()
    (top / "proc/modules").write_text("dummy 16384 0 - Live 0xffffffffc0000000\n", encoding="utf-8")
    folder = top / "sys/module/dummy"
    (folder / "holders").mkdir(parents=True)
    for name, text in {"initstate": "live\n", "refcnt": "0\n", "coresize": "16384\n", "taint": "\n"}.items():
        (folder / name).write_text(text, encoding="utf-8")
