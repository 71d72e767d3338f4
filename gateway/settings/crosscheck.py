"""What no single table can tell: names that exist, ranks without gaps, routes that can carry what they match.

Pure: takes `Settings`, answers problems (start-up refuses) and warnings (start-up says them). What needs the
number segment tables is checked above, by `gateway.check`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise, product

from gateway.errors import ConfigProblem
from gateway.model import Category
from gateway.settings.values import (
    AccountSettings,
    ChannelSettings,
    RouteMatch,
    RouteSettings,
    Settings,
    WebhookSettings,
)
from gateway.signature import shown

_GATEWAY, _CHANNELS, _ROUTES, _ACCOUNTS = "gateway.toml", "channels.toml", "routes.toml", "accounts.toml"
_URL_SCHEMES = ("redis://", "rediss://", "unix://")
_TOKEN_CHARS = 16
_LONG_PASSWORD = 64  # smpp.constants.LONG_PASSWORD_OCTETS; settings stand below smpp
_ADDRESS_DIGITS = 20  # smpp.address.MAX_ADDRESS_OCTETS
_LATER_SCHEMES = ("redis+sentinel://", "redis+cluster://")


def cross_check(settings: Settings) -> tuple[list[ConfigProblem], list[ConfigProblem]]:
    """Return (problems, warnings) that show only when all tables are seen together."""
    problems: list[ConfigProblem] = []
    warnings: list[ConfigProblem] = []
    _check_store(settings, problems, warnings)
    _check_listeners(settings, problems)
    _check_operators(settings, problems, warnings)
    _check_categories(settings, problems)
    warnings += _not_yet(settings)
    _check_channels(settings, problems, warnings)
    _check_routes(settings, problems, warnings)
    _check_accounts(settings, problems, warnings)
    _check_signatures(settings, problems, warnings)
    _check_replies(settings, problems)
    return problems, warnings


def _check_store(settings: Settings, problems: list[ConfigProblem], warnings: list[ConfigProblem]) -> None:
    store = settings.store
    if store.url.startswith(_LATER_SCHEMES):
        problems.append(ConfigProblem(_GATEWAY, "store.url", "Sentinel and Cluster are not supported yet"))
    elif store.url and not store.url.startswith(_URL_SCHEMES):
        wanted = "empty, redis://, rediss:// or unix:// is wanted"
        problems.append(ConfigProblem(_GATEWAY, "store.url", wanted))
    if store.durability == "replicated":
        reason = "replicated needs Sentinel or Cluster, which are not supported yet"
        problems.append(ConfigProblem(_GATEWAY, "store.durability", reason))
    elif store.durability == "relaxed":
        reason = "relaxed: a power cut may lose about two seconds of accepted messages"
        warnings.append(ConfigProblem(_GATEWAY, "store.durability", reason))
    if store.url and store.binary:
        reason = "names the embedded server's program, but store.url is set; one of the two is meant"
        problems.append(ConfigProblem(_GATEWAY, "store.binary", reason))


def _check_listeners(settings: Settings, problems: list[ConfigProblem]) -> None:
    api, admin = settings.api, settings.admin
    if api.port and (api.host, api.port) == (admin.host, admin.port):
        problems.append(ConfigProblem(_GATEWAY, "admin.listen", "the same address as api.listen"))


def _check_operators(settings: Settings, problems: list[ConfigProblem], warnings: list[ConfigProblem]) -> None:
    """Operators are told apart by their tokens alone: each has one of its own, too long to be guessed."""
    admin = settings.admin
    problems += _duplicates(_GATEWAY, "admin.operator", (one.name for one in admin.operators))
    known = {admin.token.reveal()} if admin.token is not None else set()
    if admin.token is not None and len(admin.token.reveal()) < _TOKEN_CHARS:
        reason = f"shorter than {_TOKEN_CHARS} characters: it can be guessed; take what `openssl rand -hex 16` makes"
        warnings.append(ConfigProblem(_GATEWAY, "admin.token", reason))
    for one in admin.operators:
        token, key = one.token.reveal(), f"admin.operator[{one.name}]"
        if one.name == "admin":
            problems.append(ConfigProblem(_GATEWAY, f"{key}.name", "admin is the name of who has admin.token"))
        if len(token) < _TOKEN_CHARS:
            reason = f"at least {_TOKEN_CHARS} characters, as `openssl rand -hex 16` makes them"
            problems.append(ConfigProblem(_GATEWAY, f"{key}.token", reason))
        elif token in known:
            problems.append(ConfigProblem(_GATEWAY, f"{key}.token", "another operator has the same token"))
        known.add(token)


def _check_categories(settings: Settings, problems: list[ConfigProblem]) -> None:
    for category, rules in settings.categories.items():
        if len({window_s for _, window_s in rules.per_number}) < len(rules.per_number):
            key = f"categories.{category.label}.per_number"
            problems.append(ConfigProblem(_GATEWAY, key, "two limits over the same duration"))
    if sum(rules.min_share for rules in settings.categories.values()) >= 1:
        problems.append(ConfigProblem(_GATEWAY, "categories", "the min_share of all categories must stay below 1"))


def _not_yet(settings: Settings) -> list[ConfigProblem]:
    """Say which settings this version takes but does not act on: silence would promise what does not happen."""
    warnings = []
    for category, rules in settings.categories.items():
        key = f"categories.{category.label}"
        if rules.min_share:
            reason = "not acted on yet: priority is strict"
            warnings.append(ConfigProblem(_GATEWAY, f"{key}.min_share", reason))
    return warnings


def _check_channels(settings: Settings, problems: list[ConfigProblem], warnings: list[ConfigProblem]) -> None:
    problems += _duplicates(_CHANNELS, "channel", (channel.id for channel in settings.channels))
    doors = Counter(channel.outbind_listen for channel in settings.channels if channel.outbind_listen is not None)
    for channel in settings.channels:
        if channel.outbind_listen is not None and doors[channel.outbind_listen] > 1:
            reason = "another channel listens there as well"
            problems.append(ConfigProblem(_CHANNELS, f"channel[{channel.id}].outbind_listen", reason))
    used = {ranked.id for route in settings.routes for ranked in route.channels}
    for channel in settings.channels:
        key = f"channel[{channel.id}]"
        problems += [ConfigProblem(_CHANNELS, f"{key}.{name}", reason) for name, reason in _channel_problems(channel)]
        warnings += [ConfigProblem(_CHANNELS, f"{key}.{name}", reason) for name, reason in _channel_warnings(channel)]
        if channel.outbind_listen is not None and channel.outbind_password is None:
            reason = "whoever reaches outbind_listen is sent this channel's own password; set what the SMSC must name"
            warnings.append(ConfigProblem(_CHANNELS, f"{key}.outbind_password", reason))
        if channel.id not in used:
            warnings.append(ConfigProblem(_CHANNELS, key, "no route uses this channel"))


def _channel_problems(channel: ChannelSettings) -> list[tuple[str, str]]:
    """Return (key, reason) where keys of one channel contradict each other or its SMSC's version."""
    found = []
    password = channel.password.reveal()
    if channel.long_password:
        if len(password) > _LONG_PASSWORD or not password.isascii():
            found.append(("password", f"at most {_LONG_PASSWORD} ASCII characters, also with long_password"))
    elif len(password) > 8 or not password.isascii():
        found.append(("password", "at most 8 ASCII characters (SMPP 3.4 §5.2.2); for more set long_password = true"))
    found += _outbind_problems(channel)
    if not channel.tls:
        for name in ("tls_ca", "tls_name", "tls_cert", "tls_key"):
            if getattr(channel, name):
                found.append((name, "has no effect without tls = true"))
    if channel.interface_version < 0x34:
        # SMPP 3.4 §3.4: a peer of 3.3 knows no optional parameters.
        if channel.tlvs:
            found.append(("tlvs", "interface_version 0x33 has no TLVs"))
        if channel.long != "udh":
            found.append(("long", f"interface_version 0x33 has no TLVs, which {channel.long} needs"))
    if channel.packed and (channel.alphabet != "gsm" or channel.long != "udh"):
        found.append(("packed", 'goes with alphabet = "gsm" and long = "udh" only'))
    if channel.source_types and (channel.source_ton is not None or channel.source_npi is not None):
        found.append(("source_types", "source_ton and source_npi win over it; one of the two is meant"))
    return found


