"""What a training logged, report by report."""

import math
import uuid
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass
class History:
    """Means of the logged values over each report interval, at the step where the interval ended.

    steps: numbers of steps. logs: name -> values, as long as steps, NaN where a name was not
    logged. seconds: spent in `fit`, by `runtime.clock`. images: that passed through the loss.
    run: names the training, through all its parts.
    """

    steps: list[int] = field(default_factory=list)
    logs: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    images: int = 0
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0

    def __getitem__(self, name: str) -> list[float]:
        if name not in self.logs:
            raise KeyError(f"no value {name!r} was logged; there are {', '.join(self.logs)}")
        return self.logs[name]

    def append(self, step: int, means: dict[str, float]) -> None:
        """Add a report."""
        before = len(self.steps)
        self.steps.append(step)
        for name, value in means.items():
            self.logs.setdefault(name, [math.nan] * before).append(value)
        for values in self.logs.values():
            values.extend([math.nan] * (before + 1 - len(values)))

    def state_dict(self) -> dict[str, Any]:
        """As a checkpoint keeps it."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "History":
        """From a checkpoint. Raises ValueError for one that holds what is not known here."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(state.keys() - known):
            raise ValueError(f"its history holds {', '.join(unknown)}, of a newer version")
        return cls(**state)
