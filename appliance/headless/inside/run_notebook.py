"""`notebook@v1` as it runs in its container: a notebook's cells one after the other, by nbclient.

nbclient is part of every image with Jupyter; papermill, which does the same around it, is in few, so what its users
know is done here: parameters come in a cell after the one tagged `parameters`, and the metadata are the ones that
papermill writes and its tools read. The file is written again after every cell, and while a cell runs, so a run that
is killed leaves what it had. Python 3.8 is enough: the image is the user's.
"""

from __future__ import annotations

import json
import keyword
import math
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve()
INJECTED, PARAMETERS = "injected-parameters", "parameters"
ERROR_MARK = "papermill-error-cell-tag"
SAVE_EVERY_S = 10.0
"""While a cell runs."""
STARTUP_S = 120
LARGEST_PIECE = 1 << 16
"""Characters of a stream's piece that another is put to."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Refused(Exception):
    """Why the notebook is not run, in words."""


def literal(value: Any) -> str:
    """A value of a spec as Python source."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    return repr(value)


def source_of(parameters: dict[str, Any]) -> str:
    """Source of the injected cell. Raises Refused for a name that Python cannot assign to."""
    for name in parameters:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise Refused(f"the parameter {name!r} cannot be the name of a Python variable")
    return "\n".join(["# Parameters", *(f"{name} = {literal(value)}" for name, value in parameters.items())]) + "\n"


def place_of(tags: list[list[str]]) -> tuple[int, int]:
    """Where the injected cell goes, given the tags of each cell: the slice of the cells that it replaces."""
    for wanted, width in ((INJECTED, 1), (PARAMETERS, 0)):
        for index, found in enumerate(tags):
            if wanted in found:
                return (index, index + 1) if width else (index + 1, index + 1)
    return 0, 0


def tags_of(cell: Any) -> list[str]:
    found = cell.get("metadata", {}).get("tags", [])
    return [tag for tag in found if isinstance(tag, str)] if isinstance(found, list) else []