def _outbind_problems(channel: ChannelSettings) -> list[tuple[str, str]]:
    """Return (key, reason) of what cannot be where the SMSC calls us."""
    found = []
    password = channel.outbind_password
    if channel.outbind_listen is None:
        if channel.outbind_system_id:
            found.append(("outbind_system_id", "has no effect without outbind_listen"))
        if password is not None:
            found.append(("outbind_password", "has no effect without outbind_listen"))
        return found
    if not channel.outbind_listen[1]:
        found.append(("outbind_listen", "a port that the SMSC knows is wanted, not 0"))
    if channel.tls:
        found.append(("outbind_listen", "not with tls = true: put a TLS proxy before it, or let us connect"))
    if password is not None and not (password.reveal() and password.reveal().isascii()):
        found.append(("outbind_password", "must be ASCII and not empty; leave the key out to take any"))
    return found


def _channel_warnings(channel: ChannelSettings) -> list[tuple[str, str]]:
    """Return (key, reason) for what is allowed and has a price that may not be seen."""
    found = []
    if channel.interface_version < 0x34 and channel.bind == "transceiver":
        found.append(("bind", "SMPP 3.3 has no transceiver; most such SMSCs want transmitter_receiver"))
    if channel.long == "payload" and channel.registered_delivery not in (False, "none"):
        reason = "a text of several parts has one receipt, which settles its first part only: it stays submitted"
        found.append(("long", reason))
    return found


