"""All numbers that decide results, in one record: the settings of each part of the science, as a run uses them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.decompose.align import AlignSettings
from pipeline.decompose.rows import HeadSettings, ReadSettings
from pipeline.decompose.second_pass import ProjectSettings
from pipeline.decompose.spans import SpanSettings
from pipeline.effects.rows import EffectSettings
from pipeline.effects.written import WriteSettings
from pipeline.images.windows import ViewSettings
from pipeline.label.concepts import ClassPromptSettings
from pipeline.label.labels import LabelSettings
from pipeline.match.counterparts import MatchSettings
from pipeline.probe.evidence import EvidenceSettings, ExampleSettings
from pipeline.probe.model import ProbeSettings
from pipeline.visualize.ascent import VisualizeSettings
from pipeline.visualize.natural import NaturalSettings


@dataclass(frozen=True)
class Settings:
    """A field a part of the science; what a user can set of it is in `jobs.config.RunConfig`."""

    visualize: VisualizeSettings = field(default_factory=VisualizeSettings)
    natural: NaturalSettings = field(default_factory=NaturalSettings)
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    examples: ExampleSettings = field(default_factory=ExampleSettings)
    views: ViewSettings = field(default_factory=ViewSettings)
    label: LabelSettings = field(default_factory=LabelSettings)
    writes: WriteSettings = field(default_factory=WriteSettings)
    effect: EffectSettings = field(default_factory=EffectSettings)
    match: MatchSettings = field(default_factory=MatchSettings)
    class_prompts: ClassPromptSettings = field(default_factory=ClassPromptSettings)
    align: AlignSettings = field(default_factory=AlignSettings)
    spans: SpanSettings = field(default_factory=SpanSettings)
    project: ProjectSettings = field(default_factory=ProjectSettings)
    reads: ReadSettings = field(default_factory=ReadSettings)
    heads: HeadSettings = field(default_factory=HeadSettings)