class Execution:
    """One notebook on its way through its cells."""

    def __init__(self, notebook: Any, request: dict[str, Any]) -> None:
        self.notebook = notebook
        self.request = request
        self.output = Path(request["output"])
        self.saved = 0.0
        self.began = time.time()
        self.cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]

    def prepare(self, language: str) -> None:
        """Old results out, parameters in, papermill's metadata around them."""
        import nbformat

        parameters = self.request["parameters"]
        self.notebook.cells = [cell for cell in self.notebook.cells if ERROR_MARK not in tags_of(cell)]
        if parameters:
            if language != "python":
                language = language or "no language"
                raise Refused(f"parameters can be given to Python notebooks, and this one is of {language}")
            cell = nbformat.v4.new_code_cell(source=source_of(parameters), metadata={"tags": [INJECTED]})
            if self.notebook.nbformat_minor < 5:
                cell.pop("id", None)
            first, last = place_of([tags_of(one) for one in self.notebook.cells])
            self.notebook.cells[first:last] = [cell]
        self.notebook.metadata["papermill"] = {
            "default_parameters": {},
            "environment_variables": {},
            "parameters": parameters,
            "input_path": self.request["notebook"],
            "output_path": self.request["output"],
            "version": "2.7.0",
            "start_time": stamp(self.began),
            "end_time": None,
            "duration": None,
            "exception": None,
        }
        for cell in self.notebook.cells:
            note = {"start_time": None, "end_time": None, "duration": None, "exception": None, "status": "pending"}
            cell.metadata["papermill"] = note
            if cell.cell_type == "code":
                cell.execution_count, cell.outputs = None, []
        self.cells = [cell for cell in self.notebook.cells if cell.cell_type == "code" and cell.source.strip()]

    def run(self, client: Any) -> str:
        """What was done, in words. Raises Refused at the first cell that fails."""
        from nbclient.exceptions import CellExecutionError, DeadKernelError

        self.save()
        with client.setup_kernel():
            for index, cell in enumerate(self.notebook.cells):
                if cell not in self.cells:
                    cell.metadata["papermill"]["status"] = "completed"
                    continue
                number = self.cells.index(cell) + 1
                began = self._begin(cell, number)
                try:
                    client.execute_cell(cell, index)
                except CellExecutionError as error:
                    self._end(cell, number, began, failed=True)
                    print(_COLOURS.sub("", error.traceback).rstrip(), flush=True)
                    raise Refused(f"cell {number} ({title(cell)}): {error.ename}: {error.evalue}") from None
                except DeadKernelError:
                    self._end(cell, number, began, failed=True)
                    message = f"the kernel died in cell {number} ({title(cell)}): out of memory, or the cell ended it"
                    raise Refused(message) from None
                self._end(cell, number, began, failed=False)
        self._close(failed=False)
        return f"{len(self.cells)} cells in {time.time() - self.began:.0f} s; the executed notebook is {self.output}"

    def _begin(self, cell: Any, number: int) -> float:
        began = time.time()
        print(f"appliance: cell {number} of {len(self.cells)}: {title(cell)}", flush=True)
        cell.metadata["papermill"].update(status="running", start_time=stamp(began))
        self.save()
        return began

    def _end(self, cell: Any, number: int, began: float, *, failed: bool) -> None:
        now = time.time()
        status = "failed" if failed else "completed"
        note = {"end_time": stamp(now), "duration": round(now - began, 6), "exception": failed, "status": status}
        cell.metadata["papermill"].update(note)
        if failed:
            self._close(failed=True)
        else:
            self.save()

    def _close(self, *, failed: bool) -> None:
        now = time.time()
        note = {"end_time": stamp(now), "duration": round(now - self.began, 6), "exception": True if failed else None}
        self.notebook.metadata["papermill"].update(note)
        self.save()

    def while_running(self) -> None:
        """Called for each message of the kernel."""
        if time.monotonic() - self.saved >= SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        import nbformat

        self.output.parent.mkdir(parents=True, exist_ok=True)
        beside = self.output.with_name(f".{self.output.name[:100]}.writing")
        beside.write_text(nbformat.writes(self.notebook), encoding="utf-8")
        os.replace(str(beside), str(self.output))
        self.saved = time.monotonic()


def sockets(language: str) -> str:
    """A new folder that only we may enter, for the sockets between us and the kernel; empty: they go over TCP.

    Nobody else in the container's network reads along, and no port is taken. Kernels of other languages need not know
    how to, and those before ipykernel 7 hang. A path of a socket has at most 107 bytes, and not every disk takes one.
    """
    if os.environ.get("APPLIANCE_KERNEL") == "image":  # its packages are not the ones that are seen here
        return ""
    if language != "python" or major("ipykernel") < 7 or major("jupyter_client") < 8:
        return ""
    folder = ""
    try:
        folder = tempfile.mkdtemp(prefix="apl-")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(folder + "/kernel-probe")
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return ""
    return folder


def major(package: str) -> int:
    """Of an installed package's version; 0: it is not installed, or has none."""
    try:
        return int(metadata.version(package).partition(".")[0])
    except (metadata.PackageNotFoundError, ValueError):
        return 0


def client_of(execution: Execution, kernel: str, folder_of_sockets: str) -> Any:
    from nbclient import NotebookClient
    from traitlets.config import Config

    class Client(NotebookClient):  # type: ignore[misc,unused-ignore]  # untyped where it is not installed
        """Shows what the kernel says as it comes."""

        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            done = super().process_message(msg, cell, cell_index)
            show(msg["msg_type"], msg["content"])
            if msg["msg_type"] == "stream":
                merge(cell.outputs)
            execution.while_running()
            return done

    folder = str(Path(execution.request["notebook"]).parent)
    config = Config()
    if folder_of_sockets:
        config.KernelManager.transport = "ipc"
        config.KernelManager.ip = folder_of_sockets + "/kernel"
    return Client(
        execution.notebook,
        timeout=None,
        startup_timeout=STARTUP_S,
        kernel_name=kernel,
        record_timing=False,
        resources={"metadata": {"path": folder}},
        config=config,
    )


