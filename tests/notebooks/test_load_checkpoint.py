import pathlib

import nbformat
import pytest
import toy
from nbclient import NotebookClient

from rsjax.training import loop

NOTEBOOK = pathlib.Path(__file__).parents[2] / "notebooks" / "load_checkpoint.ipynb"


@pytest.mark.filterwarnings("ignore")  # of the notebook's own machinery
def test_the_notebook_runs_and_draws(tmp_path):
    shards = toy.write(tmp_path / "data")
    config = toy.config(tmp_path / "data", total_steps=4, eval_every_steps=4)
    loop.train_and_evaluate(config, tmp_path / "run")

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    parameters = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    parameters.source += f"\nCHECKPOINT = {str(tmp_path / 'run')!r}\nSHARDS = {str(shards)!r}"
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(tmp_path))

    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    printed = "".join(o.get("text", "") for o in outputs)
    assert "bands: sentinel2_l2a/B02" in printed
    assert "SIMULATED" in printed
    assert any("image/png" in o.get("data", {}) for o in outputs)
