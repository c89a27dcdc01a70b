"""Simulated downloads, written once a test run; tests that damage one copy it first."""

import shutil

import pytest

from rsjax.datasets.simulate import simulate


@pytest.fixture(scope="session")
def downloads(tmp_path_factory):
    """`downloads(name, count)`: folder of a simulated download, not to be changed."""
    made = {}

    def get(name, count):
        if (name, count) not in made:
            made[name, count] = tmp_path_factory.mktemp(name) / "download"
            simulate(name, made[name, count], count, seed=3)
        return made[name, count]

    return get


@pytest.fixture
def copied(downloads, tmp_path):
    """`copied(name, count)`: a copy of a simulated download, to be damaged."""

    def get(name, count):
        return shutil.copytree(downloads(name, count), tmp_path / "copy")

    return get