def merge(outputs: list[Any]) -> None:
    """The last two become one where they are pieces of one stream, so that hours of printing are no million outputs.

    Only while the first is small: to put a piece to it costs as much as it has.
    """
    if len(outputs) < 2:
        return
    before, last = outputs[-2:]
    kinds = {(output.get("output_type"), output.get("name")) for output in (before, last)}
    if len(kinds) == 1 and last.get("output_type") == "stream" and len(before["text"]) < LARGEST_PIECE:
        before["text"] += last["text"]
        outputs.pop()


def show(kind: str, content: dict[str, Any]) -> None:
    if kind == "stream":
        sys.stdout.write(content.get("text", ""))
    elif kind in ("display_data", "execute_result"):
        text = content.get("data", {}).get("text/plain", "")
        print(text if isinstance(text, str) else "".join(text))
    sys.stdout.flush()


def kernel_of(notebook: Any, asked: str) -> tuple[str, str]:
    """Name of an installed kernel, and its language. Raises Refused that names those there are."""
    from jupyter_client.kernelspec import KernelSpecManager

    found = {name: spec["spec"] for name, spec in KernelSpecManager().get_all_specs().items()}
    named = notebook.metadata.get("kernelspec", {}).get("name", "")
    language = notebook.metadata.get("language_info", {}).get("name", "")
    language = language or notebook.metadata.get("kernelspec", {}).get("language", "")
    name = asked or named or "python3"
    if name not in found and not asked and language in ("python", "") and "python3" in found:
        print(f"appliance: no kernel {name!r} in this image; python3 is taken", flush=True)
        name = "python3"
    if name not in found:
        raise Refused(f"no kernel {name!r} in this image, there is {', '.join(sorted(found)) or 'none'}")
    return name, str(found[name].get("language", "")).lower()


def title(cell: Any) -> str:
    """The first line of a cell that says something."""
    lines = [line.strip() for line in cell.source.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("#")]
    text = str((said or lines or [""])[0])
    return text if len(text) <= 60 else text[:57] + "..."


def stamp(at: float) -> str:
    found = datetime.fromtimestamp(at, timezone.utc)  # noqa: UP017 -- the image's Python may be older
    return str(found.replace(tzinfo=None).isoformat())


def read(path: str) -> Any:
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise Refused(f"there is no {path}") from None
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # nbformat raises many of its own for what is no notebook
        raise Refused(f"{path} is not a notebook: {str(error).splitlines()[0] if str(error) else error!r}") from None


def run(request: dict[str, Any]) -> str:
    try:
        import nbclient
        import nbformat
    except ImportError as error:
        raise Refused(f"this image cannot run notebooks: its Python has no {error.name}") from None
    print(f"appliance: nbclient {nbclient.__version__}, nbformat {nbformat.__version__}", flush=True)
    notebook = read(request["notebook"])
    kernel, language = kernel_of(notebook, request["kernel"])
    execution = Execution(notebook, request)
    execution.prepare(language)

    def stopped(number: int, frame: object) -> None:
        # whatever was under way is left as it is: it may be in the middle of printing, or of asking the kernel
        execution.save()
        os.write(1, f"\nappliance: stopped by {signal.Signals(number).name}\n".encode())
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, stopped)
    folder = sockets(language)
    try:
        return execution.run(client_of(execution, kernel, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fail(words: str, code: int = 1) -> NoReturn:
    text = " ".join(_COLOURS.sub("", words).split())
    print(f"appliance: {text[:500]}", flush=True)
    sys.exit(code)


def main() -> None:
    request = json.loads(HERE.with_name("request.json").read_text(encoding="utf-8"))
    try:
        done = run(request)
    except Refused as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or request['output']}: {error.strerror}")
    except RuntimeError as error:
        fail(f"the kernel does not start: {error}")
    print(f"appliance: {done}", flush=True)


if __name__ == "__main__":
    main()
