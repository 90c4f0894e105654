"""What `inference-server check` does: vets one file as the server would, and compares it with another."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from inference_server.adapters.model_repository import FILE_NAME, SUFFIX, VERSION_FOLDER
from inference_server.adapters.vetting_process import VettingProcess, VettingProcessOptions
from inference_server.core.contract import Contract
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


def expected_name(path: Path) -> str:
    """Return the model's name as the file's place in a repository gives it, in either layout."""
    path = path.absolute()
    if path.name == FILE_NAME and VERSION_FOLDER.fullmatch(path.parent.name):
        return path.parent.parent.name
    return path.name.removesuffix(SUFFIX)


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
    try:
        model = await asyncio.to_thread(path.read_bytes)
    except OSError as error:
        return Verdict("", (Step("read", passed=False, text=f"{path}: {error.strerror}"),))
    return await vetting.vet(model, expected_name(path))


def _told(value: object) -> str:
    if isinstance(value, tuple) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    return re.sub(r"<\w+\.(\w+): '[^']*'>", r"\1", str(value))
