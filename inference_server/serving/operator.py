"""What an operator does to a running sidecar: rollback, labels; load and unload under explicit control."""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Final

from inference_server.core.contract import check_model_name
from inference_server.core.errors import ContractError, InvalidRequestError, NotFoundError, RefusedError
from inference_server.core.servable import ServableId
from inference_server.serving.changes import Changes
from inference_server.serving.decisions import RolledBack
from inference_server.serving.lifecycle import Lifecycle
from inference_server.serving.reconciler import Reconciler
from inference_server.serving.repository import Candidate, Source
from inference_server.serving.settings import LabelError, check_label
from inference_server.serving.signature import shown

BY_FILES: Final = "models are controlled by their files here; start the server with --control explicit"


class Operator:
    """Acts of an operator, each of which returns when it has come about, or raises why it has not.

    NotFoundError for a model of which nothing is known, InvalidRequestError for a name that none could have,
    RefusedError where a file or the state does not allow it; then what was served before is served.
    Cancelled, an act that has begun goes on.
    """

    def __init__(
        self, lifecycle: Lifecycle, reconciler: Reconciler, changes: Changes, *, explicit: bool
    ) -> None:
        self._lifecycle = lifecycle
        self._reconciler = reconciler
        self._changes = changes
        self._explicit = explicit
        self._uploads = 0

    def __repr__(self) -> str:
        return f"<Operator, control is {'explicit' if self._explicit else 'by files'}>"

    async def rollback(self, name: str) -> RolledBack:
        """Pin the version that answered before; hold the one that answers until its file changes."""
        done = self._lifecycle.roll_back(name)
        self._reconciler.act()
        model = self._lifecycle.model(name)
        if model is None:
            raise NotFoundError(f"no model {shown(name)}")
        await self._reconciler.until(lambda: not model.rolling_back)
        if model.rollback_failure:
            raise RefusedError(
                f"model {shown(name)} could not go back to version {done.back_to.version}: "
                f"{model.rollback_failure}; version {done.back_from.version} goes on serving"
            )
        self._changes.rolled_back(name)
        await self._reconciler.record(name)
        return done

    async def resume(self, name: str) -> None:
        """Forget a rollback: what lies in the repository counts again. Does not wait for what follows."""
        self._lifecycle.resume(name)
        await self._done(name)

    async def set_label(self, name: str, label: str, version: int) -> None:
        """Let a label name an available version."""
        try:
            check_label(label)
        except LabelError as error:
            raise InvalidRequestError(str(error)) from None
        self._lifecycle.set_label(name, label, version)
        await self._done(name)

    async def remove_label(self, name: str, label: str) -> None:
        """Forget a label that was set by hand."""
        self._lifecycle.remove_label(name, label)
        await self._done(name)

    async def load(self, name: str, uploads: Mapping[int, bytes]) -> None:
        """Serve what lies in the repository of a model, or instead the bytes handed in, by version."""
        self._refuse_unless_explicit()
        try:
            check_model_name(name)
        except ContractError as error:
            raise InvalidRequestError(str(error)) from None
        digests = await asyncio.to_thread(_digests, uploads)
        if uploads:
            self._uploads += 1  # in the stamp: a refused upload is tried again when it comes again
            self._reconciler.load_uploads(
                name,
                {
                    Candidate(
                        ServableId(name, version), digests[version], str(self._uploads), Source.UPLOAD
                    ): model
                    for version, model in uploads.items()
                },
            )
        elif not await self._reconciler.load_from_repository(name):
            raise NotFoundError(f"no model {shown(name)} in the repository")
        model = self._lifecycle.model(name)
        if model is None:
            raise NotFoundError(f"no model {shown(name)} in the repository")
        await self._reconciler.until(lambda: not model.busy)
        overtaken = RefusedError(f"model {shown(name)}: another load or unload came after this one")
        if not model.wanted:
            raise overtaken
        if model.load_failure:
            raise RefusedError(f"model {shown(name)} is not loaded as asked: {model.load_failure}")
        if digests and model.lying != digests:
            raise overtaken
        await self._reconciler.record(name)

    async def unload(self, name: str) -> None:
        """Take a model out of service; a load under way ends first. Calls in flight get their answers."""
        self._refuse_unless_explicit()
        self._lifecycle.unload(name)
        self._reconciler.act()
        model = self._lifecycle.model(name)
        if model is not None:
            await self._reconciler.until(lambda: not model.busy)

    async def _done(self, name: str) -> None:
        self._reconciler.act()
        await self._reconciler.record(name)

    def _refuse_unless_explicit(self) -> None:
        if not self._explicit:
            raise RefusedError(BY_FILES)


def _digests(uploads: Mapping[int, bytes]) -> dict[int, str]:
    return {version: hashlib.sha256(model).hexdigest() for version, model in uploads.items()}
