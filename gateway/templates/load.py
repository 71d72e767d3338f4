"""Reading templates: `templates.toml` and the bodies of the admin API, by one schema; each is compiled once to be sure.

Owns the written form (keys, bounds, which key goes with which type) and its errors, `templates.toml: template[id].key:
reason`. Refuses to know where else templates come from. Pure but for the one file it opens. Stands above `render`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from gateway.errors import ConfigError, ConfigProblem
from gateway.settings import Settings
from gateway.settings.loading import TEMPLATES, as_model, read_toml
from gateway.settings.schema import CategoryLabel, Domain, Name, Section, Tlvs
from gateway.templates.model import MAX_SOURCE, MAX_TEXT, Param, Registration, Template
from gateway.templates.params import BadValue, convert
from gateway.templates.render import TemplateFault, compile_template

MAX_VERSION: Final = 2**31 - 1
MAX_PARAMS: Final = 32
_PARAM_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
# Words that mean something in Liquid where a name could stand.
_TAKEN: Final = frozenset(
    {"and", "or", "not", "contains", "in", "true", "false", "nil", "null", "empty", "blank", "forloop"}
)
_BELONGS: Final[dict[str, tuple[str, ...]]] = {
    "min_length": ("string", "code"),
    "max_length": ("string", "code", "url"),
    "pattern": ("string",),
    "enum": ("string",),
    "signature": ("string",),
    "min": ("int", "decimal"),
    "max": ("int", "decimal"),
    "places": ("decimal",),
    "domains": ("url",),
}
_LENGTHS: Final = {"string": (1, 100), "code": (4, 8), "url": (1, 200)}
_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,6})?")

Length = Annotated[int, Field(ge=0, le=MAX_TEXT)]
Bound = int | float | str


class ParamEntry(Section):
    type: Literal["string", "code", "int", "decimal", "date", "url"]
    optional: bool = False
    default: str | int | float | date | None = None
    min_length: Length | None = None
    max_length: Length | None = None
    pattern: Annotated[str, Field(max_length=200)] = ""
    enum: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]], Field(default_factory=list, max_length=200)
    ]
    signature: bool = False
    min: Bound | None = None
    max: Bound | None = None
    places: Annotated[int, Field(ge=0, le=6)] = 2
    domains: Annotated[list[Domain], Field(default_factory=list, max_length=100)]

    @model_validator(mode="after")
    def _fits_its_type(self) -> ParamEntry:
        for name, types in _BELONGS.items():
            if name in self.model_fields_set and self.type not in types:
                raise ValueError(f"{name} goes with {' and '.join(types)} only")
        if self.type == "url" and not self.domains:
            raise ValueError("domains: those that links may lead to are wanted")
        if self.pattern:
            try:
                re.compile(self.pattern)
            except re.error:
                raise ValueError("pattern: not a regular expression") from None
        for name in ("min", "max"):
            bound = getattr(self, name)
            if bound is not None and not _NUMBER.fullmatch(_written(bound)):
                raise ValueError(f"{name}: a number of at most 15 digits, 6 more behind the point, is wanted")
            if bound is not None and self.type == "int" and not isinstance(bound, int):
                raise ValueError(f"{name}: a whole number is wanted")
        if self.min is not None and self.max is not None and Decimal(_written(self.min)) > Decimal(_written(self.max)):
            raise ValueError("min is above max")
        least, most = self.lengths()
        if least > most:
            raise ValueError("min_length is above max_length")
        return self

    def lengths(self) -> tuple[int, int]:
        """Return the lengths in force: those written, else the type's."""
        least, most = _LENGTHS.get(self.type, (1, 100))
        longest = most if self.max_length is None else self.max_length
        if self.min_length is not None:
            return self.min_length, longest
        return min(least, longest), longest


class RegistrationEntry(Section):
    channels: Annotated[list[Name], Field(default_factory=list, max_length=100)]
    carrier: Name | None = None
    tlvs: Tlvs = ()
    note: Annotated[str, Field(max_length=100)] = ""

    @model_validator(mode="after")
    def _one_of_them(self) -> RegistrationEntry:
        if self.channels and self.carrier is not None:
            raise ValueError("channels or carrier; one of the two is meant")
        return self


