"""A sidecar of one's own: a process with a private copy of the models and a private socket."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.description import Description, ModelDescription, VersionState
from strategy_client.predictor.status import InferenceError

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 15.0
SWAP_TIMEOUT_S: Final = 60.0
# Short, so that a process that died meanwhile is noticed.
CALL_TIMEOUT_S: Final = 0.5
POLL_S: Final = 0.02
SETTLED_S: Final = 0.5
DECIDING: Final = (VersionState.START, VersionState.LOADING)
LOG_TAIL_LINES: Final = 15
MODEL_SUFFIX: Final = ".onnx"


class SidecarError(Exception):
    """The sidecar did not start, died, or did not take a file; the text holds the end of its log."""


class OwnSidecar:
    """Serves a private copy of a model repository on a Unix socket in a private folder.

    Use it as a context manager: `start` is called on entry, and on exit the process is stopped and the folder
    removed, whatever happened in between. If this process is killed by SIGKILL its sidecar ends too (on
    Linux), and the folder stays. The folder that was copied is never written to. Raises SidecarError
    where `models` is no folder.

    A file may replace one of another contract only for the models in `allow_contract_change`. Every version
    is served of the models in `all_versions_of`, the greatest one of any other.
    """

    def __init__(
        self,
        models: Path,
        allow_contract_change: Collection[str] = (),
        all_versions_of: Collection[str] = (),
    ) -> None:
        if not models.is_dir():
            raise SidecarError(f"{models}: expected a folder of models, there is none")
        if not model_names(models):
            raise SidecarError(f"{models}: expected NAME.onnx or NAME/VERSION/model.onnx, there is no model")
        self._folder = Path(tempfile.mkdtemp(prefix="tickserve-"))
        self.models = self._folder / "models"
        self.log = self._folder / "sidecar.log"
        self.target = f"unix:{self._folder / 'sidecar.sock'}"
        self._copied_from = models
        self._allow_contract_change = tuple(allow_contract_change)
        # A file without a version of its own beside it takes no policy.
        folders = [name for name in sorted(all_versions_of) if (models / name).is_dir()]
        settings = json.dumps({name: {"versions": "all"} for name in folders})
        self._environment = {"TICKSERVE_MODEL": settings} if folders else {}
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}" if self._process else "not running"
        return f"<OwnSidecar {self.target} {state}>"

    @property
    def pid(self) -> int | None:
        """The process's id; None before the first start."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        try:
            shutil.copytree(self._copied_from, self.models)
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the process; it is not ready yet then."""
        leash = [sys.executable, "-I", str(Path(__file__).with_name("leash.py")), str(os.getpid())]
        command = [*leash, sys.executable, "-m", "inference_server", "serve"]
        options = ["--models", str(self.models), "--listen", self.target, "--http", "off"]
        options += ["--state", str(self._folder / "state")]
        for model in self._allow_contract_change:
            options += ["--allow-contract-change", model]
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches us only, and we stop it in order.
            self._process = subprocess.Popen(  # noqa: S603 our own module, no text of a user's
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self._environment},
            )

    def wait_ready(self, client: InferenceClient, timeout_s: float = START_TIMEOUT_S) -> Description:
        """Wait until it has decided about every model file and the client is connected.

        A file that it refuses is decided about. Raises SidecarError if it dies or takes too long.
        """
        give_up_s = time.monotonic() + timeout_s
        problem = "it did not answer"
        refused: dict[str, str] = {}
        refused_since_s = time.monotonic()
        while time.monotonic() < give_up_s:
            self._check_alive()
            try:
                description = client.describe(timeout_s=CALL_TIMEOUT_S)
            except InferenceError as error:
                problem = str(error)
                continue
            # A problem that passes is no refusal: that of a model which was not looked at yet, or is loading.
            before, refused = refused, _refused(description)
            if refused != before:
                refused_since_s = time.monotonic()
            settled = not refused or time.monotonic() - refused_since_s > SETTLED_S
            served = {name for name, model in description.models.items() if model.default_version}
            deciding = {name for name, model in description.models.items() if _deciding(model)}
            undecided = sorted(
                (model_names(self.models) - served - (refused.keys() if settled else set())) | deciding
            )
            problem = f"still loading: {', '.join(undecided)}" if undecided else "no stream to it"
            if not undecided and client.wait_connected(CALL_TIMEOUT_S):
                return description
            time.sleep(POLL_S)  # a process outside has no event to wait for
        raise SidecarError(f"the sidecar is not ready after {timeout_s:g} s: {problem}\n{self.tail()}")

    def replace(self, client: InferenceClient, model: str, file: Path) -> str:
        """Put a file in a model's place and wait until the sidecar has taken or refused it.

        Returns empty when it is what callers get now, else the sidecar's reason for not taking it.
        """
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        place = self._place_of(model)
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = place.with_name(f".{place.name}.part")
        unfinished.write_bytes(content)
        unfinished.replace(place)
        before = self._described(client, model)
        give_up_s = time.monotonic() + SWAP_TIMEOUT_S
        refused_since_s = math.inf
        while time.monotonic() < give_up_s:
            self._check_alive()
            now = self._described(client, model)
            version = now.find()
            if version and version.digest == digest and version.state is VersionState.AVAILABLE:
                return ""
            # While a file is vetted the model may have a problem that passes: its old file is gone.
            if _deciding(now) or now.problem in ("", before.problem):
                refused_since_s = math.inf
            elif time.monotonic() - (refused_since_s := min(refused_since_s, time.monotonic())) > SETTLED_S:
                return now.problem
            time.sleep(POLL_S)  # a process outside has no event to wait for
        raise SidecarError(
            f"{file}: the sidecar did not serve it as {model!r} within {SWAP_TIMEOUT_S:g} s\n{self.tail()}"
        )

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def tail(self) -> str:
        """Return the end of the sidecar's log."""
        if not self.log.exists():
            return ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  sidecar: {line}" for line in lines[-LOG_TAIL_LINES:])

    def close(self) -> None:
        """Stop the process, by SIGTERM first, and remove the private folder. May be called twice."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _described(self, client: InferenceClient, model: str) -> ModelDescription:
        return client.describe([model]).models.get(model) or ModelDescription(model, (), 0)

    def _check_alive(self) -> None:
        if self._process is None or self._process.poll() is not None:
            code = "was not started" if self._process is None else f"exited with {self._process.returncode}"
            raise SidecarError(f"the sidecar {code}\n{self.tail()}")

    def _place_of(self, model: str) -> Path:
        folder = self.models / model
        if not folder.is_dir():
            return self.models / f"{model}{MODEL_SUFFIX}"
        versions = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
        return folder / str(max(versions, default=0) + 1) / "model.onnx"


def _refused(description: Description) -> dict[str, str]:
    return {
        name: model.problem
        for name, model in description.models.items()
        if model.problem and not model.default_version and not _deciding(model)
    }


def _deciding(model: ModelDescription) -> bool:
    return any(version.state in DECIDING for version in model.versions)


def model_names(models: Path) -> set[str]:
    """Return the names of the models in a repository, by its files."""
    files = {path.stem for path in models.glob(f"[!.]*{MODEL_SUFFIX}")}
    return files | {path.parent.parent.name for path in models.glob("[!.]*/[0-9]*/model.onnx")}
