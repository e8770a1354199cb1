"""One notebook in one kernel, through papermill."""

import json
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import ERROR_MARKER_TAG, execute_notebook

from press.plan import CellFailed, tags


class Engine(NBClientEngine):
    """papermill's engine, with a kernel of this interpreter that gets its own environment and folder."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, *, environment, folder, **_):
        """Execute all cells; called by papermill."""
        here = KernelSpecManager(kernel_dirs=[])  # no installed kernel can take the place of ours
        manager = AsyncKernelManager(kernel_name=kernel_name, kernel_spec_manager=here)
        quiet = ["--log-level=ERROR"]  # it would warn that talk within this machine is not encrypted
        client = PapermillNotebookClient(
            nb_man,
            km=manager,
            startup_timeout=300,
            iopub_timeout=120,
            shutdown_kernel="immediate",
            extra_arguments=quiet,
        )
        try:
            client.execute(env=environment, cwd=folder, cleanup_kc=True)
        except DeadKernelError:
            cells = nb_man.nb.cells
            last = max(index for index, cell in enumerate(cells) if cell.metadata.papermill["start_time"])
            line = f"cell {source_number(cells, last)}: the kernel died; the usual cause is too little memory"
            raise CellFailed(line) from None


papermill_engines.register("press", Engine)


def execute(source: Path, target: Path, *, parameters: dict, environment: dict, folder: Path) -> None:
    """Execute `source` in `folder`, write it as it ran, failed or not, to `target`; raises `CellFailed`."""
    options = {
        "engine_name": "press",
        "kernel_name": "python3",
        "language": "python",
        "progress_bar": False,
        "request_save_on_cell_execute": False,
        "environment": environment,
        "folder": str(folder),
    }
    try:
        execute_notebook(str(source), str(target), parameters, **options)
    except PapermillExecutionError as error:
        cells = json.loads(target.read_text(encoding="utf8"))["cells"]
        cells = [cell for cell in cells if ERROR_MARKER_TAG not in tags(cell)]
        line = f"cell {source_number(cells, error.cell_index)}: {error.ename}: {error.evalue}"
        raise CellFailed(line.splitlines()[0]) from None


def source_number(cells: list, index: int) -> int:
    """Return the number, from 1, that cell `index` of an executed notebook has in its source."""
    return index + 1 - any("injected-parameters" in tags(cell) for cell in cells[: index + 1])
