// Words of webhooks' states and results (docs/webhooks.md).

export const words = {
  en: {
    "webhook.enabled": "enabled", "webhook.backing_off": "backing off", "webhook.disabled": "disabled", "webhook.none": "none",
    "result.delivered": "delivered", "result.redirect": "it answered a redirect", "result.gone": "it answered 410: gone", "result.throttled": "it answered 429: too many", "result.http_4xx": "it answered 4xx", "result.http_5xx": "it answered 5xx", "result.http_other": "it answered something else", "result.timeout": "it answered too late", "result.connect": "no connection", "result.disconnected": "connection lost", "result.tls": "TLS failed", "result.dns": "its name is not known", "result.protocol": "its answer is no HTTP", "result.denied": "its address is not allowed", "result.unreadable": "event damaged", "result.too_many": "too many events waited",
  },
  zh: {
    "webhook.enabled": "启用", "webhook.backing_off": "退避中", "webhook.disabled": "停用", "webhook.none": "无",
    "result.delivered": "已送达", "result.redirect": "返回了重定向", "result.gone": "返回 410：已不存在", "result.throttled": "返回 429：过多", "result.http_4xx": "返回 4xx", "result.http_5xx": "返回 5xx", "result.http_other": "返回其他状态", "result.timeout": "应答超时", "result.connect": "无法连接", "result.disconnected": "连接中断", "result.tls": "TLS 失败", "result.dns": "域名无法解析", "result.protocol": "应答不是 HTTP", "result.denied": "地址不被允许", "result.unreadable": "事件损坏", "result.too_many": "等待的事件过多",
  },
};
