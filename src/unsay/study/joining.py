"""Whether runs that were done elsewhere can be compared with the others of a study."""

from collections.abc import Iterable, Mapping

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


def check_versions(runs: Iterable[tuple[str, Mapping[str, object]]], here: Mapping[str, object] | None) -> None:
    """Refuse runs of different versions.

    Args:
        runs: the name of each, and the environment that it was made with.
        here: the versions here, where more runs are to be done here; else None.

    Raises:
        UserError: two runs were made with different versions, or one with others than those here.
    """
    first, wanted = "here", here
    for name, environment in runs:
        made = {part: environment.get(part) for part in VERSIONS}
        if wanted is None:
            first, wanted = name, made
        if differ := [pair for part in VERSIONS for pair in _differing(part, made[part], wanted[part])]:
            theirs, ours = (", ".join(some) for some in zip(*differ, strict=True))
            raise UserError(
                f"{name}: made with {theirs}, but {first} it is {ours}: runs of different versions are not compared; "
                "install the same, or do without this run"
            )


def _differing(name: str, theirs: object, ours: object) -> list[tuple[str, str]]:
    """What differs, by name and version on either side; of libraries only those that do."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        parts = dict.fromkeys([*theirs, *ours])
        return [pair for part in parts for pair in _differing(part, theirs.get(part), ours.get(part))]
    return [] if theirs == ours else [(f"{name} {theirs}", f"{name} {ours}")]
