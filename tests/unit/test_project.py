# SPDX-License-Identifier: MIT
"""What is written about lkm is true of it: README, manual, man page, Makefile, change log, against the code."""

from __future__ import annotations

import argparse
import ast
import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import lkm
from lkm.cli.kmod.main import TOOLS
from lkm.cli.main import COMMANDS, EXIT_CODES, run
from lkm.diagnosis.findings import Certainty, FindingCode, Verdict
from lkm.errors import KernelCallError, LabError, LkmError, NeedsRoot, ParseError, Refused, UsageError
from lkm.lab.process import PACKAGES
from lkm.lab.series import SERIES
from lkm.rescue.result import Outcome

REPOSITORY = Path(__file__).parents[2]
ACTIONS = ["demo", "run", "shell", "kernels", "build"]
"""Of `lkm lab`."""

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{p.name}" for p in
             sorted((REPOSITORY / "docs").glob("*.md")))]  # fmt: skip


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """A markdown section, from its heading to the next of the same level or above; empty if there is none."""
    level = heading.split(" ", maxsplit=1)[0]
    match = re.search(
        rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.DOTALL | re.MULTILINE
    )
    return match.group(1) if match else ""


def man_section(command: str) -> str:
    """The part of the man page about one command, with `\\-` as `-`."""
    page = text_of("man/lkm.8").replace("\\-", "-")
    match = re.search(rf"^\.SS lkm {command}$(.*?)(?=^\.S[SH] )", page, re.DOTALL | re.MULTILINE)
    return match.group(1) if match else ""


def parsers_of(command: str) -> list[argparse.ArgumentParser]:
    """The parser of a command, and those of its actions (`lkm lab run`)."""
    parser = argparse.ArgumentParser(prog=f"lkm {command}", allow_abbrev=False)
    import_module(COMMANDS[command].module).configure(parser)
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += action.choices.values()
    if command == "lab":
        demo = argparse.ArgumentParser(prog="lkm lab demo")
        import_module("lkm.cli.lab_demo").configure(demo)
        found.append(demo)
    return found


def options_of(command: str) -> set[str]:
    """The long options of a command and of its actions."""
    return {
        option
        for parser in parsers_of(command)
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert f"usage: lkm {command}" in capsys.readouterr().out


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_of_the_lab_has_its_help(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", action, "--help"]) == 0
    assert f"usage: lkm lab {action}" in capsys.readouterr().out


def test_the_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    overview = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\S", overview, re.MULTILINE) for name in [*COMMANDS, *TOOLS])


@pytest.mark.parametrize(
    "argv", [[], ["no-such-command"], ["list", "--no-such-option"], ["why"], ["lab", "no-such-action"]]
)
def test_wrong_usage_is_2(argv: list[str]) -> None:
    assert run(argv) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_the_manual_has_every_command_with_its_options(command: str) -> None:
    text = section(text_of("docs/manual.md"), f"## lkm {command}")
    assert text, f"docs/manual.md has no section on lkm {command}"
    assert "Exit codes" in text
    assert {option for option in options_of(command) if option not in text} == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_man_page_has_every_command_with_its_options(command: str) -> None:
    text = man_section(command)
    assert text, f"man/lkm.8 has no section on lkm {command}"
    options = options_of(command) - {"--json"}  # told once, for all
    assert {option for option in options if option not in text} == set()


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"lab"}))
def test_both_synopses_show_every_option_and_no_other(command: str) -> None:
    page = text_of("man/lkm.8").replace("\\-", "-")
    blocks = re.split(r"^\.(?:br|SH .*)\n", page, flags=re.MULTILINE)
    in_page = "".join(block for block in blocks if re.match(rf"\.B lkm {command}\b", block))
    manual = section(text_of("docs/manual.md"), f"## lkm {command}")
    in_manual = re.split(r"\n\n(?=\S)", manual, maxsplit=1)[0]
    for text in (in_page, in_manual):
        shown = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))
        actions = [
            action.option_strings for action in parsers_of(command)[0]._actions if action.dest != "help"
        ]
        assert [names for names in actions if names and not shown & set(names)] == []
        assert shown <= {name for names in actions for name in names}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_manual_documents_no_option_that_is_not_there(command: str) -> None:
    table = re.findall(
        r"^\| `(--[a-z-]+|-o)", section(text_of("docs/manual.md"), f"## lkm {command}"), re.MULTILINE
    )
    assert set(table) - {"-o"} <= options_of(command)


