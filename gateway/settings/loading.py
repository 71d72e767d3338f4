"""Read the configuration folder: four TOML files, the number segment tables beside them, their secrets.

Owns the file I/O of the configuration and the turn from `schema` models into `values`. Everything wrong is
collected and raised at once as `ConfigError`; nothing is half-applied, so a reload that fails leaves the old
revision whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from gateway.errors import ConfigError, ConfigProblem
from gateway.model import Category, Secret
from gateway.settings import schema
from gateway.settings.crosscheck import cross_check
from gateway.settings.local_keys import only_local, with_local, without_local
from gateway.settings.packaged import packaged_config_dir
from gateway.settings.references import Resolver
from gateway.settings.tls import tls_problems
from gateway.settings.values import (
    AccountSettings,
    AdminSettings,
    ApiSettings,
    CategorySettings,
    ChannelSettings,
    ConfigSettings,
    ConsoleSettings,
    DispatchSettings,
    InboundSettings,
    KeywordSettings,
    LogSettings,
    OperatorSettings,
    PortedSettings,
    QualitySettings,
    RankedChannel,
    ReceiptsSettings,
    RouteMatch,
    RouteSettings,
    Settings,
    SignatureSettings,
    StoreSettings,
    TracingSettings,
    WebhookSettings,
    WebhooksSettings,
    default_categories,
)
from gateway.settings.webhook_form import secret_key

MAX_FILE_BYTES = 1 << 20
MAX_TABLE_BYTES = 16 << 20
MAX_DEPTH = 16
GATEWAY, CHANNELS, ROUTES, ACCOUNTS = "gateway.toml", "channels.toml", "routes.toml", "accounts.toml"
PORTED_CODES = "ported_codes.csv"
FAILURE_CODES = "failure_codes.csv"
OPTOUT_WORDS = "optout_words.csv"
TEMPLATES = "templates.toml"
QUIET_HOURS, TIME_ZONES, CONTENT_WORDS = "quiet_hours.csv", "time_zones.csv", "content_words.csv"
FILES = (GATEWAY, CHANNELS, ROUTES, ACCOUNTS)
TABLES = (PORTED_CODES, FAILURE_CODES, OPTOUT_WORDS, QUIET_HOURS, TIME_ZONES, CONTENT_WORDS)
SEGMENTS = "number_segments"
TLS_FILES = ("tls_ca", "tls_cert", "tls_key")

_Model = TypeVar("_Model", bound=schema.Section)


def load(
    config_dir: Path,
    env: Mapping[str, str] = os.environ,
    *,
    source: Path | None = None,
    local: Settings | None = None,
) -> Settings:
    """Return the settings that `config_dir` holds, secrets resolved from `env` and files.

    With `source` the files are read from there (a revision that was written out, see `bundle`), while relative names of
    secrets' files and certificates still mean those of `config_dir`. With `local` the machine's keys (`local_keys`) are
    those, and what the files say of them is not looked at.

    Raises:
        ConfigError: with all problems found, each with file, key and reason; never with a secret.
    """
    return _Loader(Path(config_dir), env, source=source, local=local).load()


def load_local(config_dir: Path, env: Mapping[str, str] = os.environ, *, source: Path | None = None) -> Settings:
    """Return settings that have nothing but the machine's keys of gateway.toml (`local_keys`), the rest as shipped.

    Raises:
        ConfigError: gateway.toml cannot be read, or one of these keys is wrong.
    """
    return _Loader(Path(config_dir), env, source=source).load_local()


def load_admin(config_dir: Path, env: Mapping[str, str] = os.environ) -> AdminSettings:
    """Return the admin section alone: who asks the admin API needs its address and token, not the carriers' passwords.

    Raises:
        ConfigError: gateway.toml cannot be read, or its token refers to what is not there.
    """
    return _Loader(Path(config_dir), env).load_admin()


def load_without_secrets(config_dir: Path, env: Mapping[str, str] = os.environ, *, store: bool = False) -> Settings:
    """Return the settings for commands that bind to no carrier and let nobody in.

    Passwords, secrets and the token are empty, their references and the TLS files are not looked at; `store.url`, which
    may hold a password, is there only where `store` asks for it.

    Raises:
        ConfigError: as `load`, but for what is not looked at.
    """
    return _Loader(Path(config_dir), env, secrets=False, store=store).load()


def read_toml(path: Path, model: type[_Model]) -> _Model:
    """Return a TOML file that stands beside the four as its model.

    Raises:
        ConfigError: with each thing wrong, by file, key and reason.
    """
    try:
        data = path.read_bytes()
        tree = parse_toml(data[: MAX_FILE_BYTES + 1])
    except OSError as exc:
        reason = f"cannot be read: {exc.strerror or type(exc).__name__}"
        raise ConfigError([ConfigProblem(path.name, "", reason)]) from exc
    except ValueError as exc:
        raise ConfigError([ConfigProblem(path.name, "", str(exc))]) from None
    return as_model(path.name, tree, model)


def as_model(name: str, tree: Any, model: type[_Model]) -> _Model:
    """Return a parsed tree as its model. Raises ConfigError as `read_toml`; `name` is what problems call the file."""
    try:
        return model.model_validate(tree)
    except ValidationError as exc:
        problems = [
            ConfigProblem(name, _key(error["loc"], tree), _reason(error["type"], error["msg"]))
            for error in exc.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise ConfigError(problems) from None


class _Loader:
    """One reading of one folder; gathers problems, warnings and the hash of what was read."""

    def __init__(
        self,
        config_dir: Path,
        env: Mapping[str, str],
        *,
        secrets: bool = True,
        store: bool = True,
        source: Path | None = None,
        local: Settings | None = None,
    ) -> None:
        self.config_dir = config_dir
        self.source = source or config_dir
        self.local = local
        self.secrets, self.store_url = secrets, store
        self.problems: list[ConfigProblem] = []
        self.resolver = Resolver(config_dir, env)
        self.digest = hashlib.sha256()

    def load(self) -> Settings:
        gateway = self._file(GATEWAY, schema.GatewayFile)
        channels = self._file(CHANNELS, schema.ChannelsFile)
        routes = self._file(ROUTES, schema.RoutesFile)
        accounts = self._file(ACCOUNTS, schema.AccountsFile)
        segments = self._number_segments()
        ported_codes = self._table(PORTED_CODES)
        failure_codes = self._table(FAILURE_CODES)
        optout_words = self._table(OPTOUT_WORDS)
        quiet_hours, time_zones = self._table(QUIET_HOURS), self._table(TIME_ZONES)
        content_words = self._table(CONTENT_WORDS)
        complete = gateway is not None and channels is not None and routes is not None and accounts is not None
        settings = Settings(
            config_dir=self.config_dir,
            number_segments_files=segments,
            ported_codes_file=ported_codes,
            failure_codes_file=failure_codes,
            optout_words_file=optout_words,
            quiet_hours_file=quiet_hours,
            time_zones_file=time_zones,
            content_words_file=content_words,
            templates_file=self._templates(),
            channels=tuple(self._channel(entry) for entry in channels.channel) if channels else (),
            routes=tuple(_route(entry) for entry in routes.route) if routes else (),
            accounts=tuple(self._account(entry) for entry in accounts.account) if accounts else (),
        )
        if gateway is not None:
            settings = dataclasses.replace(
                settings,
                store=self._store(gateway.store),
                api=_api(gateway.api),
                admin=self._admin(gateway.admin),
                console=_console(gateway.console),
                log=_log(gateway.log),
                tracing=self._tracing(gateway.tracing),
                dispatch=DispatchSettings(**gateway.dispatch.model_dump()),
                webhooks=WebhooksSettings(**gateway.webhooks.model_dump()),
                config=ConfigSettings(gateway.config.watch),
                ported=PortedSettings(**gateway.ported.model_dump()),
                quality=QualitySettings(**gateway.quality.model_dump()),
                inbound=InboundSettings(**gateway.inbound.model_dump()),
                keywords=tuple(_keyword(entry) for entry in gateway.keyword),
                receipts=ReceiptsSettings(gateway.receipts.signals_window_s, tuple(gateway.receipts.probe_numbers)),
                categories=_categories(gateway.categories),
            )
        if self.local is not None:
            settings = with_local(settings, self.local)
        problems, warnings = cross_check(settings) if complete else ([], [])
        if not self.secrets:
            problems = [p for p in problems if not p.key.endswith(("secret", "password"))]
        self.problems += self.resolver.problems + problems
        if self.problems:
            raise ConfigError(self.problems)
        return dataclasses.replace(
            settings,
            revision=self.digest.hexdigest()[:12],
            warnings=(*self.resolver.warnings, *warnings),
        )

    def load_admin(self) -> AdminSettings:
        gateway = self._file("gateway.toml", schema.GatewayFile)
        admin = self._admin(gateway.admin, operators=False) if gateway is not None else None
        problems = [*self.problems, *self.resolver.problems]
        if problems or admin is None:
            raise ConfigError(problems)
        return admin

    def load_local(self) -> Settings:
        gateway = self._file(GATEWAY, schema.GatewayFile, only_local)
        settings = Settings(config_dir=self.config_dir)
        if gateway is not None:
            own = Settings(
                config_dir=self.config_dir,
                store=self._store(gateway.store),
                api=_api(gateway.api),
                admin=AdminSettings(host=gateway.admin.listen[0], port=gateway.admin.listen[1]),
                dispatch=DispatchSettings(**gateway.dispatch.model_dump()),
                webhooks=WebhooksSettings(**gateway.webhooks.model_dump()),
            )
            settings = with_local(settings, own)
        if problems := self.problems + self.resolver.problems:
            raise ConfigError(problems)
        return settings

    def _file(
        self, name: str, model: type[_Model], part: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    ) -> _Model | None:
        """Return one file, or the part of it that is wanted, as its model, or None after noting why not."""
        data = self._bytes(self.source / name, name)
        if data is None:
            return None
        try:
            tree = parse_toml(data)
        except ValueError as exc:
            self._refuse(name, "", str(exc))
            return None
        if part is not None:
            tree = part(tree)
        elif name == GATEWAY and self.local is not None:
            tree = without_local(tree)
        try:
            return model.model_validate(tree)
        except ValidationError as exc:
            for error in exc.errors(include_url=False, include_context=False, include_input=False):
                self._refuse(name, _key(error["loc"], tree), _reason(error["type"], error["msg"]))
            return None

    def _bytes(self, path: Path, name: str, most: int = MAX_FILE_BYTES) -> bytes | None:
        """Return a file's content, counted into the revision, or None after noting why not."""
        try:
            with path.open("rb") as stream:
                data = stream.read(most + 1)
        except OSError as exc:
            self._refuse(name, "", f"cannot be read: {exc.strerror or type(exc).__name__}")
            return None
        if len(data) > most:
            self._refuse(name, "", f"larger than {most >> 20} MiB")
            return None
        self.digest.update(b"%s\0%d\0" % (name.encode(), len(data)) + data)
        return data

    def _secret(self, file: str, key: str, raw: str) -> str | None:
        """Return what a reference leads to, None after noting why it does not, or where none is wanted."""
        return self.resolver.secret(file, key, raw) if self.secrets else None

    def _refuse(self, file: str, key: str, reason: str) -> None:
        self.problems.append(ConfigProblem(file, key, reason))

    def _number_segments(self) -> dict[str, Path]:
        """Return country → CSV: the shipped tables, each replaced by the folder's own of the same name."""
        found: dict[str, Path] = {}
        for folder in (packaged_config_dir(), self.source):
            for path in sorted((folder / "number_segments").glob("*.csv")):
                found[path.stem.upper()] = path
        for country, path in found.items():
            name = f"number_segments/{path.name}"
            if len(country) != 2 or not country.isalpha():
                self._refuse(name, "", "the name must be a country's two letters, as in cn.csv")
            else:
                self._bytes(path, name, MAX_TABLE_BYTES)
        return found

    def _table(self, name: str) -> Path | None:
        """Return a data table: the folder's own, else the shipped one."""
        for folder in (self.source, packaged_config_dir()):
            path = folder / name
            if path.is_file():
                self._bytes(path, name)
                return path
        return None

    def _templates(self) -> Path | None:
        """Return the folder's templates, None where it has none; the shipped file only shows how one is written."""
        path = self.source / TEMPLATES
        if not path.is_file():
            return None
        self._bytes(path, TEMPLATES)  # read by `gateway.templates.load`; here for the revision
        return path

    def _store(self, raw: schema.StoreSection) -> StoreSettings:
        return StoreSettings(
            url=(self.resolver.interpolate(GATEWAY, "store.url", raw.url) or "") if self.store_url else "",
            data_dir=Path(raw.data_dir),
            shards=raw.shards,
            durability=raw.durability,
            binary=raw.binary,
            max_queued=raw.max_queued,
            check_every_s=raw.check_every_s,
        )

    def _admin(self, raw: schema.AdminSection, *, operators: bool = True) -> AdminSettings:
        """An unset token is no error here: `make run` makes one, and `smsgw run` says that it is missing.

        Without `operators` the tokens of those by name are not looked at: whoever asks has their own alone.
        """
        token = None
        if not self.resolver.is_unset(raw.token):
            token = self._secret(GATEWAY, "admin.token", raw.token)
        named = []
        for one in raw.operator if operators and self.secrets else ():
            found = self._secret(GATEWAY, f"admin.operator[{one.name}].token", one.token)
            named.append(OperatorSettings(one.name, Secret(found or ""), one.role))
        shown = Secret(token) if token else None
        return AdminSettings(host=raw.listen[0], port=raw.listen[1], token=shown, operators=tuple(named))

    def _tracing(self, raw: schema.TracingSection) -> TracingSettings:
        headers = tuple(
            (name, Secret(self._secret(GATEWAY, f"tracing.headers.{name}", text) or ""))
            for name, text in raw.headers.items()
        )
        return TracingSettings(**raw.model_dump(exclude={"headers"}), headers=headers)

    def _channel(self, raw: schema.ChannelEntry) -> ChannelSettings:
        fields = raw.model_dump(exclude={*TLS_FILES, "password", "outbind_password", "categories", "signatures"})
        fields |= self._tls_files(raw)
        password = self._secret(CHANNELS, f"channel[{raw.id}].password", raw.password)
        if raw.outbind_password:
            outbind = self._secret(CHANNELS, f"channel[{raw.id}].outbind_password", raw.outbind_password)
            fields["outbind_password"] = Secret(outbind or "")
        return ChannelSettings(
            **fields,
            password=Secret(password or ""),
            categories=frozenset(raw.categories),
            signatures=tuple(SignatureSettings(*entry) for entry in raw.signatures),
        )

    def _tls_files(self, raw: schema.ChannelEntry) -> dict[str, Path | None]:
        """Return the paths of a channel's certificate files, after noting what cannot be used."""
        named = {name: getattr(raw, name) for name in TLS_FILES}
        paths = {name: self.config_dir / path if path else None for name, path in named.items()}
        if not self.secrets:
            return paths
        for name, reason in tls_problems(*paths.values()):
            self._refuse(CHANNELS, f"channel[{raw.id}].{name}", reason)
        key = paths["tls_key"]
        if key is not None and key.is_file() and key.stat().st_mode & 0o007:
            reason = "the key's file is open to every user; chmod 600 it"
            self.resolver.warnings.append(ConfigProblem(CHANNELS, f"channel[{raw.id}].tls_key", reason))
        return paths

    def _account(self, raw: schema.AccountEntry) -> AccountSettings:
        webhook = self._webhook(raw.id, raw.webhook) if raw.webhook is not None else None
        fields = raw.model_dump(exclude={"webhook", "key_hashes", "categories", "senders", "optout_categories"})
        if raw.link_domains is not None:
            fields["link_domains"] = tuple(raw.link_domains)
        return AccountSettings(
            **fields,
            key_hashes=tuple(raw.key_hashes),
            categories=frozenset(raw.categories),
            optout_categories=frozenset(raw.optout_categories),
            senders=tuple(raw.senders),
            webhook=webhook,
        )

    def _webhook(self, account: str, raw: schema.WebhookTable) -> WebhookSettings:
        key = f"account[{account}].webhook"
        secrets: list[Secret] = []
        for reference in raw.secret:
            found = self._secret(ACCOUNTS, f"{key}.secret", reference)
            if found is None:
                continue
            try:
                secret_key(found)
            except ValueError as exc:
                self._refuse(ACCOUNTS, f"{key}.secret", str(exc))
            secrets.append(Secret(found))
        if len(secrets) == 2 and secrets[0].reveal() == secrets[1].reveal():
            self._refuse(ACCOUNTS, f"{key}.secret", "the same secret twice")
        tls_ca = self.config_dir / raw.tls_ca if raw.tls_ca else None
        if self.secrets:
            for _, reason in tls_problems(tls_ca, None, None):
                self._refuse(ACCOUNTS, f"{key}.tls_ca", reason)
        fields = raw.model_dump(exclude={"secret", "allow_ports", "tls_ca"})
        return WebhookSettings(**fields, secrets=tuple(secrets), allow_ports=frozenset(raw.allow_ports), tls_ca=tls_ca)


