"""Results as types, one file a kind of result: what analyses write, and what pages, commands and notebooks read.

Nothing here needs torch. ``python -m hydralora.results`` prints every file with its fields (``docs/results.md``).
"""

from __future__ import annotations

from hydralora.results.answers import AnswerRow, Answers, Score
from hydralora.results.base import Part, Result
from hydralora.results.clusters import Clusters, cluster_name
from hydralora.results.comparison import Comparison, LayerComparison, PairFigures, PartSummary
from hydralora.results.corpus import CorpusManifest, ImportCounts, ImportOptions, Roles, SourceFile
from hydralora.results.experts import Change, Context, ExpertCard, Experts, GroupChange, LayerChange
from hydralora.results.export import Export, ExportedPart, LlamaCheck
from hydralora.results.maps import GroupTest, MatrixMap, Point
from hydralora.results.preview import Piece, Preview, PreviewColumn, PreviewExample, PreviewTable
from hydralora.results.quality import Finding, Quality, Shortened, TokenLengths
from hydralora.results.routing import Favourite, GroupGates, Routing, TokenClasses
from hydralora.results.runs import AdapterFacts, RunJournal, RunSummary, TrainingSet
from hydralora.results.weights import DriftRow, HeadFigures, Heads, Weights

__all__ = [
    "AdapterFacts",
    "AnswerRow",
    "Answers",
    "Change",
    "Clusters",
    "Comparison",
    "Context",
    "CorpusManifest",
    "DriftRow",
    "ExpertCard",
    "Experts",
    "Export",
    "ExportedPart",
    "Favourite",
    "Finding",
    "GroupChange",
    "GroupGates",
    "GroupTest",
    "HeadFigures",
    "Heads",
    "ImportCounts",
    "ImportOptions",
    "LayerChange",
    "LayerComparison",
    "LlamaCheck",
    "MatrixMap",
    "PairFigures",
    "Part",
    "PartSummary",
    "Piece",
    "Point",
    "Preview",
    "PreviewColumn",
    "PreviewExample",
    "PreviewTable",
    "Result",
    "Quality",
    "Roles",
    "Routing",
    "Shortened",
    "RunJournal",
    "RunSummary",
    "Score",
    "SourceFile",
    "TokenClasses",
    "TokenLengths",
    "TrainingSet",
    "Weights",
    "cluster_name",
]
