"""What stands around the code says what is: citation, hooks, templates, links, Pythons."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def read(name):
    return (ROOT / name).read_text("utf-8")


def test_the_citation_is_of_this_version():
    found = yaml.safe_load(read("CITATION.cff"))
    [version] = re.findall(r'^version = "(.*)"$', read("pyproject.toml"), re.M)
    assert found["version"] == version and found["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= found.keys()


def test_the_head_of_the_changelog_is_this_version():
    [version] = re.findall(r'^version = "(.*)"$', read("pyproject.toml"), re.M)
    heads = re.findall(r"^## (\S+)", read("CHANGELOG.md"), re.M)
    assert heads[0] == version and heads == sorted(heads, key=lambda head: [*map(int, head.split("."))], reverse=True)


def test_the_contributors_page_says_what_publishing_lacks():
    """What the publisher fills in is told until it is there, and no longer."""
    project = read("pyproject.toml")
    lacking = {
        "`PublisherId`": 'PublisherId = ""' in project,
        "`[project.urls] Repository`": not re.search(r"^(\[project\.urls\]|urls = )", project, re.M),
    }
    told = read("CONTRIBUTING.md")
    assert {words: words in told for words in lacking} == lacking


def test_hooks_before_a_commit_fetch_nothing_and_call_what_there_is():
    [repository] = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    scripts = [word for hook in repository["hooks"] for word in hook["entry"].split() if word.endswith(".py")]
    assert [script for script in scripts if not (ROOT / script).exists()] == []


@pytest.mark.parametrize("name", ["wrong.md", "add.md"])
def test_a_template_has_its_head(name):
    _, head, body = read(f".github/ISSUE_TEMPLATE/{name}").split("---\n", 2)
    assert {"name", "about", "labels"} == yaml.safe_load(head).keys() and "**" in body


def test_every_supported_python_is_tried():
    [least] = re.findall(r'requires-python = ">=3\.(\d+)"', read("pyproject.toml"))
    jobs = yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"]
    for name in ("core", "gradients"):
        tried = [int(python.split(".")[1]) for python in jobs[name]["strategy"]["matrix"]["python"]]
        assert tried == [*range(int(least), 14)]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "ARCHITECTURE.md", "nodes/host/touched.md"])
def test_what_is_linked_exists(page):
    links = re.findall(r"\]\(([^)#\s]+)\)", read(page))
    assert [link for link in links if "://" not in link and not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_contributors_page_names_targets_of_the_makefile():
    targets = {*re.findall(r"^([\w-]+):", read("Makefile"), re.M)}
    assert {*re.findall(r"make ([\w-]+)", read("CONTRIBUTING.md"))} - targets == set()


EXPECTING = {"raises", "warns", "fail", "expect"}


def calls(node, modules):
    """The names of what a function calls, without those of ``modules``, and whether it asserts something itself."""
    parts = list(ast.walk(node))
    functions = [part.func for part in parts if isinstance(part, ast.Call)]
    names = {getattr(function, "attr", getattr(function, "id", "")) for function in functions}
    others = {f.attr for f in functions if isinstance(f, ast.Attribute) and getattr(f.value, "id", "") in modules}
    asserts = any(isinstance(part, ast.Assert) for part in parts) or any(name.startswith("assert_") for name in names)
    return names - others, asserts or bool(names & EXPECTING)


def functions_of(file, text):
    """Each function of a file: the file, its name, what it calls, and whether it asserts something itself."""
    nodes = list(ast.walk(ast.parse(text)))
    modules = {name.asname or name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return [(file, node.name, *calls(node, modules)) for node in nodes if isinstance(node, ast.FunctionDef)]


def without_a_word(sources):
    """Tests that expect nothing, themselves or in a function of the tests that they call."""
    functions = [found for file, text in sources.items() for found in functions_of(file, text)]
    helpers = {name for _, name, _, asserts in functions if asserts and not name.startswith("test_")}
    return [
        f"{file}: {name}"
        for file, name, called, asserts in functions
        if name.startswith("test_") and not asserts and not called & helpers
    ]


def test_every_test_says_what_it_expects():
    files = (ROOT / "tests").rglob("test_*.py")
    more = [*(ROOT / "tests").glob("*.py"), *(ROOT / "tests" / "web").glob("*.py")]
    sources = {str(file.relative_to(ROOT)): file.read_text("utf-8") for file in {*files, *more}}
    assert len(sources) > 200
    assert without_a_word(sources) == []


def test_a_test_that_expects_nothing_is_found():
    helper = "import subprocess\ndef close(a, b):\n    assert a == b\ndef run():\n    assert True\n"
    good = "def test_a():\n    close(1, 1)\ndef test_b():\n    with pytest.raises(ValueError):\n        work()\n"
    bad = 'def test_c():\n    """It asserts that all is well: assert."""\n    work()\n'
    other = "def test_d():\n    subprocess.run([])\n"
    assert without_a_word({"one.py": helper + good + bad + other}) == ["one.py: test_c", "one.py: test_d"]