@pytest.mark.parametrize("name", [*DOCUMENTS, "src/lkm/lab/faults/README.md"])
def test_documents_name_only_commands_that_are_there(name: str) -> None:
    assert set(re.findall(r"`lkm ([a-z-]+)", text_of(name))) <= {*COMMANDS, *TOOLS}


def options_of_tool(tool: str) -> set[str]:
    """Its long options, without those that all classic tools have."""
    module = import_module(TOOLS[tool][0])
    return {f"--{name.rstrip('=')}" for name in {**module.LONG, **module.OWN}} - {
        "--syslog", "--verbose", "--version", "--help",
    }  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
def test_the_document_on_the_classic_tools_has_each_with_its_options(tool: str) -> None:
    text = section(text_of("docs/classic.md"), f"## {tool}")
    assert text, f"docs/classic.md has no section on {tool}"
    assert {option for option in options_of_tool(tool) if option not in text} == set()
    assert set(re.findall(r"`(--[a-z-]+)", text)) <= options_of_tool(tool)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_man_page_has_every_classic_tool_with_the_options_that_the_original_lacks(tool: str) -> None:
    text = man_section(tool)
    assert text, f"man/lkm.8 has no section on lkm {tool}"
    own = import_module(TOOLS[tool][0]).OWN
    assert {name for name in own if name != "json" and f"--{name.rstrip('=')}" not in text} == set()


def strings_of(path: Path) -> Iterator[str]:
    """The strings of a source file, docstrings left out; what an f-string fills in is called NAME."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    passed_over: set[ast.AST] = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            passed_over.update(node.values)
            values = (part.value if isinstance(part, ast.Constant) else "NAME" for part in node.values)
            yield "".join(map(str, values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in passed_over:
            yield node.value


SOURCES = sorted((REPOSITORY / "src/lkm").rglob("*.py"))
PROSE = {"at", "reads"}
"""What follows where lkm is spoken of ("see lkm at work") and not called."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_a_message_names_only_commands_and_options_that_are_there(path: Path) -> None:
    """A remedy that cannot be typed is none."""
    for text in strings_of(path):
        for command, rest in re.findall(r"\blkm ([a-z]+)((?: (?:--[a-z-]+|[a-z]+|[A-Z]+))*)", text):
            if command in PROSE or command in TOOLS:
                continue
            assert command in COMMANDS, text
            assert set(re.findall(r"--[a-z][a-z-]+", rest)) <= options_of(command), text
            if command == "lab":
                assert set(re.findall(r"^ ([a-z]+)", rest)) <= set(ACTIONS), text


def test_readme_and_contributing_name_only_targets_that_are_there() -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        used = re.findall(r"(?:^    |`)make ([a-z-]+)", text_of(name), re.MULTILINE)
        assert used
        assert set(used) <= targets()


def test_readme_leads_with_the_two_commands() -> None:
    text = text_of("README.md")
    assert text.index("make demo") < text.index("make test") < text.index("## ")


def test_the_session_in_readme_is_of_commands_that_are_there() -> None:
    commands = re.findall(r"^    # lkm ([a-z]+)", text_of("README.md"), re.MULTILINE)
    assert "rescue" in commands
    assert set(commands) <= set(COMMANDS)


def test_exit_codes_are_the_same_everywhere() -> None:
    documented = dict(re.findall(r"^  (\d)  (.*)$", EXIT_CODES, re.MULTILINE))
    assert set(documented) == set("01234")
    for name in ("README.md", "docs/manual.md"):
        rows = dict(re.findall(r"^\| (\d) \| (.*) \|$", text_of(name), re.MULTILINE))
        assert {code: row.replace("`", "") for code, row in rows.items()} == documented
    page = text_of("man/lkm.8")
    status = page[page.index(".SH EXIT STATUS") : page.index(".SH FILES")]
    assert set(re.findall(r"^\.B (\d)$", status, re.MULTILINE)) == set(documented)


def test_errors_end_with_the_documented_codes() -> None:
    codes = {
        UsageError: 2,
        Refused: 3,
        NeedsRoot: 4,
        ParseError: 1,
        KernelCallError: 1,
        LabError: 1,
        LkmError: 1,
    }
    assert {error: error.exit_code for error in codes} == codes


@pytest.mark.parametrize("code", FindingCode)
def test_the_manual_has_every_finding(code: FindingCode) -> None:
    assert f"| `{code.value}` |" in section(text_of("docs/manual.md"), "## Findings")


