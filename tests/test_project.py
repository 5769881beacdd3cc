"""What the files promise each other."""

import re
import subprocess

from cloud import TOP


def test_the_script_s_own_package_block_names_the_packages_of_requirements_txt():
    block = re.search(r"^# /// script\n(.*?)^# ///$", (TOP / "chargeto.py").read_text(), re.M | re.S)
    assert block
    dependencies = re.search(r"dependencies = \[(.*?)\]", block[1], re.S)
    assert dependencies
    packages = sorted(re.findall(r'"([^"]+)"', dependencies[1]))
    assert packages == sorted((TOP / "requirements.txt").read_text().split())
    assert [re.split("[=<>]", package)[0] for package in packages] == ["python-dateutil", "pytz", "pyze"]
    assert '# requires-python = ">=3.8"\n' in block[0]


def test_every_variable_the_script_reads_is_in_the_example_and_the_readme():
    script = (TOP / "chargeto.py").read_text()
    names = set(re.findall(r'"([A-Z]+_[A-Z_]+)"', script.split("# ----", 3)[2])) - {"KAMERON_ACCOUNT_ID"}
    names -= {"KAMEREON_APIKEY", "GIGYA_KEY_EU"}  # where renault-api has the keys
    assert len(names) >= 9
    for text in ((TOP / ".env.example").read_text(), (TOP / "README.md").read_text(), script.split('"""')[1]):
        assert {name for name in names if name not in text} == set()


def test_every_option_is_in_the_help_and_the_readme():
    script = (TOP / "chargeto.py").read_text()
    options = set(re.findall(r'"(--[a-z-]+)"', script))
    assert {"--once", "--dry-run", "--restore", "--demo", "--model"} < options
    for text in ((TOP / "README.md").read_text(), script.split('"""')[1]):
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