def _keyword(raw: schema.KeywordEntry) -> KeywordSettings:
    return KeywordSettings(raw.keyword, raw.match, raw.to, raw.account, raw.tag, raw.action)


def _console(raw: schema.ConsoleSection) -> ConsoleSettings:
    return ConsoleSettings(raw.enabled, raw.idle_s, raw.session_s, tuple(raw.origins), tuple(raw.trusted_proxies))


def _log(raw: schema.LogSection) -> LogSettings:
    return LogSettings(**raw.model_dump(exclude={"file"}), file=Path(raw.file) if raw.file else None)


def _api(raw: schema.ApiSection) -> ApiSettings:
    host, port = raw.listen
    return ApiSettings(host=host, port=port, **raw.model_dump(exclude={"listen"}))


def _categories(raw: schema.CategoriesSection) -> dict[Category, CategorySettings]:
    """Lay what the file says over each category's defaults."""
    result = default_categories()
    for category in Category:
        section: schema.CategorySection = getattr(raw, category.label)
        given: dict[str, Any] = {name: getattr(section, name) for name in section.model_fields_set}
        if "per_number" in given:
            given["per_number"] = tuple(given["per_number"])
        if "require_signature" in given:
            given["require_signature"] = frozenset(given["require_signature"])
        result[category] = dataclasses.replace(result[category], **given)
    return result


