"""Whether runs that were done elsewhere can be compared with the others of a study."""

from collections.abc import Iterable, Mapping, Sequence

from unsay.errors import UserError
from unsay.pipeline.finished import VERSIONS
from unsay.study.kept import Found, RunId
from unsay.study.plan import Plan


def of_study(planned: Plan, known: Iterable[tuple[RunId, Found]]) -> dict[RunId, list[Found]]:
    """Those runs that a study asks for, whatever their settings are.

    Raises:
        UserError: there are runs, and none of them is.
    """
    wanted = {RunId.original(model) for model in planned.study.models}
    wanted |= {RunId.trained(v.model, v.name, seed) for v in planned.variants for seed in planned.study.seeds}
    found: dict[RunId, list[Found]] = {}
    strange = None
    for which, run in known:
        if which in wanted:
            found.setdefault(which, []).append(run)
        else:
            strange = run.run.name
    if strange is not None and not found:
        raise UserError(f"{strange}: neither this run nor another one that was handed over is of this study")
    return found


def check_versions(known: Mapping[RunId, Sequence[Found]], here: Mapping[str, object] | None) -> None:
    """Refuse runs of different versions.

    Args:
        known: the runs.
        here: the versions here, where more runs are to be done here; else None.

    Raises:
        UserError: two runs were made with different versions, or one with others than those here.
    """
    first, made = "here", here
    for found in (one for some in known.values() for one in some):
        theirs = {name: found.run.environment.get(name) for name in VERSIONS}
        if made is None:
            first, made = found.run.name, theirs
        for name in VERSIONS:
            if theirs[name] != made[name]:
                raise UserError(
                    f"{found.run.name}: made with {_words(name, theirs)}, but {first} it is {_words(name, made)}: runs "
                    "of different versions are not compared; install the same, or leave these runs out"
                )


def _words(name: str, made: Mapping[str, object]) -> str:
    value = made[name]
    if isinstance(value, Mapping):
        return ", ".join(f"{library} {version}" for library, version in value.items())
    return f"{name} {value}"


def hardware(made_with: Mapping[str, object]) -> tuple[object, ...]:
    """What of an environment decides how long something takes."""
    return tuple(made_with.get(name) for name in ("cores", "threads", "accelerator"))
