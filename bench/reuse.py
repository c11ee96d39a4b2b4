"""Whether the artifacts behind a row would serve today's code again, and if not, why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench import ENGINE
from bench.registry import Methods, source_hash
from bench.results import Record
from bench.store import Artifact, Store

RESTS_ON = {
    "corpus": ("tokenizer",),
    "teacher": ("corpus",),
    "text": ("corpus", "teacher"),
    "signals": ("corpus", "teacher", "text"),
    "student": ("corpus", "teacher", "text", "signals", "sweep"),
    "scores": ("corpus", "teacher", "student"),
    "metric": ("corpus", "scores"),
    "speed": ("corpus",),
}
"""What a phase may need, for one whose manifest is not there to tell."""


@dataclass(frozen=True)
class Finding:
    """What has become of one artifact of a row."""

    kind: str
    key: str
    artifact: Artifact | None
    """None where it is missing."""
    again: bool
    """Whether the phase would be carried out again for this row."""
    reasons: tuple[str, ...]
    """Why; empty where it would not."""

    @property
    def verdict(self) -> str:
        """The finding in words."""
        if self.again:
            return f"would run again: {'; '.join(self.reasons)}"
        return "would be used again" if self.artifact else "missing, and not needed: what rests on it is there"


def inspect(record: Record, store: Store, methods: Methods, *, whole: bool = True) -> tuple[Finding, ...]:
    """What the same command would do with each artifact of a row, on the same text and with the same presets.

    A phase runs again where its artifact is wanted and missing, or where it would now be another: the code behind its
    kind or its method's file was changed, or something that it rests on would be another.

    Args:
        whole: whether the record and its hypotheses are as they were written. If so, nothing is wanted but the row's
            scores, its further ones, and what is missing on the way to them; otherwise all that the record tells of.
    """
    lineage = _Lineage(record, store, methods)
    wanted: set[str] = set()

    def want(key: str) -> None:
        if key not in wanted and (lineage.artifact(key) is None or lineage.changes(key)):
            wanted.add(key)
            for need in lineage.needs(key):
                want(need)

    for key, kind in lineage.kinds.items():
        if kind in ("scores", "metric", "speed") or not whole:
            want(key)
    findings = []
    for key, kind in lineage.kinds.items():
        artifact, again = lineage.artifact(key), key in wanted
        missing = () if artifact else ("its artifact is missing",)
        findings.append(Finding(kind, key, artifact, again, missing + lineage.changes(key) if again else ()))
    return tuple(findings)


class _Lineage:
    """The artifacts that a record names, and those that these rest on."""

    def __init__(self, record: Record, store: Store, methods: Methods) -> None:
        self.record, self.store, self.methods = record, store, methods
        self.kinds = {key: name.partition("-")[0] for name, key in record.artifacts.items()}
        self._artifacts: dict[str, Artifact | None] = {}
        self._changes: dict[str, tuple[str, ...]] = {}

    def artifact(self, key: str) -> Artifact | None:
        """The artifact, looked for among all kinds where the record does not name it."""
        if key not in self._artifacts:
            kinds = [self.kinds[key]] if key in self.kinds else list(ENGINE)
            # Names of a record are nobody's word for a folder: what is no address is not looked up.
            known = [kind for kind in kinds if kind in ENGINE] if re.fullmatch("[0-9a-f]{64}", key) else []
            self._artifacts[key] = next(filter(None, (self.store.find(kind, key) for kind in known)), None)
        return self._artifacts[key]

    def needs(self, key: str) -> list[str]:
        """What an artifact rests on: as its manifest says, or else what its kind may need of what the record names."""
        if artifact := self.artifact(key):
            return list(artifact.inputs["needs"])
        return [need for need, kind in self.kinds.items() if kind in RESTS_ON.get(self.kinds.get(key, ""), ())]

    def changes(self, key: str) -> tuple[str, ...]:
        """Why the phase would now lead to another artifact, as far as can be told; empty where it would not."""
        if key not in self._changes:
            self._changes[key] = tuple(self._found_changes(key))
        return self._changes[key]

    def _found_changes(self, key: str) -> Iterator[str]:
        inputs = artifact.inputs if (artifact := self.artifact(key)) else self._recorded(key)
        kind, version = inputs.get("kind"), inputs.get("engine")
        if kind in ENGINE and version != ENGINE[kind]:
            yield f"the code behind {kind} went from version {version} to {ENGINE[kind]}"
        if "source" in inputs:
            name = inputs.get("method", "baseline")
            if name not in self.methods.found:
                yield f"the method {name!r} is not found here"
            elif source_hash(self.methods.get(name)) != inputs["source"]:
                yield f"the file of method {name!r} was changed"
        for need in self.needs(key):
            if self.changes(need):
                found = self.artifact(need)
                kind = self.kinds.get(need) or (found.kind if found else "artifact")
                yield f"it rests on {kind} {need[:8]}, which would be another"

    def _recorded(self, key: str) -> Mapping[str, Any]:
        """What the record says of the inputs of an artifact that is missing."""
        kind = self.kinds.get(key)
        if kind is None or kind not in self.record.engine:
            return {}
        method = {"method": self.record.method.name, "source": self.record.method.source_sha256}
        return {"kind": kind, "engine": self.record.engine[kind]} | (method if kind == "student" else {})
