"""The settings as values: frozen dataclasses, units in their names, every default the gateway ships with.

Owns the shape and the defaults; reads no file and checks nothing (see `loading` and `crosscheck`). A test may
build one directly. Every layer above `model` reads these; nobody changes one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from gateway.errors import ConfigProblem
from gateway.model import Category, Secret
from gateway.signature import ANY, clean

ALL_CATEGORIES: frozenset[Category] = frozenset(Category)

CHINESE_OPTOUT_TEXTS: tuple[str, ...] = (
    "拒收请回复R",
    "拒收请回R",
    "拒收回复R",
    "拒收回R",
    "退订回T",
    "退订请回T",
    "退订回复T",
    "退订请回复T",
    "回T退订",
    "回复T退订",
    "回TD退订",
    "回复TD退订",
    "退订回N",
    "退订回复N",
    "回N退订",
)
"""How Chinese texts say the way to get no more: Tencent, Huawei, Alibaba, Qiniu. 退订回TD has 退订回T in it."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where records and queues live. `url` may hold a password, so it never shows in a repr."""

    url: str = field(default="", repr=False)  # empty: the embedded server
    data_dir: Path = Path("var")  # as written: relative to the working directory
    shards: int = 1
    durability: str = "strict"  # strict | replicated | relaxed
    binary: str = ""  # another server executable for the embedded store
    max_queued: int = 2_000_000
    check_every_s: float = 30.0  # how often its settings are compared with the durability promised


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The application listener and the guards on its connections."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    max_connections: int = 4096  # per api worker
    max_connections_per_ip: int = 2048  # per api worker
    header_timeout_s: float = 10.0
    body_timeout_s: float = 15.0
    idle_timeout_s: float = 75.0
    handler_timeout_s: float = 10.0


