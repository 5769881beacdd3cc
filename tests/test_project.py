"""What the files promise each other, and the budgets of the script: what one reads in one sitting."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest
from cloud import TOP, chargeto

SCRIPT = (TOP / "chargeto.py").read_text()
README = (TOP / "README.md").read_text()
NODES = list(ast.walk(ast.parse(SCRIPT)))
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def test_the_script_s_own_package_block_names_the_packages_of_requirements_txt():
    block = re.search(r"^# /// script\n(.*?)^# ///$", SCRIPT, re.M | re.S)
    assert block
    dependencies = re.search(r"dependencies = \[(.*?)\]", block[1], re.S)
    assert dependencies
    packages = sorted(re.findall(r'"([^"]+)"', dependencies[1]))
    assert packages == sorted((TOP / "requirements.txt").read_text().split())
    assert [re.split("[=<>]", package)[0] for package in packages] == ["python-dateutil", "pytz", "pyze"]
    assert '# requires-python = ">=3.8"\n' in block[0]


def test_every_variable_the_script_reads_is_in_the_help_the_example_and_the_readme():
    names = {*chargeto.VARIABLES, "VEHICLE_TZ"} - {"KAMERON_ACCOUNT_ID"}  # the spec's spelling
    assert len(names) >= 11
    for text in ((TOP / ".env.example").read_text(), README, chargeto.__doc__):
        assert {name for name in names if name not in text} == set()


def test_every_option_is_in_the_help_and_the_readme():
    options = set(re.findall(r'"(--[a-z-]+)"', SCRIPT))
    assert options == {"--once", "--dry-run", "--restore", "--demo", "--help", "--version"}
    for text in (README, SCRIPT.split('"""')[1]):
        assert {option for option in options if option not in text} == set()


def test_the_example_is_read_alike_by_a_shell_systemd_and_docker(tmp_path):
    lines = [line for line in (TOP / ".env.example").read_text().splitlines() if line and not line.startswith("# ")]
    plain = dict(line.lstrip("#").split("=", 1) for line in lines)
    (tmp_path / ".env").write_text("\n".join(line.lstrip("#") for line in lines) + "\n")
    done = subprocess.run(
        ["sh", "-c", "set -a; . ./.env; set +a; env"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True, env={}
    )
    docker = [line for line in (TOP / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    assert docker == ["MAX_CHARGE_THRESHOLD=85", "ALWAYS_CHARGE_AT_THRESHOLD=65", "PREDICT_STOP=0"]  # read as they stand
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert {name: seen.get(name) for name in plain} == plain
    assert all(re.fullmatch(r"[^\s\"'\\$`]*", value) for value in plain.values())


def test_the_top_level_holds_what_it_should():
    listed = subprocess.run(["git", "ls-files"], cwd=TOP, stdout=subprocess.PIPE, text=True, check=False).stdout.split()
    names = {path.split("/")[0] for path in listed} or {path.name for path in TOP.iterdir() if path.name[0] != "."}
    allowed = {"chargeto.py", "README.md", "requirements.txt", "tests", ".env.example", ".ci", ".gitignore"}
    assert names - {"__pycache__"} == allowed - ({".env.example", ".ci", ".gitignore"} if not listed else set())


# ---- the budgets


def lines_of(nodes):
    return sorted(node.lineno for node in nodes)


def within(kinds):
    """The nodes of these kinds that stand inside another of them."""
    outer = [node for node in NODES if isinstance(node, kinds)]
    return [inner for node in outer for inner in ast.walk(node) if inner is not node and isinstance(inner, kinds)]


@pytest.mark.parametrize(("text", "most"), [pytest.param(SCRIPT, 1240, id="chargeto.py"), pytest.param(README, 250, id="README.md")])
def test_a_file_is_read_in_one_sitting(text, most):
    assert len(text.splitlines()) <= most


def test_the_script_has_at_most_910_statements():
    assert sum(isinstance(node, ast.stmt) for node in NODES) <= 910


def test_a_line_holds_120_characters_at_most():
    assert [number for number, line in enumerate(SCRIPT.splitlines(), 1) if len(line) > 120] == []


def test_no_function_is_too_complex_or_too_long_and_a_line_holds_one_statement():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--ignore-noqa", "--output-format", "concise", "--select",
         "C901,PLR0915,E701,E702,E703", "--config", "lint.mccabe.max-complexity=10", "--config", "lint.pylint.max-statements=40",
         str(TOP / "chargeto.py")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_conditions_are_written_as_conditions():
    assert lines_of(within(ast.IfExp)) == []
    assert lines_of(within(COMPREHENSIONS)) == []
    products = [node for node in NODES if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)]
    texts = [
        node for node in products for side in (node.left, node.right)
        if isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
    ]  # fmt: skip
    assert lines_of(texts) == []  # no text times a flag
