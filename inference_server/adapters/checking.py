"""What `inference-server check` does: vets one file as the server would, and compares it with another."""

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

from inference_server.adapters.first_look import FILE_NAME, SUFFIX
from inference_server.adapters.manifest import check_manifest
from inference_server.adapters.model_file import UnfitError, read_file, version_of
from inference_server.adapters.model_repository import VERSION_FOLDER, FolderRepositoryOptions
from inference_server.adapters.vetting_process import VettingProcess
from inference_server.adapters.vetting_start import VettingProcessOptions
from inference_server.core.contract import check_model_name
from inference_server.core.errors import ContractError
from inference_server.serving.compatibility import change_refusal, contract_changes
from inference_server.serving.vetting import Step, Verdict


def check_file(
    path: Path,
    against: Path | None = None,
    options: VettingProcessOptions | None = None,
    *,
    allow_contract_change: bool = False,
) -> Verdict:
    """Return what `serve` would say of this file, vetted in another process; blocks.

    With `against`, the file that it is to replace, `changes` names what differs between the two contracts,
    for which it is refused unless that is allowed. A file that cannot be read is a verdict too.
    """
    verdict, other = asyncio.run(_check(path, against, options))
    if against is None or other is None:
        return verdict
    changes = contract_changes(other, verdict)
    text = "the contract is the same"
    if changes:
        text = "; ".join(changes) if allow_contract_change else change_refusal(str(against), changes)
    if other.refusal:
        changes, text = (), f"{against} cannot be compared with: {other.refusal}"
    passed = not other.refusal and (not changes or allow_contract_change)
    return replace(verdict, steps=(*verdict.steps, Step("compare", passed, text)), changes=changes)


def place_of(path: Path) -> tuple[str, int | None]:
    """Return the model's name and version as the file's place in a repository gives them, in either layout.

    The version is None where the file itself tells it.
    """
    path = path.absolute()
    if path.name == FILE_NAME and VERSION_FOLDER.fullmatch(path.parent.name):
        return path.parent.parent.name, int(path.parent.name)
    return path.name.removesuffix(SUFFIX), None


async def _check(
    path: Path, against: Path | None, options: VettingProcessOptions | None
) -> tuple[Verdict, Verdict | None]:
    vetting = VettingProcess(options)
    try:
        verdict = await _vet(vetting, path, path)
        other = None if against is None or verdict.refusal else await _vet(vetting, against, path)
    finally:
        await vetting.close()
    return verdict, other


async def _vet(vetting: VettingProcess, path: Path, place: Path) -> Verdict:
    """Vet a file for a place: a copy of what lies there now may have any name."""
    name, version = place_of(place)
    try:
        check_model_name(name)
        model, _ = await asyncio.to_thread(read_file, path, FolderRepositoryOptions().max_bytes)
        version_of(model, version)
        check_manifest(path, hashlib.sha256(model).hexdigest())
    except (ContractError, UnfitError) as error:
        return Verdict("", (Step("read", passed=False, text=str(error)),))
    return await vetting.vet(model, name)
