"""Commands and options of the command line, nothing else."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepprofiler import __version__
from deepprofiler.errors import ConfigError, DeepProfilerError, counted, refusal

if TYPE_CHECKING:
    from deepprofiler.project import Project
    from deepprofiler.project.outcome import Outcome

# What NumPy, TensorFlow and scikit-learn all take.
_SEED = click.IntRange(0, 2**32 - 1)
_NETWORK_COMMANDS = ("layers", "train", "profile", "analyze", "run", "demo")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--root", type=click.Path(path_type=Path), help="Project directory.")
@click.option(
    "--config", metavar="NAME", help="Config file in inputs/config; required if there are several."
)
@click.option("--exp", default="results", show_default=True, help="Name of the experiment.")
@click.option("--gpu", metavar="ID", help="GPU to use, such as 0; -1 for the CPU.")
@click.option(
    "--cores",
    type=click.IntRange(0),
    default=0,
    help="Number of processor cores; 0 uses all that this process may use.",
)
@click.option(
    "--single-cells",
    default="single-cells",
    show_default=True,
    help="Name of the crops.",
)
@click.option(
    "--metadata", default="index.csv", show_default=True, help="Index in inputs/metadata."
)
@click.option("--strict", is_flag=True, help="Stop at the first site that fails.")
@click.option("--quiet", is_flag=True, help="Show warnings only.")
@click.option("--verbose", is_flag=True, help="Show details.")
@click.version_option(__version__, prog_name="deepprofiler")
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Learn single-cell features from plate images, with treatments as weak labels.

    `run` does everything from images and an index to the report. You can also call the commands
    one by one: each runs missing earlier ones first, and continues where it was interrupted. Only
    for an experiment that you name must you run `train` yourself.
    """
    given = context.get_parameter_source("exp") is not click.core.ParameterSource.DEFAULT
    context.obj = options | {"exp_is_named": given}


def _project(context: click.Context, **changes: Any) -> Project:
    """Make the project from the options of the group, and start logging."""
    from deepprofiler.progress import start_logging
    from deepprofiler.project import Project

    options = context.obj
    level = logging.WARNING if options["quiet"] else logging.INFO
    start_logging(logging.DEBUG if options["verbose"] else level)
    if options["root"] is None:
        raise ConfigError("no project named; add --root DIRECTORY before the command")
    project = Project(
        root=options["root"],
        config_name=changes.get("config", options["config"]),
        experiment=options["exp"],
        experiment_is_named=options["exp_is_named"],
        single_cells=options["single_cells"],
        index_name=changes.get("metadata", options["metadata"]),
        cores=options["cores"],
        strict=options["strict"],
    )
    name = context.info_name or ""
    log = logging.getLogger("deepprofiler")
    if name in _NETWORK_COMMANDS:
        from deepprofiler.learning.devices import choose

        log.info("%s on %s", name, choose(options["gpu"], project.workers))
    else:
        log.info("%s on %s", name, counted(project.workers, "core", "cores"))
    return project


def _finish(outcome: Outcome) -> None:
    """Print what a command did, and exit with its code."""
    for line in outcome.lines():
        click.echo(line)
    sys.exit(outcome.exit_code)


@cli.command()
@click.pass_context
def setup(context: click.Context) -> None:
    """Create the folders of a project and a first config."""
    project = _project(context)
    from deepprofiler.commands.setup import setup

    _finish(setup(project))


@cli.command()
@click.option("--seed", type=_SEED, default=0, show_default=True, help="Random seed.")
@click.option(
    "--screen",
    type=click.Choice(["tiny", "demo", "full"]),
    default="demo",
    show_default=True,
    help="Size of the screen.",
)
@click.pass_context
def simulate(context: click.Context, seed: int, screen: str) -> None:
    """Simulate a screen with known mechanisms, and write it to a project."""
    project = _project(context)
    from deepprofiler.commands.simulate import simulate

    _finish(simulate(project, screen=screen, seed=seed))


