// Words that overview, channels and routes share: states of channels and why they are so, carriers, roles of workers.

export const nowWords = {
  en: {
    "channel.up": "up", "channel.partial": "partly up", "channel.starting": "starting", "channel.down": "down", "channel.paused": "paused", "channel.draining": "draining", "channel.breaker_open": "breaker open", "channel.breaker_half": "breaker probing",
    "cause.operator.pause": "An operator paused it.", "cause.operator.drain": "An operator drains it.", "cause.no_worker": "No dispatch worker serves it.", "cause.breaker": "Its breaker is open.", "cause.breaker.refusals": "Half of its answers or more were refusals.", "cause.breaker.no answers": "Its answers stayed out, or its session was cut, five times in a row.", "cause.breaker.a probe failed": "A probe failed again.",
    "cause.refused": "The carrier's host refuses the connection.", "cause.timeout": "No connection in time: the carrier's host does not answer.", "cause.dns": "The carrier's host name is not found.", "cause.unreachable": "The carrier's host cannot be reached.", "cause.tls": "TLS fails.", "cause.bind_refused": "The carrier refuses the bind.", "cause.bind_timeout": "The carrier does not answer the bind.", "cause.not_called": "The carrier has not called (outbind).", "cause.cut": "The carrier cut the connection.", "cause.unbound": "The carrier unbound.", "cause.no_answer": "The carrier answers neither enquire_link nor submit_sm.", "cause.protocol": "The carrier broke the protocol.", "cause.not_reading": "The carrier takes nothing from us.", "cause.alarm": "The carrier answered with a fault of the channel.",
    "carrier.china-mobile": "China Mobile", "carrier.china-unicom": "China Unicom", "carrier.china-telecom": "China Telecom", "carrier.china-broadnet": "China Broadnet", "carrier.ported": "ported numbers",
    "now.since": "since {time}", "now.unknown_since": "since when is not known", "now.for": "for {span}", "order.weight": "by weight", "order.cost": "the cheapest first", "order.quality": "by quality", "rank": "Rank", "rank.n": "rank {n}", "rank.primary": "primary", "rank.backup": "backup {n}",
    "shown.stale": "Old figures: {what} could not be read lately.",
  },
  zh: {
    "channel.up": "正常", "channel.partial": "部分可用", "channel.starting": "启动中", "channel.down": "中断", "channel.paused": "已暂停", "channel.draining": "排空中", "channel.breaker_open": "已熔断", "channel.breaker_half": "熔断试探中",
    "cause.operator.pause": "操作员已将其暂停。", "cause.operator.drain": "操作员正在将其排空。", "cause.no_worker": "没有发送进程为其服务。", "cause.breaker": "熔断器已断开。", "cause.breaker.refusals": "至少一半的应答是拒绝。", "cause.breaker.no answers": "连续五次没有应答或连接被切断。", "cause.breaker.a probe failed": "试探再次失败。",
    "cause.refused": "运营商主机拒绝连接。", "cause.timeout": "连接超时：运营商主机没有回应。", "cause.dns": "找不到运营商的主机名。", "cause.unreachable": "无法到达运营商主机。", "cause.tls": "TLS 失败。", "cause.bind_refused": "运营商拒绝绑定（bind）。", "cause.bind_timeout": "运营商没有应答绑定（bind）。", "cause.not_called": "运营商尚未回连（outbind）。", "cause.cut": "运营商切断了连接。", "cause.unbound": "运营商解除了绑定（unbind）。", "cause.no_answer": "运营商既不应答 enquire_link 也不应答 submit_sm。", "cause.protocol": "运营商违反了协议。", "cause.not_reading": "运营商不接收我方数据。", "cause.alarm": "运营商应答表明通道有故障。",
    "carrier.china-mobile": "中国移动", "carrier.china-unicom": "中国联通", "carrier.china-telecom": "中国电信", "carrier.china-broadnet": "中国广电", "carrier.ported": "携号转网号码",
    "now.since": "自 {time}", "now.unknown_since": "起始时间未知", "now.for": "已 {span}", "order.weight": "按权重", "order.cost": "最便宜优先", "order.quality": "按质量", "rank": "优先级", "rank.n": "第 {n} 级", "rank.primary": "主用", "rank.backup": "备用 {n}",
    "shown.stale": "数据较旧：最近未能读取 {what}。",
  },
};

/** A page's words with the shared ones below them. */
export const withNow = (own) => ({ en: { ...nowWords.en, ...own.en }, zh: { ...nowWords.zh, ...own.zh } });
