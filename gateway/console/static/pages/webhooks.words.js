// Words of the page Webhooks.
export const words = {
  en: {
    "about": "Events on their way to the applications.", "back.all": "All webhooks", "none.yet": "No account has a webhook ({file}).", "gone": "The account {account} has no webhook.",
    "waiting": "Waiting", "oldest": "Oldest", "retrying": "To be tried again", "retrying.next": "{n}, the next {at}", "dead": "Dead letters", "dropped": "Dropped", "calls": "Calls now", "last_success": "Last success", "last_failure": "Last failure", "never": "never", "dead.why": "Why they are dead:",
    "trouble.operator": "Disabled by an operator since {at}: events wait in line.", "trouble.gone": "Disabled since {at}, for it answered 410 (gone). Events wait in line until it is enabled, or its address changes.", "trouble.backing_off": "Its calls fail ({why}); it is tried again now and then. Last success: {ago}.", "trouble.dead": "Nobody took these events for three days: {n}. Put them back in line when the application is well.",
    "test": "Test call", "tested": "Test call: {result} (status {status}, {s}).", "enable": "Enable", "enable.title": "Enable the webhook of {account}?", "enable.text": "Events that wait are delivered at once: {n}.", "enabled": "The webhook of {account} is enabled.", "disable": "Disable", "disable.title": "Disable the webhook of {account}?", "disable.text": "No event is delivered until it is enabled again. Events wait in line, up to 200,000; then the oldest are dropped.", "disabled": "The webhook of {account} is disabled.",
    "retry": "Retry {n} dead", "retry.title": "Put {n} dead letters back in line?", "retry.text": "They are delivered to {account} again, with the ids they had: an application that keeps to them takes each once.", "retry.yes": "Put back", "retried": "Back in line: {n}.",
    "replay": "Replay", "replay.title": "Replay events of {account}", "replay.text": "The events of messages that got their state in this time are sent once more, with the ids they had.", "replay.begin": "Begin replay", "replay.to": "Left empty: until now.", "replay.types": "Which events", "replay.types.help": "None chosen: all that the account hears of.", "replay.begun": "The replay of {account} has begun.", "replay.running": "replay runs", "replay.done": "replay done", "replay.says": "{n} events, from {from} to {to}", "replay.start": "the beginning",
    "type.message.delivered": "delivered", "type.message.failed": "failed", "type.message.corrected": "corrected", "type.message.submitted": "submitted",
    "problem.replay_running": "A replay of this account is not done yet.", "problem.invalid_field": "That is not what is wanted here.",
  },
  zh: {
    "about": "发往应用的事件。", "back.all": "所有回调", "none.yet": "没有账户配置回调（{file}）。", "gone": "账户 {account} 没有回调。",
    "waiting": "等待", "oldest": "最早", "retrying": "待重试", "retrying.next": "{n}，下一次 {at}", "dead": "死信", "dropped": "已丢弃", "calls": "正在调用", "last_success": "上次成功", "last_failure": "上次失败", "never": "从未", "dead.why": "死信原因：",
    "trouble.operator": "自 {at} 起被操作员停用：事件在排队等待。", "trouble.gone": "自 {at} 起停用，因其返回 410（已不存在）。事件会排队，直到启用或地址更改。", "trouble.backing_off": "调用失败（{why}），会间隔重试。上次成功：{ago}。", "trouble.dead": "三天内无人接收的事件：{n}。应用恢复后可重新排队。",
    "test": "测试调用", "tested": "测试调用：{result}（状态 {status}，{s}）。", "enable": "启用", "enable.title": "启用 {account} 的回调？", "enable.text": "等待的事件将立即发送：{n}。", "enabled": "{account} 的回调已启用。", "disable": "停用", "disable.title": "停用 {account} 的回调？", "disable.text": "重新启用前不再发送事件。事件会排队，最多 200,000 个，之后丢弃最早的。", "disabled": "{account} 的回调已停用。",
    "retry": "重试 {n} 个死信", "retry.title": "将 {n} 个死信重新排队？", "retry.text": "它们将以原编号再次发送给 {account}：按编号处理的应用只会接收一次。", "retry.yes": "重新排队", "retried": "已重新排队：{n}。",
    "replay": "重放", "replay.title": "重放 {account} 的事件", "replay.text": "在此时间内取得状态的短信，其事件将以原编号再次发送。", "replay.begin": "开始重放", "replay.to": "留空表示到现在。", "replay.types": "事件类型", "replay.types.help": "不选则为该账户接收的全部类型。", "replay.begun": "{account} 的重放已开始。", "replay.running": "重放中", "replay.done": "重放完成", "replay.says": "{n} 个事件，从 {from} 到 {to}", "replay.start": "最早",
    "type.message.delivered": "已送达", "type.message.failed": "失败", "type.message.corrected": "更正", "type.message.submitted": "已提交",
    "problem.replay_running": "该账户的重放尚未完成。", "problem.invalid_field": "此处内容不符合要求。",
  },
};
