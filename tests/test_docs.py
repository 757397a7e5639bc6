"""The documentation says what is so: links, commands, options, code and figures."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from documentation import (
    BENCH_TABLES,
    PAGES,
    README,
    REPOSITORY,
    RESULTS,
    anchors,
    blocks,
    commands,
    inline_code,
    links,
    name,
    prose,
    table_rows,
)
from support import invented_articles

import studytag
from studytag.cli.main import main

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TUTORIAL = REPOSITORY / "docs" / "tutorial.md"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
SHELL = ("bash", "console")

OTHER_PROGRAMS = {".", "cat", "cp", "docker", "kubectl", "mkdir", "pre-commit", "test"}
"""Shown beside our own commands, and not checked."""


def of_pages(find):
    """Parameters: (page, item) for every item that `find` finds on a page."""
    items = [(page, item) for page in PAGES for item in find(page)]
    assert items
    return pytest.mark.parametrize(("page", "item"), items, ids=lambda part: str(part)[-60:])


# Links and paths


def test_the_readme_fits_on_a_few_screens():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page):
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_path_of_the_repository_exists(page):
    for code in inline_code(page):
        if re.fullmatch(r"(bench|train|infer|studytag|tests|\.ci)/[\w./-]*", code):
            assert (REPOSITORY / code).exists() or (page.parent / code).exists(), code


# Commands


class Parsed(Exception):
    """Raised in place of running a command, once its options are parsed."""


@pytest.fixture
def only_parsed(monkeypatch, tmp_path):
    """Commands end where their real parser has accepted their options."""
    (tmp_path / "my-recipe.yaml").write_text("learning_rate: 3.0e-5\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, args=None, namespace=None):
        parse(self, args, namespace)
        raise Parsed

    return lambda: monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)


def check_studytag(words, only_parsed):
    if words[:1] == ["train"]:  # reads options of the launcher, and passes the others on
        parser = argparse.ArgumentParser(allow_abbrev=False)
        parser.add_argument("--num-processes", type=int)
        parser.add_argument("--accelerate-config")
        check_training(parser.parse_known_args(words[1:])[1])
        return
    only_parsed()
    with pytest.raises((Parsed, SystemExit)) as ended:
        main(words)
    # --help and --version end with 0, a mistake with 2.
    assert getattr(ended.value, "code", 0) == 0, words


def check_training(words):
    from studytag.training.options import parse_config

    parse_config(words)


def check_accelerate(words):
    from accelerate.commands.launch import launch_command_parser

    assert words[0] == "launch"
    options = launch_command_parser().parse_args(words[1:])
    if options.config_file:
        assert (REPOSITORY / options.config_file).is_file()
    script = "studytag.cli.train" if options.module else "train"
    assert options.training_script == script
    check_training(options.training_script_args)


def check_python(words, only_parsed):
    if words[0] in ("infer", "export"):
        check_studytag([{"infer": "predict"}.get(words[0], words[0]), *words[1:]], only_parsed)
    elif words[0] != "-m":
        assert (REPOSITORY / words[0]).exists(), words


def check_pip(words):
    for word in words[1:]:
        if match := re.fullmatch(r"(?:\.|studytag)\[([\w,]+)\]", word):
            unknown = (
                set(match[1].split(",")) - PYPROJECT["project"]["optional-dependencies"].keys()
            )
            assert not unknown


def check_make(words):
    targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(words) <= set(targets)


def shell_commands(page):
    return [
        words
        for language in SHELL
        for block in blocks(page, language)
        for words in commands(block.text)
    ]


def test_every_make_target_named_exists():
    for page in PAGES:
        for code in inline_code(page):
            if code.startswith("make "):
                check_make(code.split()[1:])


@of_pages(shell_commands)
def test_every_command_is_accepted_by_its_parser(page, item, only_parsed):
    program, words = item[0], item[1:]
    if program == "studytag":
        check_studytag(words, only_parsed)
    elif program == "accelerate":
        check_accelerate(words)
    elif program == "python":
        check_python(words, only_parsed)
    elif program == "pip":
        check_pip(words)
    elif program == "make":
        check_make(words)
    else:
        assert program in OTHER_PROGRAMS


def printed(run, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run([*arguments, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def command_names(capsys):
    """The commands that `studytag --help` lists."""
    listed = printed(main, [], capsys).partition("COMMAND\n")[2]
    return set(re.findall(r"^ {4}(\w+)(?= |$)", listed, re.MULTILINE))


def test_every_option_named_is_one_of_a_command(capsys):
    from accelerate.commands.launch import launch_command_parser

    from studytag.training.options import parse_config

    data = (["data", part] for part in ("fetch", "build", "audit", "demo"))
    others = sorted(command_names(capsys) - {"data", "train"})
    helps = [
        launch_command_parser().format_help(),
        printed(parse_config, [], capsys),
        printed(main, [], capsys),
        *(printed(main, words, capsys) for words in (*data, *([word] for word in others))),
    ]
    options = {
        option.replace("-", "_") for text in helps for option in re.findall(r"--[\w-]+", text)
    }
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # names options that are gone
            continue
        ours = (code for code in inline_code(page) if re.match("--|studytag|accelerate", code))
        for option in (word for code in ours for word in re.findall(r"(?<!\S)--[a-z][\w-]*", code)):
            if option not in ("--kebab-case", "--snake_case"):
                assert option.replace("-", "_") in options, f"{name(page)}: {option}"


def test_the_reference_shows_every_command(capsys):
    shown = re.findall(r"\{program-output\} python -m studytag (\w+)", commands_page())
    assert set(shown) == command_names(capsys) != set()


def commands_page():
    return (REPOSITORY / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")


# Code


@pytest.fixture
def user_folder(tmp_path, monkeypatch, exported):
    """A user's working folder: a table, a model and a bundle where the pages have them."""
    (tmp_path / "artifacts" / "model").mkdir(parents=True)
    (tmp_path / "artifacts" / "bundle").symlink_to(exported.bundle)
    (tmp_path / "artifacts" / "model" / "best").symlink_to(exported.model)
    from studytag.files import open_writer

    (tmp_path / "records").mkdir()
    for file in ("articles.csv", "articles.parquet", "records/articles.csv"):
        with open_writer(tmp_path / file) as writer:
            for row in invented_articles(5):
                writer.write(row)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: name(page)
)
def test_python_examples_run(page, user_folder):
    """All blocks of a page run one after the other, as a reader would enter them."""
    names: dict = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        exec(compile(block.text, str(block), "exec"), names)