class TemplateEntry(Section):
    id: Name
    version: Annotated[int, Field(ge=1, le=MAX_VERSION)] = 1
    category: CategoryLabel
    text: Annotated[str, Field(min_length=1, max_length=MAX_SOURCE)]
    params: Annotated[dict[str, ParamEntry], Field(default_factory=dict, max_length=MAX_PARAMS)]
    accounts: Annotated[list[Name], Field(default_factory=list, max_length=1000)]
    registration: Annotated[list[RegistrationEntry], Field(default_factory=list, max_length=100)]
    about: Annotated[str, Field(max_length=400)] = ""


class TemplatesFile(Section):
    template: Annotated[list[TemplateEntry], Field(default_factory=list, max_length=1000)]


def load_templates(settings: Settings) -> tuple[Template, ...]:
    """Return the templates of `templates.toml`, of which each compiles and fits the rest of the configuration.

    Raises:
        ConfigError: with every problem found.
    """
    if settings.templates_file is None:
        return ()
    entries = read_toml(settings.templates_file, TemplatesFile).template
    problems: list[ConfigProblem] = []
    found = []
    for entry in entries:
        try:
            found.append(_template(entry, "file"))
        except TemplateProblem as wrong:
            problems.append(ConfigProblem(TEMPLATES, f"template[{entry.id}].{wrong.key}", wrong.reason))
    for (name, version), count in Counter((t.id, t.version) for t in found).items():
        if count > 1:
            problems.append(ConfigProblem(TEMPLATES, f"template[{name}].version", f"{version} stands {count} times"))
    for template in found:
        for key, reason in misfits(template, settings):
            problems.append(ConfigProblem(TEMPLATES, f"template[{template.id}].{key}", reason))
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def read_template(tree: Any, *, version: int = 1) -> Template:
    """Return a template of the admin API: the same keys as a table of the file, without `version`.

    Raises:
        ConfigError: with every problem found, each with the key as it stands in the body.
    """
    entry = as_model("", {**tree, "version": version} if isinstance(tree, dict) else tree, TemplateEntry)
    try:
        return _template(entry, "store")
    except TemplateProblem as wrong:
        raise ConfigError([ConfigProblem("", wrong.key, wrong.reason)]) from None


def misfits(template: Template, settings: Settings) -> Iterable[tuple[str, str]]:
    """Yield (key, reason) of what a template names and the configuration does not have."""
    accounts = {account.id for account in settings.accounts}
    channels = {channel.id for channel in settings.channels}
    for name in sorted(template.accounts - accounts):
        yield "accounts", f"no account {name} in accounts.toml"
    for number, entry in enumerate(template.registrations, 1):
        for name in sorted(entry.channels - channels):
            yield f"registration[{number}].channels", f"no channel {name} in channels.toml"


class TemplateProblem(ValueError):
    """One thing wrong in a template that its schema cannot see: which key, and why."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


def _template(entry: TemplateEntry, source: str) -> Template:
    for name in entry.params:
        if not _PARAM_NAME.fullmatch(name) or name in _TAKEN:
            shown = f"params.{name}" if _PARAM_NAME.fullmatch(name) else "params"
            raise TemplateProblem(shown, "a name is a letter and up to 31 letters, digits and _, and no word of Liquid")
    template = Template(
        entry.id,
        entry.version,
        entry.category,
        entry.text,
        tuple(_param(name, one) for name, one in entry.params.items()),
        frozenset(entry.accounts),
        tuple(Registration(frozenset(r.channels), r.carrier or "", r.tlvs, r.note) for r in entry.registration),
        entry.about,
        source,
    )
    for param in template.params:
        for value in (*param.enum, *((param.default,) if param.default is not None else ())):
            try:
                convert(param, value)
            except BadValue as wrong:
                key = f"params.{param.name}.{'default' if value is param.default else 'enum'}"
                raise TemplateProblem(key, str(wrong)) from None
    try:
        compile_template(template)
    except TemplateFault as wrong:
        raise TemplateProblem("text", str(wrong)) from None
    return template


def _param(name: str, entry: ParamEntry) -> Param:
    least, most = entry.lengths()
    return Param(
        name,
        entry.type,
        entry.optional or entry.default is not None,
        entry.default,
        least,
        most if not entry.enum else MAX_TEXT,
        entry.pattern,
        tuple(entry.enum),
        entry.signature,
        "" if entry.min is None else _written(entry.min),
        "" if entry.max is None else _written(entry.max),
        entry.places,
        tuple(entry.domains),
    )


def _written(number: int | float | str) -> str:
    return number if isinstance(number, str) else repr(number)