def _sharing_warnings(settings: Settings, route: RouteSettings) -> list[tuple[str, str]]:
    """Return (key, reason) where channels will not share, or nothing will be redelivered, as one may think."""
    found = []
    channels = {channel.id: channel for channel in settings.channels}
    ranks: dict[int, list[ChannelSettings]] = {}
    for ranked in route.channels:
        if ranked.id in channels:
            ranks.setdefault(ranked.rank, []).append(channels[ranked.id])
    shared = [peers for peers in ranks.values() if len(peers) > 1]
    if route.order != "weight" and not shared:
        found.append(("order", "no two channels stand on one rank: the order of ranks alone decides"))
    if route.order == "cost" and any(not channel.price for peers in shared for channel in peers):
        found.append(("order", "a channel without a price counts as the cheapest"))
    few = sorted({c.id for peers in shared for c in peers if c.binds < settings.dispatch.workers})
    if few:
        reason = f"{', '.join(few)}: fewer binds than dispatch workers, so shares on a rank hold only roughly"
        found.append(("channels", reason))
    if len(route.channels) < 2 and any(settings.redeliver_after_s(route.id, c) for c in Category):
        found.append(("redeliver_after_s", "has no effect on a route with one channel"))
    return found


def _check_routes(settings: Settings, problems: list[ConfigProblem], warnings: list[ConfigProblem]) -> None:
    problems += _duplicates(_ROUTES, "route", (route.id for route in settings.routes))
    if not settings.routes:
        warnings.append(ConfigProblem(_ROUTES, "", "no route: every message will be refused as no_route"))
    channels = {channel.id: channel for channel in settings.channels}
    accounts = {account.id for account in settings.accounts}
    seen: dict[RouteMatch, str] = {}
    for route in settings.routes:
        key = f"route[{route.id}]"
        warnings += [ConfigProblem(_ROUTES, f"{key}.{name}", why) for name, why in _sharing_warnings(settings, route)]
        if route.match in seen:
            reason = f"the same as in route {seen[route.match]}: no message could ever reach this one"
            problems.append(ConfigProblem(_ROUTES, f"{key}.match", reason))
        seen.setdefault(route.match, route.id)
        if route.match.account is not None and route.match.account not in accounts:
            reason = f"no account {route.match.account} in accounts.toml"
            problems.append(ConfigProblem(_ROUTES, f"{key}.match.account", reason))
        problems += _rank_problems(route, f"{key}.channels", channels)
        if len(route.channels) == 1:
            reason = "one channel only: while it is down these messages wait"
            warnings.append(ConfigProblem(_ROUTES, f"{key}.channels", reason))
    for route in settings.routes:
        listed = [channels[ranked.id] for ranked in route.channels if ranked.id in channels]
        problems += _carry_problems(route, listed, set(seen))