def test_rule_sets_shown_are_rule_sets(tmp_path):
    from studytag.data.rule_file import load_rules

    page = REPOSITORY / "docs" / "how-to" / "other-labels.md"
    shown = blocks(page, "yaml")
    assert shown
    for block in shown:
        path = tmp_path / "rules.yaml"
        path.write_text(block.text, encoding="utf-8")
        assert len(load_rules(path).labels) >= 2
    for block in blocks(page, "json"):
        assert json.loads(block.text)["labels"]


def run_in_shell(page, section, folder):
    """Run the commands of one section of a page, but for those that install."""
    text = page.read_text(encoding="utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    scripts = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    kept = [
        line
        for script in scripts
        for line in script.replace("\\\n", " ").splitlines()
        if not line.startswith("pip ")
    ]
    assert any(line.startswith("studytag ") for line in kept)
    # This very studytag, whichever one is installed.
    studytag_here = f'studytag() {{ "{sys.executable}" -m studytag "$@"; }}'
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join([studytag_here, *kept])],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        check=True,
    )


@pytest.mark.slow
def test_the_tutorial_tags_a_file(tmp_path):
    run_in_shell(TUTORIAL, "A first look", tmp_path)
    assert (tmp_path / "studytag-demo" / "tagged.html").is_file()
    run_in_shell(TUTORIAL, "Tag a file", tmp_path)
    tagged = (tmp_path / "tagged.csv").read_text(encoding="utf-8").splitlines()
    assert "studytag_labels" in tagged[0]
    assert len(tagged) > 50


