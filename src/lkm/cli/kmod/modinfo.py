# SPDX-License-Identifier: MIT
"""modinfo: what modules say of themselves, by file, name or alias.

Many files are read by as many processes as there are processors.
"""

from __future__ import annotations

import gc
import os
import stat
from errno import ENOENT
from marshal import dumps, loads

from lkm.cli.kmod import log
from lkm.cli.kmod.common import read_options
from lkm.cli.kmod.modinfo_text import Facts, as_object, render, render_head
from lkm.system.forked import processors, run_forked, split_by_weight
from lkm.tree.modinfo import ModinfoError, ModinfoReader, read_builtin_modinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lkm.cli.kmod.common import CommandLine
    from lkm.tree.tree import Tree

__all__ = ["HELP", "LONG", "OWN", "SCHEMA", "SHORT", "run"]

SCHEMA = "lkm.modinfo/1"
SHORT = "adlpn0mF:k:b:Vh"
LONG = {
    "author": "a",
    "description": "d",
    "license": "l",
    "parameters": "p",
    "filename": "n",
    "null": "0",
    "modname": "m",
    "field=": "F",
    "set-version=": "k",
    "basedir=": "b",
    "version": "V",
    "help": "h",
}
OWN = {"json": "json"}
HELP = f"""\
Usage:
	%s [options] NAME|ALIAS|FILE...
One field only:
	-F, --field=FIELD           this one, each value on a line of its own
	-a, --author                the same as -F author
	-d, --description           -F description
	-l, --license               -F license
	-p, --parameters            the parameters with their types
	-n, --filename              -F filename
Where and how:
	-m, --modname               an operand is a module's name, even where a file is called so
	-k, --set-version=VERSION   look in the modules of VERSION, not of `uname -r`
	-b, --basedir=DIR           use DIR as the root of /lib/modules
	-0, --null                  end each line by a NUL
	    --json                  one JSON object, schema {SCHEMA}
	-V, --version               print the version
	-h, --help                  print this help
"""

_FIELDS = {"a": "author", "d": "description", "l": "license", "p": "parm", "n": "filename"}
_SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")
_INVALID = "Found invalid \"%s\": missing ':'"
_WORTH_A_PROCESS = 4000  # microseconds of work: a fork takes one or two thousand


class _Job:
    """One module to tell of: `path` is "" for one that is built in. `error`: why there is none to tell of."""

    def __init__(self, name: str, path: str = "", *, size: int = 0, error: str = "") -> None:
        self.name, self.path, self.error = name, path, error
        self.cost = 30 if path.endswith(".ko") else 30 + size // 75  # microseconds; xz takes longest


def run(argv: list[str]) -> int:
    """Print what was asked for. 1: a module was not found, or could not be read."""
    line = read_options(argv, SHORT, LONG, OWN, usage=HELP)
    if line is None:
        return 0
    log.open_log(level=log.WARNING)
    if not line.operands:
        log.error("missing module or filename.")
        return 1
    finder = _Finder(line)
    jobs = [job for operand in line.operands for job in finder.find(operand)]
    teller = _Teller(line, finder.directory)
    costs = [job.cost for job in jobs]
    ranges = [(0, len(jobs))]
    if sum(costs) > _WORTH_A_PROCESS:
        ranges = split_by_weight(costs, processors())
    results = [loads(packed) for packed in run_forked(teller.tell, [jobs[i:j] for i, j in ranges])]
    for _, messages, _ in results:
        for level, text in messages:
            getattr(log, level)(text)
    if teller.as_json:
        import json

        modules = [module for found, _, _ in results for module in found]
        log.write(json.dumps({"schema": SCHEMA, "modules": modules}, indent=1) + "\n")
    else:
        for found, _, _ in results:
            log.write_bytes(found)
    return int(any(failed for _, _, failed in results))