@cli.command()
@click.pass_context
def check(context: click.Context) -> None:
    """Read all inputs and report problems; change nothing."""
    project = _project(context)
    from deepprofiler.commands.check import check

    _finish(check(project))


@cli.command()
@click.pass_context
def prepare(context: click.Context) -> None:
    """Measure the illumination of every plate."""
    project = _project(context)
    from deepprofiler.commands.prepare import prepare

    _finish(prepare(project))


@cli.command()
@click.option("--labels", is_flag=True, help="Also write label images of the nuclei.")
@click.pass_context
def locate(context: click.Context, labels: bool) -> None:
    """Find the nuclei at every site without a location file."""
    project = _project(context)
    from deepprofiler.commands.locate import locate

    _finish(locate(project, labels=labels))


@cli.command("export-sc")
@click.pass_context
def export_cells(context: click.Context) -> None:
    """Cut out every cell, as 8-bit crops for training."""
    project = _project(context)
    from deepprofiler.commands.export_cells import export_cells

    _finish(export_cells(project))


@cli.command()
@click.pass_context
def layers(context: click.Context) -> None:
    """Print each layer of the network and its number of features."""
    project = _project(context)
    from deepprofiler.commands.layers import layers

    for name, size in layers(project):
        click.echo(f"{name}\t{size}")


@cli.command()
@click.option(
    "--epoch",
    type=click.IntRange(1),
    help="Continue with this epoch; 1 trains from scratch. Default: after the last finished epoch.",
)
@click.option("--seed", type=_SEED, help="Seed in place of dataset.seed.")
@click.pass_context
def train(context: click.Context, epoch: int | None, seed: int | None) -> None:
    """Train the network to tell treatments apart."""
    project = _project(context)
    from deepprofiler.commands.train import train

    _finish(train(project, epoch=epoch, seed=seed))


@cli.command()
@click.option("--part", type=click.IntRange(0), help="Profile only part N of a split index.")
@click.pass_context
def profile(context: click.Context, part: int | None) -> None:
    """Compute the features of every cell, one file per well."""
    project = _project(context, **({} if part is None else {"metadata": f"index-{part:03d}.csv"}))
    from deepprofiler.commands.profile import profile

    _finish(profile(project))


@cli.command()
@click.option("--parts", type=click.IntRange(1), required=True, help="Number of parts.")
@click.pass_context
def split(context: click.Context, parts: int) -> None:
    """Split the index into parts for `profile --part`."""
    project = _project(context)
    from deepprofiler.commands.split import split

    _finish(split(project, parts))


@cli.command()
@click.option(
    "--steps",
    metavar="NAMES",
    help="Only these steps of aggregate,normalize,evaluate,report, separated by commas.",
)
@click.pass_context
def analyze(context: click.Context, steps: str | None) -> None:
    """Aggregate, normalize and evaluate profiles; write the report."""
    project = _project(context)
    from deepprofiler.commands.analyze import analyze

    names = None if steps is None else [name.strip() for name in steps.split(",")]
    _finish(analyze(project, steps=names))


@cli.command()
@click.pass_context
def run(context: click.Context) -> None:
    """Run all commands from images to the report."""
    project = _project(context)
    from deepprofiler.commands.run import run

    _finish(run(project))


@cli.command()
@click.option("--seed", type=_SEED, default=0, show_default=True, help="Random seed.")
@click.pass_context
def demo(context: click.Context, seed: int) -> None:
    """Simulate a small screen and analyze it (default folder: demo)."""
    if context.obj["root"] is None:
        context.obj["root"] = Path("demo")
    project = _project(context)
    from deepprofiler.commands.demo import demo

    _finish(demo(project, seed=seed))


def main() -> None:
    """Run the command line; errors whose remedy lies with the user end without a traceback."""
    try:
        cli.main(prog_name="deepprofiler", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except DeepProfilerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough; flushing at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        logging.getLogger("deepprofiler").debug("in detail:", exc_info=error)
        click.echo(f"error: {refusal(error)}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            "interrupted; finished outputs are kept, run the same command to continue", err=True
        )
        sys.exit(130)
