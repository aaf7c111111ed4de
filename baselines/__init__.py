"""The methods that aSeqDIP is compared with: a file and a function each, with one signature."""

from importlib import import_module
from pathlib import Path
from typing import Any

from utils.errors import require
from utils.methods import ASEQDIP, SET_BY_THE_SCRIPT, Method, flag, takes

NOT_METHODS = ("__init__", "classical", "primal_dual")  # files of this folder that hold none
NEEDS = {"reference", "encoder", "prior", "varnet_weights"}  # what Method.needs can name
NAMES = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in NOT_METHODS)


def find(name: str) -> Method:
    """Return the method of a name as its file declares it; aSeqDIP's too."""
    return ASEQDIP[name] if name in ASEQDIP else import_module(f"baselines.{name}").METHOD


def styles() -> dict[str, dict[str, Any]]:
    """Return the line styles of the methods that declare one, by label."""
    methods = map(find, (*ASEQDIP, *NAMES))
    return {method.label: method.style for method in methods if method.style}


def chosen(args: Any, others: dict[str, dict[str, Any]]) -> list[Method]:
    """Read --method and --set.

    Args:
        args: the script's Args.
        others: the task's methods besides aSeqDIP, by name, with the settings that differ in this
            task from their own defaults.

    Returns:
        The methods asked for, in their order; of all, also those that lack something.

    Raises:
        InputError: a method or a setting is not known.
    """
    known = (*ASEQDIP, *others)
    names = [name.strip() for name in args.method.split(",")]
    if args.method == "all":
        names = [*known]
    for name in names:
        require(
            name in known,
            f"--method {name}: expected all by itself, or one or several of these with commas "
            "between: " + ", ".join(known),
        )
    require(len(set(names)) == len(names), f"--method {args.method}: a method is named twice")
    methods = {name: find(name).with_settings(**others.get(name, {})) for name in names}
    for i, name in enumerate(names):
        whole = ",".join((*methods[name].parts, name))
        require(
            {*methods[name].parts} <= {*names[:i]},
            f"--method {args.method}: {name} needs the images of others; write --method {whole}",
        )
    for name, method in methods.items() if args.method != "all" else ():
        lacking = method.lacks(args)
        require(lacking is None, f"--method {name}: {lacking}")
    for needs in NEEDS.intersection(args.changed):
        takers = [name for name in known if find(name).needs == needs]
        require(
            not methods.keys().isdisjoint(takers),
            f"{flag(needs)}: for --method {', '.join(takers)} only",
        )
    for field in args.only_aseqdip:
        takers = " and ".join(name for name in ("aseqdip", *others) if takes(name, field))
        require(
            field not in args.changed or any(takes(name, field) for name in names),
            f"{flag(field)}: for {takers} only; the other methods' settings are changed with --set",
        )
    if "lr" in args.changed and not any(n in ASEQDIP or "lr" in others[n] for n in names):
        print(
            f"--lr {args.lr:g} is not used: {', '.join(names)} takes no rate, or one of its own "
            "(--set METHOD.lr=)"
        )
    require(
        names != ["aseqdip_lambda0"] or "lambda_ae" not in args.changed,
        f"--lambda-ae {args.lambda_ae:g}: aseqdip_lambda0 has lambda 0; take --method aseqdip",
    )
    shared = dict(zip(SET_BY_THE_SCRIPT, (args.seed, args.K * args.N), strict=True))
    for name, method in methods.items():  # the seed of aSeqDIP, and mostly as many updates
        fixed = others.get(name, {})
        given = {k: v for k, v in shared.items() if k in method.settings and k not in fixed}
        method.settings.update(given)
    for text in args.set:
        _set(text, methods)
    return list(methods.values())


def _set(text: str, methods: dict[str, Method]) -> None:
    key, equals, value = text.partition("=")
    owner, dot, name = key.rpartition(".")
    require(bool(equals), f"--set {text}: expected name=value or method.name=value")
    if dot:
        require(
            owner in methods and owner not in ASEQDIP,
            f"--set {text}: {owner} is not among the baselines asked for with --method",
        )
        takers = [methods[owner]]
    else:
        takers = [method for method in methods.values() if key in method.settings]
        require(
            len(takers) > 0,
            f"--set {text}: none of {', '.join(methods)} has such a setting; those of aSeqDIP "
            "are flags",
        )
    for method in takers:
        method.set(name, value)
