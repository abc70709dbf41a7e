"""Figures of transfer sweeps by the geometry of the channel, as the sample has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from oectflow.extractors.base import Columns, Variable, register
from oectflow.extractors.transfer import GmMax
from oectflow.measurement import Batch

_LENGTHS = ("W", "L", "d")


@register("transfer.gm_normalized")
class GmNormalized(GmMax):
    """Largest transconductance of a sweep direction by the geometry of the channel."""

    unit = "S/m"
    description = "largest |gm| of the transfer curve, times L/(W d)"
    definition = f"max |dId/dVg| along one branch, times L/(W d) of the sample. {GmMax.definition}"
    formula = (
        r"\frac{L}{W d} \max_{V_g} \left| \frac{dI_d}{dV_g} \right|"
        r"\quad \left( = \mu C^* \, |V_{th} - V_g| \ \mathrm{in\ saturation} \right)"
    )
    reference = "Rivnay et al. (2015), Sci. Adv. 1, e1400251. doi:10.1126/sciadv.1400251"
    sample_keys: ClassVar[tuple[str, ...]] = (*_LENGTHS, *(f"u_{name}" for name in _LENGTHS))
    statuses: ClassVar[dict[str, str]] = {
        **GmMax.statuses,
        "no_geometry": "the sample lacks W, L or d; give a table of samples",
    }

    @property
    def variables(self) -> dict[str, Variable]:
        """The value, its status, and its standard errors by the noise and by the geometry."""
        found = super().variables
        value = found["value"]
        found["geometry_stderr"] = Variable(
            self.unit,
            "standard uncertainty by u_W, u_L and u_d; NaN where one is unknown",
            value.shape,
            value.dims,
            value.labels,
        )
        return found

    def columns(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Compute gm of many sweeps of one device, and divide it by what its geometry gives."""
        found = super().columns(batch, params)
        known = np.isfinite(found["value"])
        W, L, d = (batch.sample.get(name, np.nan) for name in _LENGTHS)
        for name, variable in self.variables.items():
            if variable.unit == self.unit and name in found:
                found[name] = found[name] * (L / (W * d))
        shares = [
            batch.sample.get(f"u_{name}", np.nan) / batch.sample.get(name, np.nan)
            for name in _LENGTHS
        ]
        found["geometry_stderr"] = np.abs(found["value"]) * np.sqrt(np.sum(np.square(shares)))
        if np.isnan(L / (W * d)):
            words = list(self.variables["status"].statuses)
            # Where there is no gm, the sweep has its own word for that.
            found["status"][known] = words.index("no_geometry")
        return found
