"""The Grafana dashboards: what is shown, where its lines lie, and what it means at 3 a.m.

Owns every panel. `python -m tools.dashboards` writes config/grafana/dashboards/*.json; a test holds that they are what
this makes, and another evaluates each expression on a real Prometheus that scrapes a running gateway. Refuses to know
Grafana's JSON (tools/grafana.py) and thresholds of alerts (config/prometheus/rules.yml).

Gauges that come from the store are the same on every machine that shares it, hence `max`; counters are added up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from tools.grafana import BLUE, GREEN, ORANGE, RED, Dashboard, Panel, Query, Variable

FOLDER: Final = Path(__file__).parents[1] / "config" / "grafana" / "dashboards"
RATE: Final = "[$__rate_interval]"
ON, CHANNEL, ACCOUNT = 'job=~"$job"', 'job=~"$job",channel=~"$channel"', 'job=~"$job",account=~"$account"'
RECEIPT_STATES: Final = "delivered|undeliverable|rejected|expired|unknown"
TAKEN: Final = 'status="0x00000000"'

JOB = Variable("job", "Installation", "label_values(smsgw_worker_up, job)")
CHANNELS = Variable("channel", "Channel", 'label_values(smsgw_channel_up{job=~"$job"}, channel)')
ACCOUNTS = Variable("account", "Account", 'label_values(smsgw_account_messages_total{job=~"$job"}, account)')

YES_NO = {1.0: ("yes", GREEN), 0.0: ("no", RED)}
UP_DOWN = {1.0: ("up", GREEN), 0.0: ("down", RED)}
BREAKER = {0.0: ("closed", GREEN), 1.0: ("probing", ORANGE), 2.0: ("open", RED)}
OPERATOR = {0.0: ("run", GREEN), 1.0: ("paused", ORANGE), 2.0: ("draining", ORANGE)}
INTAKE = {0.0: ("open", GREEN), 1.0: ("verification only", ORANGE), 2.0: ("closed", RED)}


def rate(metric: str, labels: str, *by: str) -> str:
    """Return events a second, by labels."""
    return f"sum by ({', '.join(by)}) (rate(smsgw_{metric}{{{labels}}}{RATE}))"


def quantile(q: float, metric: str, labels: str, *by: str) -> str:
    """Return a quantile of a histogram, by labels."""
    return f"histogram_quantile({q}, sum by ({', '.join((*by, 'le'))}) (rate(smsgw_{metric}_bucket{{{labels}}}{RATE})))"


def most(metric: str, labels: str, *by: str) -> str:
    """Return a gauge of the store: the same from every machine."""
    return f"max by ({', '.join(by)}) (smsgw_{metric}{{{labels}}})" if by else f"max(smsgw_{metric}{{{labels}}})"


def one(expr: str, legend: str = "") -> tuple[Query, ...]:
    """Return one query."""
    return (Query(expr, legend),)


def stat(title: str, about: str, expr: str, **more: object) -> Panel:
    """Return a big number."""
    return Panel(title, about, one(expr), kind="stat", **{"width": 3, "height": 4, **more})  # type: ignore[arg-type]


def ratio(states: str, labels: str, window: str, *by: str) -> str:
    """Return the share of messages that ended in `states`, by labels."""
    by_text = ", ".join(by)
    part = f'sum by ({by_text}) (increase(smsgw_deliveries_total{{{labels},state="{states}"}}[{window}]))'
    whole = f'sum by ({by_text}) (increase(smsgw_deliveries_total{{{labels},state!="corrected"}}[{window}]))'
    return f"{part} / ({whole} > 0)"


OVERVIEW = Dashboard(
    "smsgw-overview",
    "smsgw · Overview",
    "Is it well? Top row green: go back to bed. Then: what comes in, what goes out, how long it waits, what fails.",
    (
        (
            "Is it well?",
            (
                stat(
                    "Alerts firing",
                    "Alerts of rules.yml that fire now. Not 0: the list below names them; docs/operations.md says for each what to do.",
                    'count(ALERTS{alertstate="firing",alertname=~"Smsgw.*",job=~"$job"}) or vector(0)',
                    steps=((1, RED),),
                ),
                stat(
                    "Store ready",
                    "Whether the store keeps its promise that accepted means on disk. No: nothing is accepted; /readyz names the reason.",
                    f"min(smsgw_store_ready{{{ON}}})",
                    words=YES_NO,
                    base=RED,
                    steps=((1, GREEN),),
                ),
                stat(
                    "Intake",
                    "What the store has room for. Not open: its memory or disk is short (dashboard Store), and posts get 503.",
                    most("store_intake", ON),
                    words=INTAKE,
                    steps=((1, ORANGE), (2, RED)),
                ),
                stat(
                    "Channels down",
                    "Channels without a session that can submit. The dashboard Carriers names them; their traffic goes to the next rank.",
                    f"count(max by (channel) (smsgw_channel_up{{{ON}}}) == 0) or vector(0)",
                    steps=((1, RED),),
                ),
                stat(
                    "Verification wait p99",
                    "From the time a code was due to its first submit, over five minutes: one in a hundred waits longer. Normal is well below 0.1 s. Above 1 s: is a backlog in front of it, a channel down, the store slow?",
                    f'histogram_quantile(0.99, sum by (le) (rate(smsgw_accept_to_submit_seconds_bucket{{{ON},category="verification"}}[5m])))',
                    unit="s",
                    steps=((0.25, ORANGE), (1, RED)),
                ),
                stat(
                    "Delivered, last hour",
                    "Share of the messages whose end is known that were delivered. Compare with the week (dashboard Carriers) before you worry: marketing to old lists is always lower.",
                    f'sum(increase(smsgw_deliveries_total{{{ON},state="delivered"}}[1h])) / sum(increase(smsgw_deliveries_total{{{ON},state!="corrected"}}[1h]))',
                    unit="percentunit",
                    base=RED,
                    steps=((0.8, ORANGE), (0.9, GREEN)),
                ),
                stat(
                    "Waiting",
                    "Stored messages that wait to be sent, scheduled ones too. Growing without end: more comes in than the channels take.",
                    most("waiting_messages", ON),
                    base=BLUE,
                ),
                stat(
                    "Machines",
                    "Machines whose metrics are read. Fewer than you have: one is down, or Prometheus cannot reach it.",
                    f"count(up{{{ON}}} == 1) or vector(0)",
                    base=RED,
                    steps=((1, GREEN),),
                ),
                Panel(
                    "Alerts",
                    "What fires, or is about to (pending). The runbook of each is docs/operations.md under its name.",
                    one(
                        'sum by (alertname, severity, alertstate, channel, account, category, route, instance) (ALERTS{alertname=~"Smsgw.*",job=~"$job"})',
                        "since",
                    ),
                    kind="table",
                    width=24,
                    height=6,
                ),
            ),
        ),
        (
            "Messages",
            (
                Panel(
                    "Accepted",
                    "Messages a second that were stored, by category. A gap where there is never one: applications cannot reach us, or are refused (next panel).",
                    one(rate("messages_total", f'{ON},state=~"queued|scheduled|deferred"', "category"), "{{category}}"),
                    unit="mps",
                    stacked=True,
                ),
                Panel(
                    "Refused, by code",
                    "Messages a second that were not stored. overloaded and store_unavailable are ours: look at the store. rate_limited, invalid_number and the like are the application's (dashboard Accounts).",
                    one(rate("messages_total", f'{ON},state="refused"', "reason"), "{{reason}}"),
                    unit="mps",
                    stacked=True,
                ),
                Panel(
                    "How they end",
                    "Final states a second. Where delivered falls and another rises: the carriers' dashboard says on which channel. unknown means no receipt came in time.",
                    one(
                        rate(
                            "messages_total",
                            f'{ON},state=~"delivered|undeliverable|rejected|expired|failed|cancelled|blocked|unknown"',
                            "state",
                        ),
                        "{{state}}",
                    ),
                    unit="mps",
                    stacked=True,
                ),
                Panel(
                    "Delivered share, by category",
                    "Over an hour. A fall in all categories: a carrier, or our line. In one: its texts, its numbers.",
                    one(ratio("delivered", ON, "1h", "category"), "{{category}}"),
                    unit="percentunit",
                    most=1,
                ),
                Panel(
                    "Wait before the first submit (p99)",
                    "From the time a message was due until it was handed to a carrier. Verification must stay flat whatever the others do: it goes first. Marketing may wait for hours, by design.",
                    (
                        Query(quantile(0.99, "accept_to_submit_seconds", ON, "category"), "{{category}} p99"),
                        Query(
                            quantile(0.5, "accept_to_submit_seconds", f'{ON},category="verification"', "category"),
                            "{{category}} p50",
                        ),
                    ),
                    unit="s",
                    log=True,
                    least=None,
                ),
                Panel(
                    "Oldest waiting message, by route and category",
                    "How long the head of each queue has waited. Verification above some seconds: none of the route's channels takes it (down, paused, out of rate, signature not registered).",
                    one(most("queue_oldest_age_seconds", ON, "route", "category"), "{{route}} {{category}}"),
                    unit="s",
                ),
                Panel(
                    "Queued, by route and rank",
                    "Entries in the queues. Rank 0 is the primary; entries at higher ranks were refused before. A backlog that does not shrink needs more TPS or another channel.",
                    one(
                        f"sum by (route, rank) (max by (route, rank, category) (smsgw_queue_depth{{{ON}}}))",
                        "{{route}} rank {{rank}}",
                    ),
                    stacked=True,
                ),
                Panel(
                    "Retried and possible copies",
                    "Attempts that are tried again, and copies that were sent while the first may have arrived, by cause. Copies above one in a thousand: sessions break, or answers are lost.",
                    (
                        Query(rate("messages_total", f'{ON},state="retried"', "reason"), "retried {{reason}}"),
                        Query(rate("possible_duplicates_total", ON, "cause"), "possible copy: {{cause}}"),
                    ),
                    unit="mps",
                ),
            ),
        ),
        (
            "The HTTP side",
            (
                Panel(
                    "Requests, by status",
                    "Requests a second. 401: a key that nobody has. 429: an account above its limits. 503: ours. 500: a fault of ours, see the log.",
                    one(rate("http_requests_total", ON, "status"), "{{status}}"),
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    "Time to answer a post",
                    "From the whole request read to its answer; most of it is the flush to disk. Slow: dashboard Store, commit times.",
                    (
                        Query(quantile(0.5, "accept_seconds", ON), "p50"),
                        Query(quantile(0.99, "accept_seconds", ON), "p99"),
                    ),
                    unit="s",
                    steps=((0.25, RED),),
                ),
            ),
        ),
        (
            "Machines and configuration",
            (
                Panel(
                    "Configuration in force",
                    "The revision each machine runs. More than one for long: reload the one that stayed behind (smsgw config diff).",
                    one(f"sum by (instance, revision) (smsgw_config_revision_info{{{ON}}})", "machines"),
                    kind="table",
                    width=8,
                    height=6,
                ),
                stat(
                    "Reload",
                    "Whether the last reload was taken. Refused: what was in force stays; smsgw check names file, key and reason.",
                    f"min(smsgw_config_reload_success{{{ON}}})",
                    words={1.0: ("taken", GREEN), 0.0: ("refused", RED)},
                    base=RED,
                    steps=((1, GREEN),),
                    width=4,
                    height=6,
                ),
                Panel(
                    "Workers ready",
                    "Workers that do their work, by role. A gap: one ended and was started again (its log says why), or waits for the store.",
                    one(f"sum by (instance, role) (smsgw_worker_ready{{{ON}}})", "{{instance}} {{role}}"),
                    width=12,
                    height=6,
                ),
            ),
        ),
    ),
    (JOB,),
)


CARRIERS = Dashboard(
    "smsgw-carriers",
    "smsgw · Carriers",
    "Each channel: does it stand, how fast, what it refuses, what its receipts say and whether they can be believed.",
    (
        (
            "Channels now",
            (
                Panel(
                    "Channels",
                    "One row a channel. down: no session. Breaker open: it refuses or is silent, and is left alone. paused: an operator said so (smsgw channels). Delivered is over the last hour.",
                    (
                        Query(most("channel_up", CHANNEL, "channel"), "state"),
                        Query(most("channel_breaker", CHANNEL, "channel"), "breaker"),
                        Query(most("channel_operator", CHANNEL, "channel"), "operator"),
                        Query(f"sum by (channel) (smsgw_channel_sessions{{{CHANNEL}}})", "sessions"),
                        Query(most("channel_tps_limit", CHANNEL, "channel"), "TPS limit"),
                        Query(f"sum by (channel) (rate(smsgw_submits_total{{{CHANNEL}}}[5m]))", "submits/s"),
                        Query(ratio("delivered", CHANNEL, "1h", "channel"), "delivered"),
                        Query(most("parked_receipts", CHANNEL, "channel"), "parked receipts"),
                    ),
                    kind="table",
                    width=24,
                    height=9,
                    least=None,
                    units={"delivered": "percentunit", "submits/s": "none", "TPS limit": "none"},
                    column_words={"state": UP_DOWN, "breaker": BREAKER, "operator": OPERATOR},
                ),
                Panel(
                    "Up and down",
                    "Red: no session could submit. Short red marks again and again: the carrier or the line flaps.",
                    one(most("channel_up", CHANNEL, "channel"), "{{channel}}"),
                    kind="state-timeline",
                    words=UP_DOWN,
                ),
                Panel(
                    "Breakers",
                    "Open: it refuses most messages or does not answer; probing: one message a second finds out whether it works again. Flapping moves traffic each time: pause the channel.",
                    one(most("channel_breaker", CHANNEL, "channel"), "{{channel}}"),
                    kind="state-timeline",
                    words=BREAKER,
                ),
            ),
        ),
        (
            "Sending",
            (
                Panel(
                    "Submits a second",
                    "Submits that were answered, and the rate in force (limit). At the limit with a backlog: the contract's TPS is what holds you back. Limit below max_tps: the carrier throttles us, and it climbs back by itself.",
                    (
                        Query(rate("submits_total", CHANNEL, "channel"), "{{channel}}"),
                        Query(f"{most('channel_tps_limit', CHANNEL, 'channel')} > 0", "{{channel}} limit"),
                    ),
                    unit="mps",
                ),
                Panel(
                    "Refused submits, by command_status",
                    "0x58 and 0x14: too fast, or its queue is full. 0x0A, 0x0B: address. 0x0D to 0x0F: bind and password. 0x400 and above are the carrier's own: ask it, then set outcomes.",
                    one(
                        rate("submits_total", f'{CHANNEL},status!="0x00000000"', "channel", "status"),
                        "{{channel}} {{status}}",
                    ),
                    unit="mps",
                ),
                Panel(
                    "Response time (p99)",
                    "From submit_sm to its response. Rising with the window full: the carrier is slow, and window / response time is all you get.",
                    one(quantile(0.99, "submit_response_seconds", CHANNEL, "channel"), "{{channel}}"),
                    unit="s",
                    log=True,
                    least=None,
                ),
                Panel(
                    "Window in use",
                    "Submits without answer, over all sessions. Flat at its size: a larger window would help, where the carrier allows it.",
                    one(f"sum by (channel) (smsgw_channel_window_used{{{CHANNEL}}})", "{{channel}}"),
                ),
                Panel(
                    "Moved to another channel",
                    "Messages a second that a channel could not take and that went to another rank, by cause. The backup's price is yours.",
                    one(
                        rate("failovers_total", f'{ON},from=~"$channel"', "route", "from", "to", "cause"),
                        "{{route}}: {{from}} → rank {{to}} ({{cause}})",
                    ),
                    unit="mps",
                ),
                Panel(
                    "Binds",
                    "Attempts to bind, by result, within five minutes. refused: password, address or number of binds. unreachable: line or firewall.",
                    one(
                        f"sum by (channel, result) (increase(smsgw_binds_total{{{CHANNEL}}}[5m]))",
                        "{{channel}} {{result}}",
                    ),
                ),
            ),
        ),
        (
            "Delivery",
            (
                Panel(
                    "Delivered share over an hour, and of the week",
                    "Messages whose end is known, by channel and category. The line of the week is the channel's own mean: SmsgwDeliveryRatioDrop fires 15 % below it.",
                    (
                        Query(f"smsgw:delivery_ratio:1h{{{CHANNEL}}}", "{{channel}} {{category}}"),
                        Query(f"smsgw:delivery_ratio:7d{{{CHANNEL}}}", "{{channel}} {{category}} week"),
                    ),
                    unit="percentunit",
                    most=1,
                    height=9,
                ),
                Panel(
                    "Not delivered, by state",
                    "undeliverable and rejected: the carrier said no (reasons: smsgw stats). expired: the phone was off. unknown: no receipt came in time.",
                    one(
                        rate("deliveries_total", f'{CHANNEL},state!~"delivered|corrected"', "channel", "state"),
                        "{{channel}} {{state}}",
                    ),
                    unit="mps",
                    height=9,
                ),
                Panel(
                    "Receipts for each message taken",
                    "Receipts over submits, one hour. Falls far below its usual value: the carrier holds receipts back, or the session that receives is gone.",
                    (
                        Query(f"smsgw:receipt_ratio:1h{{{CHANNEL}}}", "{{channel}}"),
                        Query(f"smsgw:receipt_ratio:7d{{{CHANNEL}}}", "{{channel}} week"),
                    ),
                    unit="percentunit",
                ),
                Panel(
                    "Receipts by what they were",
                    "A second. duplicate is harmless; quarantined: the id is another number's message; parked: no message has that id (yet); orphan: its message is gone.",
                    one(rate("receipts_total", CHANNEL, "channel", "state"), "{{channel}} {{state}}"),
                    unit="mps",
                ),
                Panel(
                    "Receipt delay",
                    "From the submit to its receipt. A slow median is the carrier's; a slow p99 is phones that were off.",
                    (
                        Query(quantile(0.5, "receipt_delay_seconds", CHANNEL, "channel"), "{{channel}} p50"),
                        Query(quantile(0.99, "receipt_delay_seconds", CHANNEL, "channel"), "{{channel}} p99"),
                    ),
                    unit="s",
                    log=True,
                    least=None,
                ),
                Panel(
                    "Parked receipts",
                    "Receipts that fit no message. A few after a restart are normal. Growing: id_format is wrong, or another system uses the account.",
                    one(most("parked_receipts", CHANNEL, "channel"), "{{channel}}"),
                    steps=((100, RED),),
                ),
            ),
        ),
        (
            "Can the receipts be believed?",
            (
                Panel(
                    "Delivered within a second",
                    "Share of deliveries whose receipt came within a second. Real phones take longer now and then: near 100 % for a large number is a sign of made-up receipts.",
                    one(most("receipts_fast_share", CHANNEL, "channel"), "{{channel}}"),
                    unit="percentunit",
                    width=8,
                    most=1,
                ),
                Panel(
                    "Spread of the delay",
                    "Standard deviation of the delay. Next to nothing over many messages: a machine answers, not phones.",
                    one(most("receipt_delay_std_seconds", CHANNEL, "channel"), "{{channel}}"),
                    unit="s",
                    width=8,
                ),
                Panel(
                    "Impossible receipts, unknown codes",
                    "Within an hour: deliveries to numbers that nobody has (receipts.probe_numbers) and failures whose code no table has (smsgw codes unknown).",
                    (
                        Query(
                            f"sum by (channel) (increase(smsgw_receipts_impossible_total{{{CHANNEL}}}[1h]))",
                            "{{channel}} impossible",
                        ),
                        Query(
                            f"sum by (channel) (increase(smsgw_unknown_failure_codes_total{{{CHANNEL}}}[1h]))",
                            "{{channel}} unknown code",
                        ),
                    ),
                    width=8,
                ),
            ),
        ),
        (
            "Trouble",
            (
                Panel(
                    "Channel alarms",
                    "Answers within an hour that mean a fault of the channel (barred, no credit, password) or of ours (bug). Each wants a person; the log has the command_status.",
                    one(
                        f"sum by (channel, outcome) (increase(smsgw_channel_alarms_total{{{CHANNEL}}}[1h]))",
                        "{{channel}} {{outcome}}",
                    ),
                    width=8,
                    steps=((1, RED),),
                ),
                Panel(
                    "Late answers and receipts",
                    "Within an hour: answers after the timer, or settled by a receipt. Many: response_timer_s is too short for this carrier.",
                    one(f"sum by (channel) (increase(smsgw_late_results_total{{{CHANNEL}}}[1h]))", "{{channel}}"),
                    width=8,
                ),
                Panel(
                    "Faults of the protocol",
                    "PDUs that break SMPP, within an hour: sequence numbers never used, lengths that do not fit. The carrier's software; send it the log.",
                    one(
                        f"sum by (channel, kind) (increase(smsgw_smpp_faults_total{{{CHANNEL}}}[1h]))",
                        "{{channel}} {{kind}}",
                    ),
                    width=8,
                ),
            ),
        ),
    ),
    (JOB, CHANNELS),
)


ACCOUNTS_PAGE = Dashboard(
    "smsgw-accounts",
    "smsgw · Accounts",
    "Each application: what it sends, what is refused and why, whether it hears of its events, who opts out.",
    (
        (
            "What they send",
            (
                Panel(
                    "Accepted, by account",
                    "Messages a second that were stored. An account that stops where it never does: ask its owner, look at the refusals.",
                    one(rate("account_messages_total", f'{ACCOUNT},result="accepted"', "account"), "{{account}}"),
                    unit="mps",
                    stacked=True,
                ),
                Panel(
                    "Refused, by account and code",
                    "Messages a second. rate_limited, quota_exceeded: its limits (accounts.toml). blocked_recipient, frequency_capped: rules that protect recipients. invalid_*: its own data.",
                    one(
                        rate("account_messages_total", f'{ACCOUNT},result!="accepted"', "account", "result"),
                        "{{account}} {{result}}",
                    ),
                    unit="mps",
                    stacked=True,
                ),
                Panel(
                    "Share refused, last hour",
                    "Above half the alert SmsgwAccountRefused fires. The code beside it says whose fault it is.",
                    one(
                        f'sum by (account) (increase(smsgw_account_messages_total{{{ACCOUNT},result!="accepted"}}[1h])) / (sum by (account) (increase(smsgw_account_messages_total{{{ACCOUNT}}}[1h])) > 0)',
                        "{{account}}",
                    ),
                    unit="percentunit",
                    most=1,
                    steps=((0.5, RED),),
                ),
                Panel(
                    "Words that were found in texts",
                    "Hits of content_words.csv a second, by the word's id and what follows (refuse or note).",
                    one(rate("content_hits_total", ON, "rule", "action"), "{{rule}} ({{action}})"),
                    unit="mps",
                ),
            ),
        ),
        (
            "Webhooks",
            (
                Panel(
                    "Backlog",
                    "Events that wait for the account's endpoint, retries included. Growing: the endpoint fails or is slow (next panels); events are kept and tried for three days.",
                    one(most("webhook_backlog", ACCOUNT, "account"), "{{account}}"),
                    steps=((1000, RED),),
                ),
                Panel(
                    "Oldest event",
                    "How long the event at the head of the line has waited. Minutes: the endpoint does not keep up, or is disabled (smsgw webhooks list).",
                    one(most("webhook_oldest_age_seconds", ACCOUNT, "account"), "{{account}}"),
                    unit="s",
                    steps=((600, RED),),
                ),
                Panel(
                    "Deliveries, by result",
                    "Events a second by what became of the call. http_4xx: the endpoint refuses (signature? path?). http_5xx, timeout, connect: it is ill. dead: given up.",
                    one(rate("webhook_deliveries_total", ACCOUNT, "account", "result"), "{{account}} {{result}}"),
                    unit="ops",
                    stacked=True,
                ),
                Panel(
                    "Duration of a call",
                    "All endpoints together. A p99 near the time-out: some endpoint hangs and holds its line up.",
                    (
                        Query(quantile(0.5, "webhook_seconds", ON), "p50"),
                        Query(quantile(0.99, "webhook_seconds", ON), "p99"),
                    ),
                    unit="s",
                ),
                Panel(
                    "Dead letters",
                    "Events given up and kept. When the endpoint works again: smsgw webhooks retry-dead.",
                    one(most("webhook_dead_letters", ACCOUNT, "account"), "{{account}}"),
                    steps=((1, RED),),
                ),
            ),
        ),
        (
            "Recipients",
            (
                Panel(
                    "What recipients write",
                    "Messages from handsets within an hour by what they were. stop: opt-outs. review: a person must read it (smsgw inbound review).",
                    one(f"sum by (what) (increase(smsgw_inbound_read_total{{{ON}}}[1h]))", "{{what}}"),
                ),
                Panel(
                    "Opt-outs for each message that ended, last hour",
                    "By channel. Above 2 % carriers complain: find the campaign (smsgw stats) and hold its gate.",
                    one(
                        f'sum by (channel) (increase(smsgw_inbound_read_total{{{ON},what="stop"}}[1h])) / (sum by (channel) (increase(smsgw_deliveries_total{{{ON},state!="corrected"}}[1h])) > 0)',
                        "{{channel}}",
                    ),
                    unit="percentunit",
                    steps=((0.02, RED),),
                ),
                Panel(
                    "Numbers on blacklists, by reason",
                    "Over all scopes. td: opted out. complaint: told by applications as feedback. A jump: an import, or a campaign that went wrong.",
                    one(most("blacklist_entries", ON, "reason"), "{{reason}}"),
                ),
                Panel(
                    "Replies that wait for a person",
                    "They may be opt-outs in words that no table has. smsgw inbound review shows them.",
                    one(most("inbound_review_waiting", ON), "waiting"),
                    steps=((1, ORANGE),),
                ),
            ),
        ),
        (
            "Connections",
            (
                Panel(
                    "Open connections",
                    "Client connections of all api workers. Near max_connections new ones are closed.",
                    one(f"sum by (instance) (smsgw_http_connections{{{ON}}})", "{{instance}}"),
                ),
                Panel(
                    "Requests that were refused at the door",
                    "401: no or a wrong key. 413, 415, 400: not a request we read. Many 401 from one client: an old key, or somebody tries keys.",
                    one(
                        rate("http_requests_total", f'{ON},status=~"4.."', "endpoint", "status"),
                        "{{endpoint}} {{status}}",
                    ),
                    unit="reqps",
                ),
            ),
        ),
    ),
    (JOB, ACCOUNTS),
)


STORE = Dashboard(
    "smsgw-store",
    "smsgw · Store and machines",
    "Does the store keep its promise, how fast does it flush, how much room is left; and the processes around it.",
    (
        (
            "Room",
            (
                stat(
                    "Ready",
                    "No: it does not answer, is loading, or a setting is weaker than durability says. /readyz names the reason.",
                    f"min(smsgw_store_ready{{{ON}}})",
                    words=YES_NO,
                    base=RED,
                    steps=((1, GREEN),),
                ),
                stat(
                    "Intake",
                    "What there is room for. At 80 % of memory, or too little disk for a rewrite of the append-only file, only verification is accepted; further on nothing.",
                    most("store_intake", ON),
                    words=INTAKE,
                    steps=((1, ORANGE), (2, RED)),
                ),
                stat(
                    "Memory used",
                    "Of the server's maxmemory. Records live retention_s after their end: shorten it, or give it more memory.",
                    f'max(smsgw_store_memory_bytes{{{ON},kind="used"}}) / max(smsgw_store_memory_bytes{{{ON},kind="limit"}})',
                    unit="percentunit",
                    steps=((0.7, ORANGE), (0.8, RED)),
                ),
                stat(
                    "Disk free",
                    "The least of all machines, of the disk under store.data_dir. Below 10 %, or twice the append-only file, intake narrows.",
                    f'min(smsgw_disk_bytes{{{ON},kind="free"}} / ignoring (kind) smsgw_disk_bytes{{{ON},kind="total"}})',
                    unit="percentunit",
                    base=RED,
                    steps=((0.15, ORANGE), (0.3, GREEN)),
                ),
                stat(
                    "Commit p99",
                    "Accepting, flush to disk included, over five minutes. What every post waits for.",
                    f'histogram_quantile(0.99, sum by (le) (rate(smsgw_store_commit_seconds_bucket{{{ON},move="accept"}}[5m])))',
                    unit="s",
                    steps=((0.05, ORANGE), (0.1, RED)),
                ),
                stat(
                    "Weak settings",
                    "Settings of the server that are weaker than store.durability promises. The log and /readyz name them.",
                    f"sum(max by (setting) (smsgw_store_setting_mismatch{{{ON}}})) or vector(0)",
                    steps=((1, RED),),
                ),
                stat(
                    "Restarts, last hour",
                    "Times the embedded server ended and was started again. Look for the kernel's out-of-memory killer.",
                    f"sum(increase(smsgw_store_restarts_total{{{ON}}}[1h])) or vector(0)",
                    steps=((1, RED),),
                ),
                stat(
                    "Waiting",
                    "Stored messages that wait to be sent. At store.max_queued posts get 503.",
                    most("waiting_messages", ON),
                    base=BLUE,
                ),
            ),
        ),
        (
            "Calls",
            (
                Panel(
                    "Commit time (p99), by move",
                    "One call, flush included, by what it does (docs/life_of_a_message.md). All slow together: the disk. One alone: batches grew, look at its size.",
                    one(quantile(0.99, "store_commit_seconds", ON, "move"), "{{move}}"),
                    unit="s",
                    log=True,
                    least=None,
                ),
                Panel(
                    "Calls a second, by move",
                    "Under load calls grow slower than messages, because batches grow.",
                    one(rate("store_commit_seconds_count", ON, "move"), "{{move}}"),
                    unit="ops",
                    stacked=True,
                ),
                Panel(
                    "Messages a call",
                    "Mean size of a batch, by move. At 200 (accept) the store is what holds you back.",
                    one(
                        f"sum by (move) (rate(smsgw_store_batch_size_sum{{{ON}}}{RATE})) / (sum by (move) (rate(smsgw_store_batch_size_count{{{ON}}}{RATE})) > 0)",
                        "{{move}}",
                    ),
                ),
                Panel(
                    "Failed calls",
                    "By move and kind: not_stored (refused or not reached; repeated), unknown (no answer came), fault (a script of ours failed: see the log).",
                    one(rate("store_errors_total", ON, "move", "kind"), "{{move}} {{kind}}"),
                    unit="ops",
                ),
                Panel(
                    "Memory and append-only file",
                    "Used, its limit, and the file on disk. A rewrite needs as much disk again as the file has.",
                    one(most("store_memory_bytes", ON, "kind"), "{{kind}}"),
                    unit="bytes",
                ),
                Panel(
                    "Disk",
                    "Under store.data_dir. A steady fall: see what grows before the rewrite has no room.",
                    one(f"min by (instance, kind) (smsgw_disk_bytes{{{ON}}})", "{{instance}} {{kind}}"),
                    unit="bytes",
                ),
            ),
        ),
        (
            "Processes",
            (
                Panel(
                    "CPU, by worker",
                    "Cores in use. A worker at 1.0 is at its end: more workers (api.workers, dispatch.workers), if there are cores.",
                    one(
                        rate("worker_cpu_seconds_total", ON, "instance", "role", "worker"),
                        "{{instance}} {{role}} {{worker}}",
                    ),
                    unit="none",
                ),
                Panel(
                    "Memory, by worker",
                    "Resident. Growing for days without end would be a leak: restart the worker (it is started again at once), and tell us.",
                    one(
                        f"sum by (instance, role, worker) (smsgw_worker_memory_bytes{{{ON}}})",
                        "{{instance}} {{role}} {{worker}}",
                    ),
                    unit="bytes",
                ),
                Panel(
                    "Lateness of timers",
                    "The latest of 15 seconds, by role. Above 0.1 s: too little CPU, or something blocks the worker.",
                    one(f"max by (instance, role) (smsgw_event_loop_lag_seconds{{{ON}}})", "{{instance}} {{role}}"),
                    unit="s",
                    steps=((0.5, RED),),
                ),
                Panel(
                    "Open files",
                    "Share of the limit, by worker. Near 1 connections are refused: raise LimitNOFILE.",
                    one(
                        f"max by (instance, role, worker) (smsgw_worker_open_files{{{ON}}} / smsgw_worker_open_files_limit{{{ON}}})",
                        "{{instance}} {{role}} {{worker}}",
                    ),
                    unit="percentunit",
                    most=1,
                    steps=((0.8, RED),),
                ),
                Panel(
                    "Restarts and faults, last hour",
                    "Workers that ended unexpectedly, and faults that dispatch survived. Neither loses messages; both want a look at the log.",
                    (
                        Query(
                            f"sum by (role) (increase(smsgw_worker_restarts_total{{{ON}}}[1h]))", "restarts {{role}}"
                        ),
                        Query(
                            f"sum by (where) (increase(smsgw_dispatch_errors_total{{{ON}}}[1h]))", "faults {{where}}"
                        ),
                    ),
                ),
                Panel(
                    "Log records, by level",
                    "A second. error: something a person must look at. Suppressed ones are counted in smsgw_log_suppressed_total.",
                    one(rate("log_records_total", ON, "level"), "{{level}}"),
                    unit="ops",
                    stacked=True,
                ),
            ),
        ),
    ),
    (JOB,),
)

DASHBOARDS: Final = {"overview": OVERVIEW, "carriers": CARRIERS, "accounts": ACCOUNTS_PAGE, "store": STORE}


def texts() -> dict[str, str]:
    """Return what the files should hold, by their names."""
    return {
        f"{name}.json": json.dumps(page.json(), indent=1, ensure_ascii=False) + "\n"
        for name, page in DASHBOARDS.items()
    }


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