class _Finder:
    """From operands to modules."""

    def __init__(self, line: CommandLine) -> None:
        self._by_name = line.has("m")
        release = line.value("k") or os.uname().release
        self.directory = _absolute(f"{line.value('b')}/lib/modules/{release}")
        self._release = release
        self._tree: Tree | None = None

    def find(self, operand: str) -> list[_Job]:
        """The modules that an operand means; one with an `error` if there are none."""
        if self._by_name:
            return self._find_name(operand)
        return self._find_file(operand) or self._find_alias(operand)

    def _find_file(self, operand: str) -> list[_Job]:
        if not operand.endswith(_SUFFIXES):
            return []
        try:
            status = os.stat(operand)
        except (OSError, ValueError):
            return []
        if not stat.S_ISREG(status.st_mode):
            return []
        return [_Job(_name_of(operand), _absolute(operand), size=status.st_size)]

    def _find_name(self, name: str) -> list[_Job]:
        tree = self._open_tree()
        if tree.is_name(name) and (tree.has(name) or tree.is_builtin(name)):
            return [self._job(name)]
        return [_Job(name, error=f"Module name {name} not found.")]

    def _find_alias(self, alias: str) -> list[_Job]:
        try:
            found = self._open_tree().lookup(alias)
        except ValueError:
            return [_Job(alias, error=f"Module alias {alias} not found.")]
        return [self._job(match.name) for match in found] or [_Job(alias, error=f"Module {alias} not found.")]

    def _job(self, name: str) -> _Job:
        path = self._open_tree().path(name)
        size = 0
        if path is not None and not path.endswith(".ko"):
            try:
                size = os.stat(path).st_size
            except OSError:
                size = 0
        return _Job(_normal(name), path or "", size=size)

    def _open_tree(self) -> Tree:
        """Without modprobe.d: what aliases are configured is no property of a module."""
        if self._tree is None:
            from lkm.tree.tree import Tree

            self._tree = Tree(release=self._release, directory=self.directory, config_paths=())
        return self._tree


class _Told:
    """What has been found out of some modules."""

    def __init__(self) -> None:
        self.text: list[bytes] = []
        self.objects: list[dict[str, object]] = []
        self.messages: list[tuple[str, str]] = []
        self.failed = False

    def fail(self, message: str) -> None:
        """A module that cannot be told of."""
        self.messages.append(("error", message))
        self.failed = True


class _Teller:
    """From modules to text, or objects, and messages; it runs in several processes."""

    def __init__(self, line: CommandLine, directory: str) -> None:
        fields = [
            value if key == "F" else _FIELDS[key]
            for key, value in line.options
            if key == "F" or key in _FIELDS
        ]
        self._field = os.fsencode(fields[-1]) if fields else None
        self._separator = b"\0" if line.has("0") else b"\n"
        self._directory = directory
        self._reader = ModinfoReader()
        self.as_json = line.has("json")

    def tell(self, jobs: list[_Job]) -> bytes:
        """What is to be printed of these modules, as marshal has it: output, messages, whether one failed."""
        told = _Told()
        gc.disable()  # bytes in lists make no circles, and to look for some takes a tenth of the time
        try:
            for job in jobs:
                self._tell_one(job, told)
        finally:
            gc.enable()
        return dumps((told.objects if self.as_json else b"".join(told.text), told.messages, told.failed))

    def _tell_one(self, job: _Job, told: _Told) -> None:
        if job.error:
            told.fail(job.error)
            return
        if self._field == b"filename" and not self.as_json:  # the file is not opened for that
            told.text.append(render_head(job.name, job.path, self._field, self._separator))
            return
        try:
            facts = self._facts(job)
        except ModinfoError as error:
            told.text.append(render_head(job.name, job.path, self._field, self._separator))
            told.fail(f"could not get modinfo from '{job.name}': {os.strerror(error.errno)}")
            told.messages.append(("note", str(error)))
            return
        if self.as_json:
            told.objects.append(as_object(facts))
        else:
            told.text.append(render(facts, self._field, self._separator))
        told.messages += [("error", _INVALID % os.fsdecode(entry)) for entry in facts.bad]

    def _facts(self, job: _Job) -> Facts:
        if job.path:
            entries, signer = self._reader.read(job.path)
            return Facts(job.name, job.path, entries, signer)
        try:
            entries = read_builtin_modinfo(self._directory, job.name, every=self.as_json)
            return Facts(job.name, "", entries, None)
        except ModinfoError as error:
            if error.errno != ENOENT:
                raise
            return Facts(job.name, "", [], None)  # a kernel before 5.2 does not come with that file


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"{os.getcwd()}/{path}"


def _normal(name: str) -> str:
    return name.replace("-", "_")


def _name_of(path: str) -> str:
    return _normal(path.rpartition("/")[2].partition(".")[0])
