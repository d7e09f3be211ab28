"""ClearML behind Lightning's logger interface: curves and the configuration, and nothing else unless asked for.

`Task.init` by default reads the source code and its uncommitted changes, uploads models, copies the console, seeds all random generators
anew and takes over signals. Console and source may hold patients' names, and the rest disturbs a run; all of it is switched off here.
"""

import contextlib
import logging
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_only
from numpy.typing import NDArray
from pytorch_lightning.loggers.logger import Logger

from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.training.interruption import Interrupted
from fuse_examples.imaging.oai_example.training.run import is_first_process

log = logging.getLogger(__name__)

# As a dictionary, because only this form switches the reading of the source code off; what is not named would be on.
NO_FRAMEWORKS = dict.fromkeys(
    (
        "detect_repository", "hydra", "scikit", "joblib", "matplotlib", "tensorflow", "tensorboard", "tfdefines", "pytorch", "megengine",
        "xgboost", "catboost", "fastai", "lightgbm", "gradio", "jsonargparse",
    ),
    False,
)  # fmt: skip
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGQUIT)
REMEDY = "or set clearml=false; TensorBoard has the same curves."


class ClearMLTracker(Logger):
    """Lightning logger that sends each scalar once to a ClearML task, from the first process alone. Make it with `clearml_tracker`."""

    def __init__(self, task: Any, *, upload_images: bool) -> None:
        super().__init__()
        self._task, self._upload_images = task, upload_images

    @property
    def name(self) -> str:
        """The entry of this tracker in a checkpoint."""
        return "clearml"

    @property
    def version(self) -> str:
        """The task's id, with which a resumed run continues it."""
        return "" if self._task is None else str(self._task.id)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send scalars: "val/dice/femur" becomes the series "femur" of the plot "val/dice"."""
        reports = self._task.get_logger()
        for name, value in metrics.items():
            if name != "epoch":  # which Lightning adds to every call
                title, _, series = name.rpartition("/")
                reports.report_scalar(title or name, series, float(value), iteration=step or 0)

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: the configuration was sent when the task was made."""

    @rank_zero_only
    def log_image(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """Send a picture, (H, W) or (H, W, 3), when `clearml_upload_images` allows it; otherwise it stays here."""
        if self._upload_images:
            title, _, series = name.rpartition("/")
            self._task.get_logger().report_image(title or name, series, iteration=step, image=image)

    @rank_zero_only
    def log_table(self, name: str, rows: Sequence[Sequence[object]]) -> None:
        """Send a table whose first row is its header."""
        self._task.get_logger().report_table(name, "", iteration=0, table_plot=[list(row) for row in rows])

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Give the task the state a run broke off in. After a success it stays open: a test may follow."""
        if status != "failed":
            return
        if isinstance(sys.exc_info()[1], Interrupted):
            self._task.mark_stopped(force=True, status_message="interrupted; the run can be resumed")
        else:
            self._task.mark_failed(force=True, status_reason="stopped by an error", status_message="see log.txt in the run's folder")

    @rank_zero_only
    def close(self) -> None:
        """Send what is left and close the task; takes some seconds. ClearML does it by itself when the process ends."""
        self._task.close()


def clearml_tracker(
    *,
    project: str,
    experiment: str,
    config_dump: Mapping[str, Any],
    environment: Mapping[str, Any],
    upload_images: bool = False,
    task_id: str | None = None,
) -> ClearMLTracker:
    """Open a ClearML task, or continue one, and return the logger of it.

    Args:
        project: name of the ClearML project.
        experiment: name of the task.
        config_dump: the configuration as plain values; sent as the task's parameters.
        environment: versions, commit and device; sent as a configuration object.
        upload_images: whether pictures may leave the machine.
        task_id: the task to continue, from the checkpoint of a resumed run.

    Raises:
        UserError: clearml is not installed, there is no account on this machine, or its server refuses or cannot be reached.
    """
    if not is_first_process():
        return ClearMLTracker(None, upload_images=False)
    task_class = _task_class()
    _check_account(task_class)
    task_class.set_random_seed(None)  # else Task.init seeds torch, NumPy and Python with 1337, and a run with ClearML is another run
    try:
        with _own_signals(), contextlib.redirect_stdout(sys.stderr):
            task = task_class.init(
                project_name=project,
                task_name=experiment,
                reuse_last_task_id=task_id or False,
                continue_last_task=0 if task_id else False,  # 0: steps keep their numbers
                output_uri=False,
                auto_connect_arg_parser=False,
                auto_connect_frameworks=NO_FRAMEWORKS,
                auto_connect_streams=False,
                auto_resource_monitoring=False,  # with it, a container without a GPU hangs at exit (clearml 2.1.12)
            )
    except Exception as error:
        raise UserError(
            f"clearml=true: ClearML could not open a task ({_first_line(error)}). Check the account with `clearml-init`, {REMEDY}"
        ) from error
    task.connect(dict(config_dump), name="configuration")
    task.connect_configuration(dict(environment), name="environment")
    log.info("ClearML task %s%s", task.id, " (continued)" if task_id == task.id else "")
    return ClearMLTracker(task, upload_images=upload_images)


def _task_class() -> Any:
    try:
        from clearml import Task
    except ImportError as error:
        raise UserError(f"clearml=true needs the package clearml, which is not installed. Run `pip install clearml`, {REMEDY}") from error
    return Task


def _check_account(task_class: Any, seconds: float = 10.0) -> None:
    """Look for credentials and for the server first: Task.init repeats requests to a server that is not there for many minutes."""
    from clearml.backend_api.session import Session
    from clearml.backend_api.session.defs import ENV_ACCESS_KEY, ENV_AUTH_TOKEN
    from clearml.config import config_obj

    if task_class.is_offline():
        return
    if not (ENV_ACCESS_KEY.get() or ENV_AUTH_TOKEN.get() or config_obj.get("api.credentials.access_key", None)):
        raise UserError(
            "clearml=true: there is no ClearML account on this machine (no clearml.conf in the home folder, no CLEARML_API_ACCESS_KEY). "
            f"Run `clearml-init`, {REMEDY}"
        )
    address = urlsplit(Session.get_api_server_host())
    if urllib.request.getproxies().get(address.scheme):
        return  # only the proxy can tell
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout=seconds).close()
    except OSError as error:
        raise UserError(f"clearml=true: the server {address.geturl()} cannot be reached ({error}). Check the network, {REMEDY}") from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Give back the handlers of signals and of uncaught exceptions that Task.init takes."""
    handlers, hook = {signum: signal.getsignal(signum) for signum in HANDLED}, sys.excepthook
    try:
        yield
    finally:
        sys.excepthook = hook
        with contextlib.suppress(ValueError):  # not in the main thread, where Task.init could not take them either
            for signum, handler in handlers.items():
                signal.signal(signum, signal.SIG_DFL if handler is None else handler)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
