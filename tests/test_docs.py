"""What the documents say has to be so: commands exist, tests that are named exist, shown output has been seen."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import typer

from bsmtp_batch.cli.app import COMMANDS, build

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FROM_FILE = re.compile(r"^<!-- from (\S+?)(?:, (\w[^\n]*))? -->\n```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


def maker(name):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(group=None, path=()):
    for name, command in (group or typer.main.get_command(build(list(COMMANDS)))).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def title(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    """What the headings of a page can be linked as."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda v: v if isinstance(v, str) else "")
def test_help_says_what_the_exit_codes_mean_and_gives_an_example(name, command):
    assert command.help, name
    assert re.search(r"Exit codes:\n\n +0  \w", command.epilog)
    example = command.epilog.rpartition("Example:")[2]
    assert "bsmtp-batch " + name.split()[0] in example
    for parameter in command.params:
        assert parameter.help or parameter.hidden, f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_is_in_the_documents(name):
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/OPERATING.md"))

    assert re.search(rf"\b{name}\b", text), f"{name} stands neither in README.md nor in docs/OPERATING.md"


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_commands_and_flags_in_the_documents_exist(page):
    known = {
        name: {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--help"}
        for name, command in commands()
    }
    for line in command_lines(page.read_text(encoding="utf-8")):
        words = line.split()
        name = " ".join(words[:2]) if words[0] in {"route", "account"} else words[0]
        assert name in known, f"{title(page)}: there is no command {line!r}"
        flags = {w.partition("=")[0] for w in words if re.fullmatch(r"--\w[\w-]*(=.*)?", w)}
        assert flags <= known[name], f"{title(page)}: {line!r}"


def command_lines(text):
    """What stands behind ``bsmtp-batch`` in blocks (but those of mail servers) and in code spans, a command each."""
    blocks = [block for _, block in FENCE.findall(FROM_FILE.sub("", text))]
    spans = re.findall(r"`(bsmtp-batch [^`]+)`", FENCE.sub("", text))
    for line in [line for block in blocks for line in block.splitlines()] + spans:
        yield from re.findall(r"(?:^|[\s/;&(])bsmtp-batch ((?:[a-z]+)\b[^|;&#]*)", line)


# --- what they name is there ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_lead_somewhere(page):
    for text, target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{title(page)}: [{text}] leads to {target}, which is not there"
        if anchor:
            assert anchor in anchors(there), f"{title(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_promises_are_linked_to_tests_that_exist(page):
    for name, target in re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        file = page.parent / target
        assert re.search(rf"^\s*def {name}\b", file.read_text(encoding="utf-8"), re.MULTILINE), f"{name} in {target}"


def test_every_promise_has_a_test():
    promises = (ROOT / "docs" / "GUARANTEES.md").read_text(encoding="utf-8").split("\n## ")[1:]

    assert len(promises) >= 7
    assert [p.splitlines()[0] for p in promises if not re.search(r"\[`test_\w+`\]", p)] == []


def test_lines_shown_from_a_contributed_file_are_in_it():
    found = [(page, *one) for page in PAGES for one in FROM_FILE.findall(page.read_text(encoding="utf-8"))]

    assert {name for _, name, _, _ in found} >= {
        f"contrib/{n}" for n in ("postfix-master.cf", "sendmail.mc", "exim.conf", "cron/bsmtp-batch-hub")
    }
    for page, name, how, block in found:
        text = part_of((ROOT / name).read_text(encoding="utf-8"), how)
        assert block in text, f"{title(page)} does not show what is in {name}; it has:\n{text}"


def part_of(text, how):
    """The lines of a contributed file that a page shows: all of them, those that a user has to uncomment, ..."""
    if not how:
        return text
    if how == "without comments":
        return "".join(line for line in text.splitlines(keepends=True) if line.strip() and line.strip()[0] != "#")
    prefix = how.removeprefix("lines with ")
    return "".join(re.findall(rf"^{prefix} *(.*\n)", text, re.MULTILINE))


def test_the_two_commands_of_the_readme_are_those_of_the_script():
    script = (ROOT / "run").read_text(encoding="utf-8")

    for word in re.findall(r"\./run (\w+)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert f"\n{word})\n" in script


# --- what is made from the code is fresh ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["make_config", "make_man"])
def test_pages_made_from_the_code_are_fresh(name):
    for path, text in maker(name).pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: run docs/refresh.py"


def test_the_demo_in_the_readme_is_what_the_demo_prints():
    make_demo = maker("make_demo")
    shown = make_demo.README.read_text(encoding="utf-8").split(make_demo.BEGIN)[1].split(make_demo.END)[0]

    assert make_demo.settled(make_demo.block()) == make_demo.settled(shown), "README.md is old: run docs/refresh.py"


def test_every_setting_is_described():
    page = (ROOT / "docs" / "CONFIG.md").read_text(encoding="utf-8")

    for _, _, model in maker("make_config").SECTIONS:
        for name, field in model.model_fields.items():
            assert field.description, name
            assert f"| `{name}` |" in page