def _rank_problems(route: RouteSettings, key: str, channels: dict[str, ChannelSettings]) -> list[ConfigProblem]:
    problems = [
        ConfigProblem(_ROUTES, key, f"no channel {ranked.id} in channels.toml")
        for ranked in route.channels
        if ranked.id not in channels
    ]
    for name, count in Counter(ranked.id for ranked in route.channels).items():
        if count > 1:
            problems.append(ConfigProblem(_ROUTES, key, f"channel {name} is listed {count} times"))
    ranks = sorted({ranked.rank for ranked in route.channels})
    if ranks != list(range(len(ranks))):
        problems.append(ConfigProblem(_ROUTES, key, "ranks must run 0, 1, 2 … without a gap (0 is the primary)"))
    return problems


def _carry_problems(
    route: RouteSettings, listed: list[ChannelSettings], matches: set[RouteMatch]
) -> list[ConfigProblem]:
    """Return what a route matches and a channel of it cannot carry: a queue does not sort again.

    Encoding and number of parts are settled once, at intake, so the channels must agree in what decides them.
    A category a channel may not carry is fine when a route with the same match and that category stands
    beside.
    """
    key = f"route[{route.id}].channels"
    problems = []
    for name in ("alphabet", "reference_bits"):
        if len({getattr(channel, name) for channel in listed}) > 1:
            reason = f"these channels differ in {name}, but parts are counted once for all of them"
            problems.append(ConfigProblem(_ROUTES, key, reason))
    match = route.match
    if match.category is not None:
        wanted = {match.category}
    else:
        wanted = {category for category in Category if _with_category(match, category) not in matches}
    for channel in listed:
        for category in sorted(wanted - channel.categories):
            reason = f"channel {channel.id} does not carry {category.label}, which this route matches"
            problems.append(ConfigProblem(_ROUTES, key, reason))
    return problems


def _with_category(match: RouteMatch, category: Category) -> RouteMatch:
    return RouteMatch(match.country, match.carrier, category, match.account, match.sender, match.prefix)


def _check_replies(settings: Settings, problems: list[ConfigProblem]) -> None:
    for account in settings.accounts:
        if account.id == "global":
            reason = "global is how the blacklist of all accounts is called; another id is wanted"
            problems.append(ConfigProblem(_ACCOUNTS, "account[global].id", reason))
        for category in sorted(account.optout_categories - account.categories - {Category.MARKETING}):
            reason = f"the account may not send {category.label}"
            problems.append(ConfigProblem(_ACCOUNTS, f"account[{account.id}].optout_categories", reason))
    known = {account.id for account in settings.accounts}
    seen: dict[tuple[str, str], int] = {}
    for number, rule in enumerate(settings.keywords, 1):
        key = f"keyword[{number}]"
        if rule.account and rule.account not in known:
            problems.append(ConfigProblem(_GATEWAY, f"{key}.account", f"there is no account {rule.account}"))
        for word in rule.words:
            spelt = "".join(word.casefold().split())
            if (spelt, rule.to) in seen:
                reason = f"the word {word} stands for the same number at keyword[{seen[spelt, rule.to]}] already"
                problems.append(ConfigProblem(_GATEWAY, f"{key}.keyword", reason))
            seen.setdefault((spelt, rule.to), number)


