"""Which version of a model a sidecar serves under a name, by what it says of itself."""

from tickserve.v1 import predictor_pb2 as wire

from inference_server.commands.features import nearest
from inference_server.rpc.caller import Caller, CallError
from inference_server.serving.registry import DEFAULT_VERSION, Which


def served(caller: Caller, name: str, which: Which) -> tuple[wire.ModelDescription, wire.VersionDescription]:
    """Return the model and the version that a call for `which` gets now; CallError where none answers."""
    models = {model.name: model for model in caller.describe_models().models}
    if name not in models:
        raise CallError(f"no model {name!r}; {nearest(name, models)}")
    model = models[name]
    if which == DEFAULT_VERSION and not model.default_version:
        problem = f": {model.problem}" if model.problem else ""
        raise CallError(f"model {name!r} has no available version{problem}")
    if isinstance(which, str) and which not in model.labels:
        raise CallError(f"model {name!r} has no label {which!r}; {nearest(which, model.labels)}")
    number = model.labels[which] if isinstance(which, str) else which or model.default_version
    found = {version.version: version for version in model.versions}.get(number)
    if found is None or found.state != found.AVAILABLE:
        state = f"; it is at {found.State.Name(found.state)}: {found.reason}".rstrip(": ") if found else ""
        raise CallError(f"model {name!r} has no available version {number}{state}")
    return model, found