OPERATOR_ROLES: tuple[str, ...] = ("viewer", "operator", "admin")
"""What an operator may do, each what the one before it may as well."""


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """One operator by name, as the audit names them."""

    name: str
    token: Secret
    role: str = "operator"  # of OPERATOR_ROLES


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The admin listener; without a token nothing but `/livez` and `/readyz` may be served."""

    host: str = "127.0.0.1"
    port: int = 8081
    token: Secret | None = None  # of the operator named "admin", whose role is admin
    operators: tuple[OperatorSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """The console in a browser, on the admin listener; see docs/console.md."""

    enabled: bool = True  # False: no path of it exists
    idle_s: int = 1800  # a session nobody used for so long is over
    session_s: int = 43_200  # and after so long in any case
    origins: tuple[str, ...] = ()  # public origins in front of the listener, where a proxy rewrites Host
    trusted_proxies: tuple[str, ...] = ()  # CIDRs whose X-Forwarded-For and -Proto are believed


LOG_LEVELS: tuple[str, ...] = ("debug", "info", "warning", "error")
LOG_AREAS: tuple[str, ...] = ("admin", "api", "dispatch", "dlr", "messages", "policy", "routing", "smpp", "store")
"""Parts of the gateway whose level may be another one: packages, and the records of messages."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, how and where; see docs/logging.md."""

    format: str = "auto"  # auto (console on a terminal, else json) | json | console
    level: str = "info"
    levels: tuple[tuple[str, str], ...] = ()  # (area, level) in place of `level`
    file: Path | None = None  # None: standard error
    messages: str = "failures"  # off | failures | all: which changes of messages are told
    messages_sample: float = 1.0  # share of the messages whose every change is told where messages = "all"
    messages_per_s: int = 200  # such records a second and process; 0: no limit


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Spans of a sample of the messages, to an OpenTelemetry collector; the headers may hold a key."""

    sample: float = 0.0  # share of the messages; 0: off
    endpoint: str = "http://127.0.0.1:4318/v1/traces"
    headers: tuple[tuple[str, Secret], ...] = ()
    service_name: str = "smsgw"
    traceparent: str = "link"  # link | join | ignore: what becomes of a request's trace context


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    workers: int = 1
    return_after_s: float = 30.0  # a channel that lost all sessions must be up so long before it gets its traffic back


@dataclass(frozen=True, slots=True)
class ConfigSettings:
    """How changes of this configuration come in."""

    watch: bool = False  # whether edited files are taken by themselves


@dataclass(frozen=True, slots=True)
class PortedSettings:
    """What receipts teach about ported numbers."""

    learned_ttl_s: float = 7_776_000.0  # 90 days; 0: nothing is learned and nothing learned is used
    learned_most: int = 100_000  # numbers a worker keeps in memory, the latest learned


@dataclass(frozen=True, slots=True)
class InboundSettings:
    """Messages from handsets: how long they are kept, and when opt-outs look like a forgery."""

    keep_months: int = 5
    keep_optout_months: int = 5  # replies that opted out or in; the blacklist's entry stays until it is taken off
    parts_wait_s: int = 86_400  # for the missing parts of a long message; then it is delivered with what came
    optout_alarm_per_hour: int = 1000  # opt-outs through one channel, above which an alarm is raised; 0: none


@dataclass(frozen=True, slots=True)
class KeywordSettings:
    """What a reply that is, or begins with, one of these words is for."""

    words: tuple[str, ...]
    match: str = "exact"  # exact | starts-with
    to: str = ""  # only what came to this number; empty: any
    account: str = ""  # whose it is where the number does not tell; empty: that is found out by the latest messages
    tag: str = ""
    action: str = "none"  # none | stop | start | review


@dataclass(frozen=True, slots=True)
class CategorySettings:
    """The rules of one category. A number of 0 means: switched off, except where a field says otherwise."""

    ttl_s: int
    on_uncertain: str  # resend | hold | fail
    max_attempts: int
    overflow_after_ms: int = 0
    window_reserve: float = 0.0  # share of every window; above 0 only for verification
    per_number: tuple[tuple[int, int], ...] = ()  # (at most, within seconds), per number and account
    redeliver_after_s: int = 0
    send_hours: tuple[int, int] | None = None  # minutes after midnight, [start, end); see `policy.send_window`
    spread_s: int = 1800  # over which what waited for a window leaves after its opening
    per_number_all: tuple[tuple[int, int], ...] = ()  # as per_number, over all accounts together
    per_signature: tuple[tuple[int, int], ...] = ()  # per number, account and signature
    per_tag: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = ()  # (tag, limits) per number and account
    require_signature: frozenset[str] = frozenset()  # countries (ISO 3166) where a text needs a signature in 【】
    require_optout_text: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (country, wordings), one of which a text has
    dlr_wait_s: int = 259_200
    retention_s: int = 86_400
    text_after_final: str = "keep"  # keep | erase
    min_share: float = 0.0


@dataclass(frozen=True, slots=True)
class ReceiptsSettings:
    """What is watched of receipts."""

    signals_window_s: int = 1800  # over which delivered ratio, delay and their like are computed
    probe_numbers: tuple[str, ...] = ()  # E.164 digits of numbers that nobody has, or how such numbers begin


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """How routes with `order = "quality"` move the shares of their channels."""

    window_s: int = 1800  # of submissions that count
    min_sample: int = 50  # rated messages of each channel below which nothing moves
    every_s: float = 30.0  # between two steps
    step: float = 0.05  # of the traffic, the most that a share changes in one step
    threshold: float = 0.1  # difference from the target that starts a move
    least_share: float = 0.05  # what a bad channel keeps, so that its recovery is seen


def default_categories() -> dict[Category, CategorySettings]:
    """Return the rules that hold where gateway.toml is silent (the same as the shipped file's)."""
    return {
        Category.VERIFICATION: CategorySettings(
            ttl_s=300,
            on_uncertain="resend",
            max_attempts=3,
            overflow_after_ms=2000,
            window_reserve=0.1,
            per_number=((1, 60), (5, 3600), (10, 86_400)),
            dlr_wait_s=86_400,
            text_after_final="erase",
        ),
        Category.NOTIFICATION: CategorySettings(ttl_s=86_400, on_uncertain="resend", max_attempts=6),
        Category.MARKETING: CategorySettings(
            ttl_s=172_800,
            on_uncertain="hold",
            max_attempts=3,
            per_number=((1, 604_800),),
            send_hours=(8 * 60, 20 * 60),
            require_signature=frozenset({"CN"}),
            require_optout_text=(("CN", CHINESE_OPTOUT_TEXTS),),
        ),
    }


@dataclass(frozen=True, slots=True)
class SignatureSettings:
    """One signature that the carrier has registered for a channel."""

    name: str  # as `signature.clean` returns it; "*": every other
    extension: str = ""  # digits behind the access number
    mo_account: str = ""  # whose the replies are; empty: the account that alone has the signature


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """One configured account at an SMSC."""

    id: str
    host: str
    port: int
    system_id: str
    password: Secret
    system_type: str = ""
    bind: str = "transceiver"  # transceiver | transmitter_receiver
    binds: int = 1
    window: int = 50
    max_tps: int = 0  # submit_sm a second over all binds; 0: no limit
    price: float = 0.0
    response_timer_s: float = 30.0
    enquire_link_s: float = 30.0
    session_init_timer_s: float = 10.0
    outbind_listen: tuple[str, int] | None = None  # where its SMSC calls us to be bound to; None: we connect
    outbind_system_id: str = ""  # who it must say it is; empty: anyone
    outbind_password: Secret | None = None  # and the password it must name; None: any
    alphabet: str = "gsm"  # what data_coding 0 means to this SMSC: gsm | latin1 | ascii
    source_ton: int | None = None  # None: chosen from the sender id
    source_npi: int | None = None
    id_format: str = "auto"  # auto | text | resp_hex_dlr_dec | resp_dec_hex
    reference_bits: int = 8  # of the concatenation reference: 8 | 16
    registered_delivery: bool | str = "final"  # final | failure | none; true is final, false none
    categories: frozenset[Category] = ALL_CATEGORIES  # what the carrier's contract admits on this channel
    outcomes: tuple[tuple[int, str], ...] = ()  # command_status → slow | same | next | permanent | channel | bug
    tls: bool = False
    tls_ca: Path | None = None  # None: the system's authorities
    tls_name: str = ""  # whose certificate it must be; empty: that of `host`
    tls_cert: Path | None = None
    tls_key: Path | None = None
    interface_version: int = 0x34
    long_password: bool = False
    service_type: str = ""
    protocol_id: int = 0
    priority: tuple[int, int, int] = (0, 0, 0)  # priority_flag by category
    validity: str = "relative"  # relative | none
    tlvs: tuple[tuple[int, bytes], ...] = ()  # (tag, octets) that every submit_sm gets
    long: str = "udh"  # how a message of several parts travels: udh | sar | payload
    packed: bool = False  # GSM text packed, eight septets in seven octets
    data_coding: tuple[tuple[str, int], ...] = ()  # (encoding, data_coding) in place of the usual
    source: tuple[tuple[str, str], ...] = ()  # (sender id, source_addr in its place); "*": all others
    source_types: tuple[tuple[str, tuple[int, int]], ...] = ()  # (kind of sender id, (TON, NPI)); see smpp.address
    access_number: str = ""  # source_addr of signed messages, before the extension; empty: the sender
    signatures: tuple[SignatureSettings, ...] = ()  # the only ones it may carry; (): any, and texts without one
    carrier: str = ""  # whose failure codes its receipts bring; empty: several
    error_table: str = ""  # what a bare number in err means: map | smrse | …; empty: the carrier's, else map
    failure_codes: tuple[tuple[str, str, bool | None], ...] = ()  # (code, reason, permanent; None: the reason's own)

    def registration(self, signature: str) -> SignatureSettings | None:
        """Return the entry of a signature (as `clean` returns it), None where the list does not have it."""
        other = None
        for entry in self.signatures:
            if entry.name == signature:
                return entry
            if entry.name == ANY:
                other = entry
        return other if signature else None

    def carries(self, signature: str) -> bool:
        """Tell whether a text with this signature ('': none) may go by this channel."""
        return not self.signatures or self.registration(signature) is not None


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """What a message must be for a route to take it; None matches anything."""

    country: str | None = None  # ISO 3166 two letters
    carrier: str | None = None  # as named in the country's number segments
    category: Category | None = None
    account: str | None = None
    sender: str | None = None
    prefix: str | None = None  # E.164 digits without '+'


@dataclass(frozen=True, slots=True)
class RankedChannel:
    """One channel's place in a route: rank 0 is primary, channels of one rank share the load by weight."""

    id: str
    rank: int
    weight: int = 1


@dataclass(frozen=True, slots=True)
class RouteSettings:
    id: str
    match: RouteMatch
    channels: tuple[RankedChannel, ...]
    order: str = "weight"  # how channels of one rank share: weight | cost | quality
    redeliver_after_s: tuple[tuple[Category, int], ...] = ()  # in place of the category's; 0: not on this route


EVENT_LETTERS: dict[str, str] = {
    "message.submitted": "s",
    "message.delivered": "f",
    "message.failed": "f",
    "message.corrected": "c",
    "message.inbound": "i",
    "recipient.opted_out": "o",
}
"""Types of events for applications, and the letter by which the store's scripts know what an account wants."""
KEEP_TEXT = "T"
USUAL_EVENTS: frozenset[str] = frozenset(EVENT_LETTERS) - {"message.submitted"}


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Where an account hears of its messages, and how much it hears. The URL may hold a token: not in a repr."""

    url: str = field(repr=False)
    secrets: tuple[Secret, ...]  # two while one is replaced by the other: every call is signed with each
    events: frozenset[str] = USUAL_EVENTS
    batch: int = 1  # events a call; 1: one by one
    concurrency: int = 8  # calls at a time
    timeout_s: float = 15.0  # for one call, from its first byte to the whole answer
    include_text: bool = False
    full_number: bool = False
    allow_insecure: bool = False  # http
    allow_private: bool = False  # addresses of one's own networks and this machine
    allow_ports: frozenset[int] = frozenset()  # besides 443 and 8443
    tls_ca: Path | None = None  # None: the system's authorities

    @property
    def host(self) -> str:
        """Return the host alone: all that is shown of a URL."""
        return urlsplit(self.url).hostname or ""

    @property
    def letters(self) -> str:
        """Return what the scripts shall tell this account (`Store.set_consumers`)."""
        wanted = dict.fromkeys(letter for name, letter in EVENT_LETTERS.items() if name in self.events)
        return "".join(wanted) + (KEEP_TEXT if self.include_text else "")


@dataclass(frozen=True, slots=True)
class WebhooksSettings:
    """The workers that call the accounts' webhooks; started only where an account has one."""

    workers: int = 1


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """One application: its keys (only their hashes), what it may send, and how much."""

    id: str
    key_hashes: tuple[str, ...] = ()  # "sha256:" + 64 lower-case hex digits of the whole key
    categories: frozenset[Category] = ALL_CATEGORIES
    senders: tuple[str, ...] = ()  # the first is the default; empty: none may be chosen
    signature: str | tuple[str, ...] = ""  # one of these a text must carry; empty: any or none
    default_country: str = "CN"
    max_per_s: int = 0  # 0: no limit
    daily_quota: int = 0  # 0: no limit
    per_number: tuple[tuple[Category, tuple[tuple[int, int], ...]], ...] = ()  # in place of the category's
    when_capped: str = "refuse"  # refuse | defer
    consent_required: bool = False  # marketing must say that its recipient agreed
    link_domains: tuple[str, ...] | None = None  # the only ones texts may link to; None: any
    webhook: WebhookSettings | None = None
    optout_scope: str = "account"  # account | sender | signature | global: what an opt-out by reply ends
    optout_categories: frozenset[Category] = frozenset({Category.MARKETING})

    @property
    def signatures(self) -> tuple[str, ...]:
        """The account's signatures as `signature.clean` returns them, in the file's order."""
        written = (self.signature,) if isinstance(self.signature, str) else self.signature
        return tuple(dict.fromkeys(clean(one) for one in written if one))


@dataclass(frozen=True, slots=True)
class Settings:
    """One revision of the whole configuration."""

    config_dir: Path
    store: StoreSettings = StoreSettings()
    api: ApiSettings = ApiSettings()
    admin: AdminSettings = AdminSettings()
    console: ConsoleSettings = ConsoleSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    dispatch: DispatchSettings = DispatchSettings()
    webhooks: WebhooksSettings = WebhooksSettings()
    config: ConfigSettings = ConfigSettings()
    ported: PortedSettings = PortedSettings()
    quality: QualitySettings = QualitySettings()
    receipts: ReceiptsSettings = ReceiptsSettings()
    inbound: InboundSettings = InboundSettings()
    keywords: tuple[KeywordSettings, ...] = ()
    categories: dict[Category, CategorySettings] = field(default_factory=default_categories)
    channels: tuple[ChannelSettings, ...] = ()
    routes: tuple[RouteSettings, ...] = ()
    accounts: tuple[AccountSettings, ...] = ()
    revision: str = ""  # first 12 hex digits of SHA-256 over every file read
    number_segments_files: dict[str, Path] = field(default_factory=dict)  # ISO 3166 country → CSV file
    ported_codes_file: Path | None = None  # CSV of the receipt codes that say "ported"; None: no code does
    failure_codes_file: Path | None = None  # CSV of receipts' failure codes; None: no code is known
    optout_words_file: Path | None = None  # CSV of what handsets reply to get no more; None: no reply is an opt-out
    quiet_hours_file: Path | None = None  # CSV of hours by country and category; None: `send_hours` alone
    time_zones_file: Path | None = None  # CSV of time zones by country; None: every number's clock is UTC
    content_words_file: Path | None = None  # CSV of words that texts must not hold; None: any may
    templates_file: Path | None = None  # templates.toml; None: only those of the admin API
    warnings: tuple[ConfigProblem, ...] = ()

    @property
    def consumers(self) -> dict[str, str]:
        """Return account → what the store's scripts shall tell it; only accounts with a webhook."""
        return {a.id: a.webhook.letters for a in self.accounts if a.webhook is not None and a.webhook.letters}

    def redeliver_after_s(self, route: str, category: Category) -> int:
        """Return how long a message waits for its receipt before a copy goes by another channel; 0: for ever."""
        own = next((dict(r.redeliver_after_s) for r in self.routes if r.id == route), {})
        return own.get(category, self.categories[category].redeliver_after_s)

    @property
    def rates_channels(self) -> bool:
        """Whether anything asks how channels do: a route ordered by quality, or redelivery."""
        return any(r.order == "quality" for r in self.routes) or any(
            self.redeliver_after_s(r.id, c) for r in self.routes for c in Category
        )