def _check_accounts(settings: Settings, problems: list[ConfigProblem], warnings: list[ConfigProblem]) -> None:
    problems += _duplicates(_ACCOUNTS, "account", (account.id for account in settings.accounts))
    owner: dict[str, str] = {}
    for account in settings.accounts:
        key = f"account[{account.id}]"
        for number, key_hash in enumerate(account.key_hashes, 1):
            if key_hash in owner:
                reason = f"hash {number} already stands at account {owner[key_hash]}"
                problems.append(ConfigProblem(_ACCOUNTS, f"{key}.key_hashes", reason))
            owner.setdefault(key_hash, account.id)
        if not account.key_hashes:
            reason = "no key: this account cannot sign in (`smsgw key new` makes one)"
            warnings.append(ConfigProblem(_ACCOUNTS, f"{key}.key_hashes", reason))
        for sender, count in Counter(account.senders).items():
            if count > 1:
                problems.append(ConfigProblem(_ACCOUNTS, f"{key}.senders", f"{sender} is listed {count} times"))
        for category, _ in account.per_number:
            if category not in account.categories:
                reason = f"the account may not send {category.label}"
                problems.append(ConfigProblem(_ACCOUNTS, f"{key}.per_number.{category.label}", reason))
        if account.consent_required and Category.MARKETING not in account.categories:
            reason = "has no effect: the account may not send marketing"
            warnings.append(ConfigProblem(_ACCOUNTS, f"{key}.consent_required", reason))
        if account.webhook is not None:
            for name, reason in _webhook_warnings(account.webhook):
                warnings.append(ConfigProblem(_ACCOUNTS, f"{key}.webhook.{name}", reason))
    if not settings.accounts:
        warnings.append(ConfigProblem(_ACCOUNTS, "", "no account: nobody can send"))


def _webhook_warnings(webhook: WebhookSettings) -> list[tuple[str, str]]:
    """Return (key, reason) for what is allowed and opens more than one may think."""
    found = []
    if webhook.url.startswith("http:"):
        found.append(("allow_insecure", "http: everybody on the way reads and may change what is posted"))
    if webhook.allow_private:
        found.append(("allow_private", "this account's calls may reach addresses of your own network"))
    if len(webhook.secrets) == 2:
        found.append(("secret", "two secrets: take the old one out when the application has the new one"))
    return found


def _check_signatures(settings: Settings, problems: list[ConfigProblem], warnings: list[ConfigProblem]) -> None:
    """Prove that what an account may sign can be carried wherever its messages may be routed, and replies find home."""
    accounts = {account.id for account in settings.accounts}
    senders = {sender for account in settings.accounts for sender in account.senders}
    for channel in settings.channels:
        key = f"channel[{channel.id}]"
        found = _number_problems(channel, senders)
        found += [
            ("signatures", f"{shown(entry.name)}: no account {entry.mo_account} in accounts.toml")
            for entry in channel.signatures
            if entry.mo_account and entry.mo_account not in accounts
        ]
        problems += [ConfigProblem(_CHANNELS, f"{key}.{name}", reason) for name, reason in found]
        for shorter, longer in _begun_extensions(channel):
            reason = f"extension {shorter} begins {longer}: replies to a message with ext may be taken for the other's"
            warnings.append(ConfigProblem(_CHANNELS, f"{key}.signatures", reason))
    channels = {channel.id: channel for channel in settings.channels}
    for account in settings.accounts:
        if account.signatures:
            for route in _routes_of(account, settings.routes):
                _check_carried(account, route, channels, problems, warnings)


