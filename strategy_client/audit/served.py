"""The models that a log names, served again: files are found by digest, whatever they are called now."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from strategy_client.audit.decoder import NamedModel
from strategy_client.events import Reason
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.description import Description, VersionDescription, VersionState
from strategy_client.predictor.port import Answer, Question, Refusal
from strategy_client.predictor.security import Security
from strategy_client.predictor.status import SidecarUnavailableError
from strategy_client.predictor.transport import Transport
from strategy_client.sidecar.own_sidecar import OwnSidecar

NS_PER_S: Final = 1_000_000_000
SUFFIX: Final = ".onnx"
CHUNK_BYTES: Final = 1 << 20
# The sidecar takes up to 1000 in one message.
ROWS_A_REQUEST: Final = 256
# Long: a machine that is busy for a moment is no difference.
ANSWER_S: Final = 60.0
VETTED_S: Final = 120.0
POLL_S: Final = 0.02
CONNECT_S: Final = 10.0
ATTEMPTS: Final = 5
# Refusals that say nothing of the row or the model.
PASSING: Final = frozenset(
    {Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED, Reason.BREAKER_OPEN, Reason.MODEL_NOT_READY}
)


def find_files(folders: Sequence[Path], digests: Collection[str]) -> dict[str, Path]:
    """Return files by their SHA-256, as far as they are asked for, wherever they lie under the folders."""
    found: dict[str, Path] = {}
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in sorted(names):
                path = Path(place, name)
                if not name.endswith(SUFFIX) or not path.is_file():
                    continue
                digest = _digest(path)
                if digest in digests:
                    found.setdefault(digest, path)
    return found


class ServedModels:
    """Answers by digest: a sidecar over the files that were found, or one that is running already.

    Use it as a context manager. `problems` says of each digest that cannot be asked why. Raises SidecarError,
    InferenceError.
    """

    def __init__(
        self,
        wanted: Collection[NamedModel],
        folders: Sequence[Path],
        target: str | None = None,
        security: Security | None = None,
        transport: Transport = "auto",
    ) -> None:
        self.problems: dict[str, str] = {}
        self._wanted = {each.digest: each for each in wanted}
        self._folders = folders
        self._target = target
        self._security = security
        self._transport: Transport = transport
        self._stack = ExitStack()
        self._client: InferenceClient | None = None
        self._places: dict[str, tuple[str, VersionDescription]] = {}

    def __repr__(self) -> str:
        return f"<ServedModels {len(self._places)} of {len(self._wanted)}>"

    def __enter__(self) -> Self:
        try:
            if not self._wanted:
                return self
            if self._target is not None:
                self._client = self._stack.enter_context(
                    InferenceClient(self._target, security=self._security, transport=self._transport)
                )
                self._find(self._client.describe())
            else:
                self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def description_of(self, digest: str) -> VersionDescription | None:
        """Return what is said of these bytes; None where they cannot be asked."""
        place = self._places.get(digest)
        return place[1] if place is not None else None

    def ask(self, rows: Sequence[tuple[str, NDArray[np.float32]]]) -> list[Answer]:
        """Ask each row of its digest, each as a question of its own, as on the tick that it was asked on.

        What the rows of a batch are answered may differ from that in the last bits.
        """
        answers: list[Answer] = []
        for begin in range(0, len(rows), ROWS_A_REQUEST):
            answers.extend(self._ask(rows[begin : begin + ROWS_A_REQUEST]))
        return answers

    def _ask(self, rows: Sequence[tuple[str, NDArray[np.float32]]]) -> list[Answer]:
        known = [(digest, row) for digest, row in rows if digest in self._places]
        questions = [
            Question(self._places[digest][0], row[np.newaxis], self._places[digest][1].version)
            for digest, row in known
        ]
        left = iter(self._answers(questions))
        return [
            next(left)
            if digest in self._places
            else Refusal(Reason.MODEL_NOT_FOUND, self.problems.get(digest, "no file has this digest"))
            for digest, _ in rows
        ]

    def _answers(self, questions: Sequence[Question]) -> Sequence[Answer]:
        """Ask until the sidecar answers: that it was away for a moment says nothing about the log."""
        if not questions or self._client is None:
            return ()
        refusal = Refusal(Reason.UNAVAILABLE, "it was not asked")
        for _ in range(ATTEMPTS):
            self._client.wait_connected(CONNECT_S)
            deadline_ns = time.monotonic_ns() + int(ANSWER_S * NS_PER_S)
            answers = self._client.submit(questions, deadline_ns).result()
            passing = [each for each in answers if isinstance(each, Refusal) and each.reason in PASSING]
            if not passing:
                return answers
            refusal = passing[0]
        raise SidecarUnavailableError(refusal.reason, f"{self._client.target}: {refusal.detail}")

    def _start(self) -> None:
        files = find_files(self._folders, self._wanted)
        for digest in self._wanted.keys() - files.keys():
            self.problems[digest] = "no file has this digest"
        if not files:
            return
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tickserve-audit-")))
        names = sorted({self._wanted[digest].name for digest in files})
        for number, (digest, path) in enumerate(sorted(files.items()), 1):
            # A file may stand only under the model's name that its contract says.
            place = folder / self._wanted[digest].name / str(number) / f"model{SUFFIX}"
            place.parent.mkdir(parents=True)
            shutil.copyfile(path, place)
        sidecar = self._stack.enter_context(OwnSidecar(folder, names, all_versions_of=names))
        client = self._client = self._stack.enter_context(InferenceClient(sidecar.target))
        self._find(sidecar.wait_ready(client, VETTED_S))

    def _find(self, description: Description) -> None:
        refused: dict[str, str] = {}
        for name, model in description.models.items():
            for version in model.versions:
                if version.state is VersionState.AVAILABLE and version.digest in self._wanted:
                    self._places.setdefault(version.digest, (name, version))
                elif version.digest:
                    refused[version.digest] = version.reason or version.state.name
        for digest in self._wanted.keys() - self._places.keys():
            self.problems.setdefault(digest, refused.get(digest, "the sidecar does not serve it"))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
