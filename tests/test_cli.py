"""The original's command line: its options, its commands, its exit codes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from base_project import BaseProject
from command import command

from deepprofiler.cli import cli

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = [
    "--root", "--config", "--exp", "--gpu", "--cores", "--single-cells", "--metadata", "--strict",
    "--quiet", "--verbose", "--version", "--help",
]  # fmt: skip
COMMANDS = {
    "setup": [],
    "simulate": ["--seed"],
    "check": [],
    "prepare": [],
    "locate": ["--labels"],
    "export-sc": [],
    "layers": [],
    "train": ["--epoch", "--seed"],
    "profile": ["--part"],
    "split": ["--parts"],
    "analyze": [],
    "run": [],
    "demo": [],
}


def test_help_is_quick_and_light():
    code = (
        "import sys\nfrom deepprofiler.cli import main\n"
        "sys.argv = ['deepprofiler', '--help']\n"
        "try: main()\nfinally:\n"
        "    heavy = {'tensorflow', 'keras', 'pandas', 'numpy', 'rich', 'pydantic'}\n"
        "    print(heavy & set(sys.modules), file=sys.stderr)"
    )
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        answer = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
        )
        taken.append(time.perf_counter() - start)
        if taken[-1] < 0.5:
            break
    assert answer.stderr.strip() == "set()"
    assert answer.stdout.startswith("Usage: deepprofiler")
    # The quickest of several: other programs may be at work.
    assert min(taken) < 0.5


def test_every_option_is_there(tmp_path):
    text = command(tmp_path, "--help").text
    assert [option for option in OPTIONS if option not in text] == []


def test_every_command_is_there():
    assert set(cli.commands) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(tmp_path, name):
    answer = command(tmp_path, name, "--help")
    assert answer.code == 0
    assert f"deepprofiler {name} [OPTIONS]" in answer.text
    assert len(cli.commands[name].help or "") > 20
    options = {
        word
        for parameter in cli.commands[name].params
        if isinstance(parameter, click.Option)
        for word in parameter.opts
    }
    assert options >= set(COMMANDS[name])


def test_the_originals_defaults():
    defaults = {parameter.name: parameter.default for parameter in cli.params}
    assert defaults["exp"] == "results"
    assert defaults["single_cells"] == "single-cells"
    assert defaults["metadata"] == "index.csv"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"demo"}))
def test_no_project_named(monkeypatch, capsys, name):
    words = ["split", "--parts", "2"] if name == "split" else [name]
    monkeypatch.setattr(sys, "argv", ["deepprofiler", *words])
    with pytest.raises(SystemExit) as end:
        cli_main()
    assert end.value.code == 2
    text = capsys.readouterr().err
    assert "error: no project named; add --root DIRECTORY before the command" in text
    assert "Traceback" not in text


def cli_main() -> None:
    from deepprofiler.cli import main

    main()


@pytest.mark.parametrize("words", [[sys.executable, "-m", "deepprofiler"], ["deepprofiler"]])
def test_both_ways_to_start(words):
    if words == ["deepprofiler"]:
        script = Path(sys.executable).parent / "deepprofiler"
        if not script.exists():
            pytest.skip("deepprofiler is not installed here")
        words = [str(script)]
    answer = subprocess.run([*words, "--version"], capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0
    assert answer.stdout.startswith("deepprofiler, version ")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> BaseProject:
    root = tmp_path_factory.mktemp("cli") / "project"
    return BaseProject(root, plates=("P1",), sites=("1",)).write()


@pytest.mark.pipeline
def test_exit_codes(base):
    assert command(base.root, "--cores", "1", "check").code == 0
    image = base.image()
    content = image.read_bytes()
    image.write_bytes(b"")
    assert command(base.root, "--cores", "1", "check").code == 1
    image.write_bytes(content)
    assert command(base.root, "--config", "absent.yaml", "check").code == 2


@pytest.mark.pipeline
def test_a_bug_shows_its_traceback(base, monkeypatch):
    monkeypatch.setattr("deepprofiler.commands.check.check", lambda project: [][1])
    with pytest.raises(IndexError):
        command(base.root, "check")


@pytest.mark.pipeline
def test_ctrl_c(base, monkeypatch):
    def interrupt(project):
        raise KeyboardInterrupt

    monkeypatch.setattr("deepprofiler.commands.check.check", interrupt)
    answer = command(base.root, "check")
    assert answer.code == 130
    assert "run the same command to continue" in answer.text


@pytest.mark.pipeline
def test_the_first_line_names_the_device(base):
    """In a process of its own, where TensorFlow greets while it is imported."""
    words = ["--root", str(base.root), "layers"]
    answer = subprocess.run(
        [sys.executable, "-m", "deepprofiler", *words], capture_output=True, text=True, cwd=ROOT
    )
    assert answer.returncode == 0, answer.stderr
    (first, *_) = answer.stderr.splitlines()
    assert " layers on " in first
    assert "CPU, " in first or "GPU, " in first
    assert "\x1b" not in answer.stderr
    assert "conv4a\t256" in answer.stdout.splitlines()


@pytest.mark.pipeline
def test_the_processor_cores_otherwise(base):
    text = command(base.root, "--cores", "1", "check").text
    assert "check on 1 core" in text.splitlines()[0]


@pytest.mark.pipeline
def test_quiet_and_verbose(base):
    assert " on 1 core" not in command(base.root, "--cores", "1", "--quiet", "check").text
    assert " on 1 core" in command(base.root, "--cores", "1", "--verbose", "check").text


@pytest.mark.pipeline
def test_every_command_tells_what_comes_next(base):
    stages = {("prepare",): "outputs/illumination", ("split", "--parts", "2"): "index-001.csv"}
    for words, written in stages.items():
        answer = command(base.root, "--cores", "1", *words)
        assert answer.code == 0
        assert written in answer.text
        assert answer.text.splitlines()[-1].startswith("next: ")


@pytest.mark.pipeline
def test_parts_of_an_index(base):
    assert command(base.root, "split", "--parts", "2").code == 0
    folder = base.index.parent
    rows = [(folder / f"index-00{part}.csv").read_text().splitlines() for part in (0, 1)]
    whole = base.index.read_text().splitlines()
    assert rows[0][0].split(",")[:3] == whole[0].split(",")[:3]
    assert len(rows[0]) + len(rows[1]) - 1 == len(whole)
    answer = command(base.root, "--cores", "1", "--metadata", "index-001.csv", "check")
    assert "3 sites in 3 wells" in answer.text


@pytest.mark.pipeline
def test_the_reader_of_the_output_may_stop(base):
    words = f"{sys.executable} -m deepprofiler --root {base.root} --cores 1 check | head -c 1"
    answer = subprocess.run(words, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert "Traceback" not in answer.stderr
    assert "BrokenPipe" not in answer.stderr
