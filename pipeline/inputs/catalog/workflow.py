"""Workflows as flat parameters: ``workflow_step_1_2_param_cycles`` is what a search asks for."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import xxhash
from sqlalchemy import Connection, insert, select

from oectflow.pipeline.inputs.catalog.schema import workflow_parameters, workflows

#: Longer texts are compared by their beginning and a hash: database indexes have a limit.
_LONGEST_TEXT = 200
_DEEPEST = 50

Parameters = dict[str, Any]


def flatten_workflow(workflow: Any) -> Parameters:
    """Return the parameters of a workflow by flat name.

    Parameters
    ----------
    workflow
        What ``workflow.json`` holds: a list of steps, or one step; a step of type ``loop`` has
        ``steps`` of its own.

    Returns
    -------
    ``workflow_step_<i>[_<j>…]_type``, ``…_id``, ``…_command_id``, ``…_iterations`` and
    ``…_param_<name>``, numbered from 1 on each level.  Numbers, texts, booleans and None stay what
    they are, lists and objects become JSON text.  Empty where there is no workflow.
    """
    return dict(_flat(workflow, "workflow_step", 0))


def _flat(steps: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(steps, Mapping):
        steps = [steps]
    if not isinstance(steps, list) or depth > _DEEPEST:
        return
    for number, step in enumerate(steps, 1):
        if not isinstance(step, Mapping):
            continue
        name = f"{prefix}_{number}"
        for key in ("type", "id", "command_id", "iterations"):
            if key in step:
                yield f"{name}_{key}", _plain(step[key])
        parameters = step.get("params")
        if isinstance(parameters, Mapping):
            for key, value in parameters.items():
                yield f"{name}_param_{key}", _plain(value)
        yield from _flat(step.get("steps"), name, depth + 1)


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def comparable(value: Any) -> tuple[float | None, str | None]:
    """Return a value as the number or the text by which the database finds it.

    Booleans are the numbers 1 and 0, as in Python; None is neither number nor text.
    """
    if value is None:
        return None, None
    if isinstance(value, bool | int | float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number, None
    text = tidy_text(str(value))
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT] + xxhash.xxh3_128_hexdigest(text.encode())
    return None, text


def tidy_text(text: str) -> str:
    """Return a text without what no database stores: NUL and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def intern_workflow(connection: Connection, parameters: Mapping[str, Any]) -> int | None:
    """Return the id of a workflow, which is stored if no experiment had it before.

    Parameters
    ----------
    connection
        In a writing transaction.
    parameters
        From :func:`flatten_workflow`; an empty one has no id.
    """
    if not parameters:
        return None
    document = tidy_text(json.dumps(parameters, ensure_ascii=False))
    digest = xxhash.xxh3_128_hexdigest(document.encode())
    known = connection.scalar(select(workflows.c.id).where(workflows.c.digest == digest))
    if known is not None:
        return int(known)
    result = connection.execute(
        insert(workflows).values(digest=digest, parameters=document).returning(workflows.c.id)
    )
    workflow_id = int(result.scalar_one())
    rows = {}
    for key, value in parameters.items():
        number, text = comparable(value)
        name = comparable(key)[1]
        rows[name] = {"workflow_id": workflow_id, "key": name, "number": number, "text": text}
    connection.execute(insert(workflow_parameters), list(rows.values()))
    return workflow_id