def _number_problems(channel: ChannelSettings, senders: set[str]) -> list[tuple[str, str]]:
    """Return (key, reason) where a channel's access number and extensions make no number, or one number for two."""
    if not channel.signatures:
        return [("access_number", "has no effect without signatures")] if channel.access_number else []
    found = []
    owners: dict[str, tuple[str, str]] = {}  # extension → signature, account
    rewritten = dict(channel.source)
    sent = {rewritten.get(sender, rewritten.get("*", sender)) for sender in senders}
    bases = [channel.access_number] if channel.access_number else [base for base in sent if base.isdigit()]
    longest = max((len(base) for base in bases), default=0)
    for entry in channel.signatures:
        if entry.extension and longest + len(entry.extension) > _ADDRESS_DIGITS:
            what = "access_number" if channel.access_number else "the longest sender"
            reason = f"{shown(entry.name)}: {what} and extension have more than {_ADDRESS_DIGITS} digits together"
            found.append(("signatures", reason))
        first, account = owners.setdefault(entry.extension, (entry.name, entry.mo_account))
        if first != entry.name and (entry.extension or account != entry.mo_account):
            # Without extensions several may share the number, as long as replies to it are one account's.
            what = f"extension {entry.extension}" if entry.extension else "no extension"
            reason = f"{shown(first)} and {shown(entry.name)} have {what}: replies could not be told apart"
            found.append(("signatures", reason))
    return found


def _begun_extensions(channel: ChannelSettings) -> list[tuple[str, str]]:
    extensions = sorted({entry.extension for entry in channel.signatures if entry.extension})
    return [(shorter, longer) for shorter, longer in pairwise(extensions) if longer.startswith(shorter)]


def _routes_of(account: AccountSettings, routes: tuple[RouteSettings, ...]) -> list[RouteSettings]:
    """Return the routes that some message of an account can take: those it fits that no better one covers whole."""
    named = {route.match.sender for route in routes}
    own = [sender for sender in account.senders if sender in named]
    # One sender that no route names stands for all of them, and for none.
    senders = own if account.senders and len(own) == len(account.senders) else [*own, ""]
    found: dict[str, RouteSettings] = {}
    for category, sender in product(account.categories, senders):
        fitting = [
            route
            for route in routes
            if route.match.account in (None, account.id)
            and route.match.sender in (None, sender)
            and route.match.category in (None, category)
        ]
        for place, route in enumerate(fitting):
            if not any(
                (_precedence(other), -there) > (_precedence(route), -place) and _covers(other.match, route.match)
                for there, other in enumerate(fitting)
            ):
                found[route.id] = route
    return [route for route in routes if route.id in found]


def _precedence(route: RouteSettings) -> tuple[bool, bool, bool, int, bool, bool]:
    """Return what `routing.router` orders routes by; settings stand below it."""
    m = route.match
    prefix = len(m.prefix or "")
    return (m.account is not None, m.sender is not None, m.category is not None, prefix, m.carrier is not None,
            m.country is not None)  # fmt: skip


def _covers(other: RouteMatch, match: RouteMatch) -> bool:
    """Tell whether every number that `match` takes is one that `other` takes."""
    return (
        other.country in (None, match.country)
        and other.carrier in (None, match.carrier)
        and (other.prefix is None or (match.prefix or "").startswith(other.prefix))
    )


def _check_carried(
    account: AccountSettings,
    route: RouteSettings,
    channels: dict[str, ChannelSettings],
    problems: list[ConfigProblem],
    warnings: list[ConfigProblem],
) -> None:
    listed = [(ranked.rank, channels[ranked.id]) for ranked in route.channels if ranked.id in channels]
    for signature in account.signatures:
        carried = {rank for rank, channel in listed if channel.carries(signature)}
        if listed and not carried:
            reason = f"no channel of route {route.id} carries {shown(signature)}: its messages there would be refused"
            problems.append(ConfigProblem(_ACCOUNTS, f"account[{account.id}].signature", reason))
            continue
        for rank in sorted({rank for rank, _ in listed} - carried):
            what = "the primary" if rank == 0 else f"the backup (rank {rank})"
            reason = f"{what} of route {route.id} does not carry {shown(signature)} of account {account.id}"
            warnings.append(ConfigProblem(_ROUTES, f"route[{route.id}].channels", reason))


def _duplicates(file: str, table: str, ids: Iterable[str]) -> list[ConfigProblem]:
    return [
        ConfigProblem(file, f"{table}[{name}]", f"the id stands {count} times; ids must be unique")
        for name, count in Counter(ids).items()
        if count > 1
    ]