@pytest.mark.parametrize("verdict", Verdict)
def test_the_manual_and_the_man_page_have_every_verdict(verdict: Verdict) -> None:
    assert f"| `{verdict.value}` |" in section(text_of("docs/manual.md"), "## Verdicts")
    assert f".B {verdict.value}\n" in text_of("man/lkm.8")
    assert f"`{verdict.value}`" in text_of("README.md")


def test_the_manual_has_every_outcome_and_certainty() -> None:
    manual = text_of("docs/manual.md")
    assert all(f"| `{outcome.value}` |" in section(manual, "## lkm rescue") for outcome in Outcome)
    assert all(f"`{certainty.value}`" in section(manual, "## lkm why") for certainty in Certainty)


def test_the_manual_names_every_schema() -> None:
    manual = text_of("docs/manual.md")
    modules = [import_module(command.module) for command in COMMANDS.values()]
    schemas = {getattr(module, "SCHEMA", "") for module in modules} - {""}
    assert schemas
    classic = text_of("docs/classic.md")
    own = {getattr(import_module(module), "SCHEMA", "") for module, _summary in TOOLS.values()} - {""}
    assert {schema for schema in own if f"`{schema}`" not in classic} == set()
    assert {schema for schema in schemas if f"`{schema}`" not in manual} == set()


def test_the_lab_document_has_every_kernel_and_every_faulty_module() -> None:
    document = text_of("docs/lab.md")
    assert all(f"| {series.name} |" in document for series in SERIES)
    faults = {path.stem for path in (REPOSITORY / "src/lkm/lab/faults").glob("*.c")}
    assert set(re.findall(r"^\| `([a-z0-9_-]+)` \|", document, re.MULTILINE)) == faults


def test_setup_installs_every_package_that_the_lab_runs() -> None:
    match = re.search(r"^PACKAGES := (.*?[^\\])$", text_of("Makefile"), re.DOTALL | re.MULTILINE)
    assert match
    installed = set(match.group(1).replace("\\\n", " ").split())
    assert set(PACKAGES.values()) | {series.compiler for series in SERIES} <= installed


def test_every_third_party_library_is_justified() -> None:
    text = text_of("pyproject.toml")
    extras = text[text.index("[project.optional-dependencies]") : text.index("[project.scripts]")]
    names = set(re.findall(r'"([a-zA-Z.-]+)[>=]', extras))
    assert "pytest" in names
    assert {name for name in names if f"| {name} |" not in text_of("CONTRIBUTING.md")} == set()


def test_the_version_is_the_same_everywhere() -> None:
    assert f'version = "{lkm.__version__}"' in text_of("pyproject.toml")
    assert f"## [{lkm.__version__}]" in text_of("CHANGELOG.md")
    assert f'"lkm {lkm.__version__}"' in text_of("man/lkm.8")


def test_the_licence_names_every_folder_that_is_under_the_gpl() -> None:
    sources = {
        path.parent
        for top in ("src", "bench")
        for path in (REPOSITORY / top).rglob("*")
        if path.suffix in {".c", ".S"}
    }
    assert sources
    licence = text_of("LICENSE")
    assert {folder for folder in sources if f"{folder.relative_to(REPOSITORY)}/ " not in licence} == set()
    assert all((REPOSITORY / name).exists() for name in re.findall(r"LICENSES/[\w.-]+\.txt", licence))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    folder = (REPOSITORY / name).parent
    for target in re.findall(r"\]\(([^)]+)\)", text_of(name)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = folder / path if path else REPOSITORY / name
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target


def test_ci_runs_what_a_developer_runs() -> None:
    script = text_of(".ci/run")
    assert os.access(REPOSITORY / ".ci/run", os.X_OK)
    assert script.startswith("#!/usr/bin/env bash")
    assert "set -euo pipefail" in script
    assert "make test" in script


def test_hooks_are_local() -> None:
    """They run what .venv has, so a commit needs no network, and hook and `make lint` agree."""
    repositories = re.findall(r"^ *- repo: (.*)$", text_of(".pre-commit-config.yaml"), re.MULTILINE)
    assert repositories == ["local"]


def test_no_name_of_a_test_is_made_of_bytes(request: pytest.FixtureRequest) -> None:
    """They may hold the time, as a gzip file does: workers that collect other names run nothing."""
    calls = [item.callspec for item in request.session.items if hasattr(item, "callspec")]
    for call in calls:
        for value in call.params.values():
            if isinstance(value, bytes) and len(value) > 4:
                assert repr(value[:5])[2:-1] not in call.id
