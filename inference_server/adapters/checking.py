"""What `inference-server check` does: vets one file as the server would, and compares it with another."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from inference_server.adapters.model_file import UnfitError, read_file, version_of
from inference_server.adapters.model_repository import (
    FILE_NAME,
    SUFFIX,
    VERSION_FOLDER,
    FolderRepositoryOptions,
)
from inference_server.adapters.vetting_process import VettingProcess, VettingProcessOptions
from inference_server.core.contract import Contract, check_model_name
from inference_server.core.errors import ContractError
from inference_server.serving.vetting import Step, Verdict

COMPARED: Final = {
    "feature_names": "features.names",
    "window": "features.window",
    "includes_current_tick": "features.includes_current_tick",
    "nan_policy": "features.nan_policy",
    "outputs": "outputs",
}


def check_file(
    path: Path, against: Path | None = None, options: VettingProcessOptions | None = None
) -> Verdict:
    """Return what `serve` would say of this file, vetted in another process; blocks.

    With `against`, the file that it is to replace, `changes` names what differs between the two contracts. A
    file that cannot be read is a verdict too.
    """
    return asyncio.run(_check(path, against, options))


def place_of(path: Path) -> tuple[str, int | None]:
    """Return the model's name and version as the file's place in a repository gives them, in either layout.

    The version is None where the file itself tells it.
    """
    path = path.absolute()
    if path.name == FILE_NAME and VERSION_FOLDER.fullmatch(path.parent.name):
        return path.parent.parent.name, int(path.parent.name)
    return path.name.removesuffix(SUFFIX), None


def contract_changes(old: Contract | None, new: Contract | None) -> tuple[str, ...]:
    """Name each difference that clients bound to the old contract would notice."""
    if old is None or new is None:
        before, after = ("a contract" if contract else "no contract" for contract in (old, new))
        return () if before == after else (f"{before} before, {after} now",)
    return tuple(
        f"{title}: {_told(getattr(old, field))} before, {_told(getattr(new, field))} now"
        for field, title in COMPARED.items()
        if getattr(old, field) != getattr(new, field)
    )


async def _check(path: Path, against: Path | None, options: VettingProcessOptions | None) -> Verdict:
    vetting = VettingProcess(options)
    try:
        verdict = await _vet(vetting, path)
        if against is None or verdict.refusal:
            return verdict
        other = await _vet(vetting, against)
    finally:
        await vetting.close()
    if other.refusal:
        step = Step("compare", passed=False, text=f"{against} cannot be compared with: {other.refusal}")
        return replace(verdict, steps=(*verdict.steps, step))
    changes = contract_changes(other.contract, verdict.contract)
    told = "; ".join(changes) or "the contract is the same"
    return replace(verdict, steps=(*verdict.steps, Step("compare", passed=True, text=told)), changes=changes)


async def _vet(vetting: VettingProcess, path: Path) -> Verdict:
    name, version = place_of(path)
    try:
        check_model_name(name)
        model, _ = await asyncio.to_thread(read_file, path, FolderRepositoryOptions().max_bytes)
        version_of(model, version)
    except (ContractError, UnfitError) as error:
        return Verdict("", (Step("read", passed=False, text=str(error)),))
    return await vetting.vet(model, name)


def _told(value: object) -> str:
    if isinstance(value, tuple) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    return re.sub(r"<\w+\.(\w+): '[^']*'>", r"\1", str(value))
