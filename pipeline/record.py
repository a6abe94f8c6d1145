"""The base of everything that is written as JSON and read back."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Fields that never change and allow no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
