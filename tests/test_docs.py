"""What the documentation names exists, and both READMEs show the same."""
import argparse
import functools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from kws.__main__ import build_parser, main
from kws.model.folder import SHIPPED

ROOT = Path(__file__).parents[1]
READMES = ROOT / "README.md", ROOT / "README.ru.md"
PAGES = [*READMES, *sorted((ROOT / "docs").glob("*.md")), ROOT / "docs/samples/README.md", ROOT / "CONTRIBUTING.md",
         ROOT / "torchserve/README.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(page):
    """The code blocks of a page: language, text."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(page):
    """The command lines of a page, in blocks without a language and between backticks, without comments."""
    text = page.read_text(encoding="utf-8")
    shown = "".join(text for language, text in blocks(page) if not language).replace("\\\n", " ")
    lines = [*shown.splitlines(), *re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))]
    return [line.split(" # ")[0].split("  ")[0] for line in lines]


def anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@functools.cache
def subcommands():
    action, = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return action.choices


def name(page):
    return str(page.relative_to(ROOT))


def test_both_readmes_show_the_same_commands_and_outputs():
    english, russian = map(blocks, READMES)
    assert english and english == russian


@pytest.mark.parametrize("page", READMES, ids=name)
def test_a_readme_is_short(page):
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_nothing_stands_twice(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line.startswith("#") or len(line) > 80 and not line.startswith("|")]
    assert sorted(lines) == sorted(set(lines))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_local_links_lead_somewhere(page):
    for link in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if fragment:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert fragment in map(anchor, headings), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_their_options_exist(page):
    for line in commands(page):
        found = re.search(r"(?:^|\s)(?:python -m )?kws (.*)", line)
        if not found or not line.startswith(("kws ", "python -m kws ", "torchrun ", "rm ")):
            continue
        command, *arguments = shlex.split(found[1].split("&&")[0].split("|")[0])
        if command.startswith("-") or command.isupper():  # kws --version, kws COMMAND
            continue
        assert command in subcommands(), line
        known = subcommands()[command]._option_string_actions
        for argument in arguments:
            if argument.startswith("-"):
                assert argument.split("=")[0] in known, line


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_scripts_and_configurations_exist(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"\b(?:scripts|configs|docker|torchserve)/[\w./-]+\.\w+", text):
        assert "NAME" in path or (ROOT / path).exists(), path


def test_the_first_command_of_the_readme_answers_as_shown(capsys):
    shown = next(text for language, text in blocks(READMES[0]) if language == "text")
    assert main(["predict", str(ROOT / "docs/samples"), "--model", str(SHIPPED)]) == 0
    assert capsys.readouterr().out == shown


def test_what_the_readme_listens_to_is_heard_as_shown(capsys):
    text = READMES[0].read_text(encoding="utf-8")
    command, shown = re.search(r"```\nkws (listen .*)\n```\n\n```text\n(.*?)```", text, re.S).groups()
    assert main([*shlex.split(command), "--model", str(SHIPPED)]) == 0
    assert capsys.readouterr().out == shown


def test_the_manifest_for_several_machines_names_one_number_and_one_address():
    text = next(text for language, text in blocks(ROOT / "docs/several-machines.md")
                if language == "yaml" and "kind: Job" in text)
    service, job = yaml.safe_load_all(text)
    pod = job["spec"]["template"]["spec"]
    options = pod["containers"][0]["command"]
    chosen = dict(zip(options, options[1:]))
    assert int(chosen["--nnodes"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert chosen["--master-addr"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert pod["subdomain"] == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    command, *arguments = options[options.index("kws") + 1:]
    assert set(argument for argument in arguments if argument.startswith("-")) <= set(
        subcommands()[command]._option_string_actions)
