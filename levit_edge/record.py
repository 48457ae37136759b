"""The base of every record that is written to a file or printed as JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Record(BaseModel):
    """Immutable; unknown keys, NaN and infinity are refused.

    What a record computes from its fields is written beside them, for readers, and worked out again when it is read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_is_computed(cls, values: Any) -> Any:
        computed = cls.model_computed_fields
        if not computed or not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if name not in computed}
