"""The kinds of values that records are made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

State = Literal["exception", "not finite", "out of memory", "timed out", "killed", "pruned"]
"""How a training, or another task, can fail to finish."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=160)]
"""Safe as a file name."""
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]
"""A name without dots, so that names joined by dots stay distinct."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Bytes = Annotated[int, Field(ge=0, le=2**63)]
LONGEST = 1e10
"""Seconds that a record can claim: some three centuries."""
