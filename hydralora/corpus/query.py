"""What a selection of examples is asked by: a text, facets and a loop on the map, all of which must hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hydralora.bounds import LARGEST_ID, LONGEST_NAME, Id
from hydralora.limits import MAX_CHARACTERS, MAX_LABEL_CHARACTERS
from hydralora.results import cluster_name

LONGEST_SEARCH = 500  # characters
LONGEST_LANGUAGE = 8  # characters of a code
MOST_CHOICES = 100  # of one facet
MOST_PICKED = 1_000  # rows that were clicked one by one
MOST_CORNERS = 400  # of a loop; the page thins what a hand has drawn
FARTHEST = 1_000_000.0  # of a corner, either way; the map itself reaches from 0 to 65,535

Language = Annotated[str, Field(max_length=LONGEST_LANGUAGE)]
Characters = Annotated[int, Field(ge=0, le=MAX_CHARACTERS)]
Tokens = Annotated[int, Field(ge=0, le=10_000_000)]
Place = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST, allow_inf_nan=False)]


class Query(BaseModel):
    """One selection as a question: what is empty asks for nothing, everything else must hold at once.

    Choices of one facet are alternatives: ``labels=["a", "b"]`` takes both. Positions count from 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    search: Annotated[str, Field(max_length=LONGEST_SEARCH)] = Field(
        "", description="Plain text that stands in prompt, answer or history, case and white space around it aside"
    )
    labels: Annotated[list[Annotated[str, Field(max_length=MAX_LABEL_CHARACTERS)]], Field(max_length=MOST_CHOICES)] = (
        Field([], description="Labels of the corpus")
    )
    clusters: Annotated[list[Annotated[int, Field(ge=0, le=LARGEST_ID)]], Field(max_length=MOST_CHOICES)] = Field(
        [], description="Clusters of the newest clustering, from 0"
    )
    languages: Annotated[list[Language], Field(max_length=MOST_CHOICES)] = Field(
        [], description="ISO 639 codes, as the newest quality report told them; `none` where it told none"
    )
    flags: Annotated[list[Annotated[str, Field(max_length=LONGEST_NAME)]], Field(max_length=MOST_CHOICES)] = Field(
        [], description="Kinds of findings of the newest quality report"
    )
    min_length: Characters | None = Field(None, description="Fewest characters of prompt and answer together")
    max_length: Characters | None = Field(None, description="Most characters of prompt and answer together")
    min_tokens: Tokens | None = Field(None, description="Fewest tokens, as the newest quality report counted them")
    max_tokens: Tokens | None = Field(None, description="Most tokens, as the newest quality report counted them")
    left_out: Literal["", "yes", "no"] = Field("", description="Only what is left out, or only what is not")
    saved: Id | None = Field(None, description="A named selection, by its id")
    rows: Annotated[list[Id], Field(max_length=MOST_PICKED)] = Field([], description="Positions that were picked")
    loop: Annotated[list[tuple[Place, Place]], Field(max_length=MOST_CORNERS)] = Field(
        [], description="Corners of a loop on the map, in its units of 0 to 65,535; at least three"
    )

    @field_validator("search")
    @classmethod
    def _strip(cls, text: str) -> str:
        return text.strip()

    @field_validator("loop")
    @classmethod
    def _check_loop(cls, corners: list[tuple[float, float]]) -> list[tuple[float, float]]:
        if corners and len(corners) < 3:
            raise ValueError(f"A loop has at least three corners, got {len(corners)}. Draw it around some points.")
        return corners

    @property
    def is_empty(self) -> bool:
        """Whether it asks for nothing, and so selects every example."""
        return self == Query()

    @property
    def needs_clusters(self) -> bool:
        """Whether it can only be answered where the corpus was clustered."""
        return bool(self.clusters or self.loop)

    def dump(self) -> dict[str, Any]:
        """What it asks for, as JSON."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def without(self, *names: str) -> Self:
        """The same without these fields."""
        return type(self)(**{name: value for name, value in self.dump().items() if name not in names})

    def words(self) -> str:
        """What it asks for in words, as the reason of an exclusion."""
        told = [f"“{self.search}”" if self.search else ""]
        told += [", ".join(labels) for labels in [self.labels] if labels]
        told.append(", ".join(cluster_name(number) for number in self.clusters))
        told.append(", ".join(f"language {code}" for code in self.languages))
        told.append(", ".join(self.flags))
        told.append(_between(self.min_length, self.max_length, "characters"))
        told.append(_between(self.min_tokens, self.max_tokens, "tokens"))
        told.append({"": "", "yes": "left out", "no": "not left out"}[self.left_out])
        told.append("" if self.saved is None else f"selection {self.saved}")
        told.append({0: "", 1: "one row"}.get(len(self.rows), f"{len(self.rows)} rows"))
        told.append("a loop on the map" if self.loop else "")
        return "; ".join(filter(None, told))


def _between(least: int | None, most: int | None, unit: str) -> str:
    if least is None and most is None:
        return ""
    if least is None or most is None:
        return f"at most {most:,} {unit}" if least is None else f"at least {least:,} {unit}"
    return f"{least:,} to {most:,} {unit}"