def _route(raw: schema.RouteEntry) -> RouteSettings:
    return RouteSettings(
        id=raw.id,
        match=RouteMatch(**raw.match.model_dump()),
        channels=tuple(RankedChannel(entry.id, entry.rank, entry.weight) for entry in raw.channels),
        order=raw.order,
        redeliver_after_s=raw.redeliver_after_s,
    )


def parse_toml(data: bytes) -> dict[str, Any]:
    """Return the TOML tree. Raises ValueError, whose reason quotes nothing of the file but a line."""
    try:
        tree = tomllib.loads(data.decode())
    except tomllib.TOMLDecodeError as exc:
        raise ValueError(f"not valid TOML: {_without_input(str(exc))}") from None
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ValueError(f"not UTF-8 text (line {line})") from None
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    if _depth(tree) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return tree


def _depth(tree: Any) -> int:
    """Return how deep tables and arrays nest, looking no deeper than one past the limit."""
    level, layer = 0, [tree]
    while layer and level <= MAX_DEPTH:
        layer = [item for node in layer for item in (node.values() if isinstance(node, dict) else node)]
        layer = [item for item in layer if isinstance(item, dict | list)]
        level += 1
    return level


def _without_input(message: str) -> str:
    """Cut what a TOML error may quote: only the kind of mistake and its place are told.

    `tomllib` quotes single characters and key names, which may belong to a secret typed without quotes.
    """
    reason, at, place = message.rpartition(" (at ")
    reason = reason.split(":")[0].split("'")[0].strip() or "syntax error"
    return f"{reason} (at {place}" if at else "syntax error"


