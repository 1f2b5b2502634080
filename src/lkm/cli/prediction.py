# SPDX-License-Identifier: MIT
"""Predictions of loads, for people and for programs; and beside what the kernel then did."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lkm.errors import LkmError
from lkm.preflight.kernel import Providers, Request
from lkm.preflight.many import check_file
from lkm.preflight.read import read_target
from lkm.preflight.values import Certainty, Prediction, Problem, errno_name
from lkm.root import Root

__all__ = ["compared_lines", "predict_load", "prediction_as_object", "prediction_lines"]

_SHOWN = 4


def predict_load(root: Root, path: str, params: str) -> Prediction | None:
    """What insmod of this file into the running kernel would come to; None if the file or kernel cannot be read."""
    try:
        return check_file(path, read_target(root, live=True, providers=Providers.LOADED), Request(params))
    except LkmError:
        return None


def compared_lines(prediction: Prediction, actual: int) -> list[str]:
    """The foretold answer beside the kernel's, and the causes. `actual` is the errno that the load failed with."""
    if prediction.loads is None:
        foretold = "cannot be told"
    else:
        foretold = errno_name(prediction.errno) if prediction.errno else "would load"
    agrees = prediction.errno == actual
    lines = [
        f"foretold:   {foretold}",
        f"the kernel: {errno_name(actual)}{'' if agrees else ' (not as foretold)'}",
    ]
    lines += [f"  not known: {sentence}" for sentence in prediction.unknown]
    return lines + _problem_lines(prediction.problems)


def prediction_as_object(prediction: Prediction) -> dict[str, Any]:
    """A prediction for JSON."""
    return {
        "module": prediction.module, "release": prediction.release, "loads": prediction.loads,
        "errno": prediction.errno, "lines": list(prediction.lines), "unknown": list(prediction.unknown),
        "signature": prediction.signature and prediction.signature.value,
        "problems": [{
            "cause": p.cause.value, "errno": p.errno, "summary": p.words, "remedy": p.remedy, "lines": list(p.lines),
            "certainty": p.certainty.value, "source": p.source, "symbol": p.symbol,
        } for p in prediction.problems],
    }  # fmt: skip


def prediction_lines(prediction: Prediction, path: str = "") -> list[str]:
    """A prediction in words."""
    name = prediction.module or path
    if prediction.loads is None:
        head = f"{name}: cannot be told for {prediction.release}"
    elif prediction.loads:
        head = f"{name}: would load into {prediction.release}, as far as its init is not what fails"
        if not path:
            head = f"{name}: is built into {prediction.release}"
    else:
        head = f"{name}: would not load into {prediction.release}: {errno_name(prediction.errno or 0)}"
    lines = [head]
    lines += [f"  the kernel would say: {line}" for line in prediction.lines[:_SHOWN]]
    if len(prediction.lines) > _SHOWN:
        lines.append(f"  … and {len(prediction.lines) - _SHOWN} more lines")
    lines += [f"  not known: {sentence}" for sentence in prediction.unknown]
    lines += _problem_lines(prediction.problems)
    return lines


def _problem_lines(problems: Iterable[Problem]) -> list[str]:
    """Each problem; of many of one kind the first few, and how many more there are."""
    groups: dict[tuple[object, ...], list[Problem]] = {}
    for problem in problems:
        key = (problem.cause, problem.errno is None, problem.certainty, problem.remedy)
        groups.setdefault(key, []).append(problem)
    lines = []
    for group in groups.values():
        first = group[0]
        mark = "note: " if first.errno is None else ""
        doubt = "" if first.certainty is Certainty.CERTAIN else f" ({first.certainty.value})"
        lines += [f"  {mark}{problem.words}{doubt}" for problem in group[:_SHOWN]]
        if len(group) > _SHOWN:
            lines.append(f"  … and {len(group) - _SHOWN} more of that kind (--json has all)")
        if first.remedy:
            lines.append(f"    {first.remedy}")
    return lines