@pytest.mark.slow
def test_the_tutorial_trains_a_tagger(tmp_path):
    run_in_shell(TUTORIAL, "Train your own", tmp_path)
    demo = tmp_path / "artifacts" / "demo"
    assert "studytag_labels" in (demo / "tagged.csv").read_text(encoding="utf-8")
    assert json.loads((demo / "scores.json").read_text(encoding="utf-8"))


# Figures


def figures(row):
    """The first words of the texts of a row, and its cells from the first figure on."""
    places = [place for place, cell in enumerate(row) if place and re.match(r"×?\d", cell)]
    if not places:
        return None
    words = {re.split(r"\W", cell)[0].lower() for cell in row[: places[0]] if cell}
    return words, row[places[0] :]


def quoted_rows(page):
    return list(filter(None, map(figures, table_rows(page))))


@pytest.fixture(scope="module")
def measured_rows():
    """Every row of the benchmarks' tables."""
    rows = [row for page in sorted(BENCH_TABLES.rglob("*.md")) for row in table_rows(page)]
    return list(filter(None, map(figures, rows)))


@pytest.mark.parametrize("page", [README, RESULTS], ids=name)
def test_every_row_of_figures_is_one_of_a_benchmark(page, measured_rows):
    rows = quoted_rows(page)
    assert len(rows) >= 10
    for words, cells in rows:
        assert any(
            words & other and cells == found[start : start + len(cells)]
            for other, found in measured_rows
            for start in range(len(found) - len(cells) + 1)
        ), f"{words} {cells}: not in bench/results"


DECIMAL = r"(?<![\w.])\d+\.\d+(?:e-\d+)?(?![\w.]*\d)"


def test_figures_in_sentences_are_those_of_a_benchmark():
    """As far as rounding goes; sections that quote other people's figures aside."""
    tables = [page.read_text(encoding="utf-8") for page in BENCH_TABLES.rglob("*.md")]
    measured = {
        float(figure) for text in tables for figure in re.findall(r"\d+\.?\d*(?:e-\d+)?", text)
    }
    # Settings, not measurements: thresholds, learning rates and versions.
    given = {"0.5", "0.98", "2.0", "3.10"}
    text = prose(RESULTS, ("Published taggers",)) + prose(README)
    for figure in set(re.findall(DECIMAL, text)) - given:
        places = len(figure.split("e")[0].split(".")[1])
        scale = float("1e" + figure.split("e")[1]) if "e" in figure else 1.0
        wanted = float(figure)
        nearest = min(measured, key=lambda value: abs(value - wanted))
        assert abs(nearest - wanted) <= 0.51 * scale * 10**-places, figure


def test_every_figure_of_the_readme_is_explained_in_the_results():
    results = RESULTS.read_text(encoding="utf-8")
    found = re.findall(DECIMAL, README.read_text(encoding="utf-8"))
    assert len(found) > 20
    assert {figure for figure in found if figure not in results} <= {"2.0", "3.10"}


# Project files


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == studytag.__version__
    assert "version" in PYPROJECT["project"]["dynamic"]
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{studytag.__version__}]" in changelog


def test_ci_runs_every_supported_python():
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text("utf-8"))
    jobs = workflow["jobs"]
    matrix = jobs["check"]["strategy"]["matrix"]["python"]
    (oldest,) = [
        step["with"]["python-version"] for step in jobs["oldest-python"]["steps"] if "with" in step
    ]
    supported = re.findall(r"Python :: (3\.\d+)", "\n".join(PYPROJECT["project"]["classifiers"]))
    assert [oldest, *matrix] == supported
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text("utf-8"))
    assert {hook["id"] for hook in hooks["repos"][0]["hooks"]} == {"ruff", "ruff-format", "mypy"}