def _key(loc: tuple[int | str, ...], tree: Any) -> str:
    """Spell a place as an operator would: `channel[cm-a].port`, with the id where the table has one."""
    words: list[str] = []
    node = tree
    for step in loc:
        if isinstance(step, int):
            node = node[step] if isinstance(node, list) and step < len(node) else None
            name = node.get("id") if isinstance(node, dict) else None
            label = name if isinstance(name, str) and schema.is_name(name) else str(step + 1)
            words[-1] = f"{words[-1]}[{label}]"
        else:
            node = node.get(step) if isinstance(node, dict) else None
            words.append(step if schema.is_name(step) else "?")
    return ".".join(words)


_REASONS = {
    "extra_forbidden": "unknown key",
    "missing": "missing",
    "int_type": "a whole number is wanted",
    "float_type": "a number is wanted",
    "string_type": "text in quotes is wanted",
    "bool_type": "true or false is wanted",
    "list_type": "an array [ … ] is wanted",
    "model_type": "a table is wanted",
    "dict_type": "a table is wanted",
}


def _reason(kind: str, message: str) -> str:
    if kind in _REASONS:
        return _REASONS[kind]
    message = message.removeprefix("Value error, ").removeprefix("Input should be ")
    return message[:1].lower() + message[1:] if kind != "value_error" else message
