// Words of the page Messages.
export const words = {
  en: {
    "search.label": "Find a message", "search.example": "+8613800138000 or an id", "search.help": "A number, with an account and a ref where you like; or an id. A number is sent to the gateway and kept nowhere in this browser.",
    "search.start": "Type a number or an id.", "search.empty": "Type a number or an id.", "search.no_number": "That is neither an id nor a number. A ref is found with its number and account: 13800138000 shop order-77.", "search.too_much": "Write the number, then at most an account and a ref.", "search.whose_ref": "A ref belongs to an account: write the account too, as it stands in accounts.toml.",
    "understood": "Looks for {what}.", "understood.id": "Opens the message of this id.", "understood.number": "messages to this number", "understood.national": "messages to this number of {country}", "understood.account": "of the account {account}", "understood.ref": "with the ref {ref}", "understood.and": ", ",
    "hints": "What can be found", "hint.id.text": "The id that the application got when the message was accepted.", "hint.number.text": "The latest 16 messages to a number. Without a “+” the country completes it.", "hint.ref.text": "Of one account; and the one message that it gave this ref.",
    "found": "Messages found", "found.n": "Found: {n}", "found.none": "Nothing found", "found.none.text": "No message to this number is kept: none was accepted, or its retention is over. One that was refused (as by a blacklist) was never accepted.", "found.most": "These are the latest 16; older ones can only be found by their id.", "accepted": "Accepted",
    "message": "Message", "back.found": "To the search", "copy.id": "Copy the id", "timeline.title": "Timeline", "watching": "Read again every two seconds until it is final.", "worker": "Worker",
    "whole": "Number and text", "whole.show": "Show text and number", "whole.help": "Both are hidden. Who looks is noted in the audit.", "text.gone": "The text is no longer kept.", "meta": "Meta",
    "cancel.do": "Cancel message", "cancel.not": "Keep it", "cancel.title": "Cancel this message?", "cancel.text": "It will not be sent. This cannot be undone.", "resend": "Send now", "resend.title": "Send this message now?", "resend.text": "What waits for its next attempt, or for an answer that did not come, is sent at once. Everything else goes its own way.", "resend.twice": "Nobody knows what became of its last attempt: its recipient may get it twice.",
    "did.cancelled": "Cancelled.", "did.already": "It was cancelled before.", "did.resent": "On its way again, now {state}.",
    "problem.already": "It was cancelled before.", "problem.too_late": "Too late.", "problem.waits": "Nothing to do.", "problem.sent": "A carrier has it.", "problem.final": "It has ended.", "problem.late": "Its time is over.", "problem.exhausted": "No attempt is left.", "problem.invalid_number": "That is no number.", "problem.invalid_field": "That is not what is wanted here.", "problem.missing_field": "Something is missing.",
    "gone": "No such message is kept. It was never accepted, or its retention is over.", "no_id": "This is no id of a message. It looks like 0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b.",
  },
  zh: {
    "search.label": "查找短信", "search.example": "+8613800138000 或短信编号", "search.help": "输入号码，可加上账户和引用号；或输入短信编号。号码只发送给网关，不保存在此浏览器中。",
    "search.start": "请输入号码或短信编号。", "search.empty": "请输入号码或短信编号。", "search.no_number": "这既不是短信编号也不是号码。按引用号查找需要号码和账户：13800138000 shop order-77。", "search.too_much": "请先写号码，之后最多再写一个账户和一个引用号。", "search.whose_ref": "引用号属于账户：请同时写上 accounts.toml 中的账户名。",
    "understood": "将查找{what}。", "understood.id": "将打开此编号的短信。", "understood.number": "发往此号码的短信", "understood.national": "发往 {country} 此号码的短信", "understood.account": "账户为 {account}", "understood.ref": "引用号为 {ref}", "understood.and": "，",
    "hints": "可以这样查找", "hint.id.text": "应用在短信被受理时得到的编号。", "hint.number.text": "发往某号码的最近 16 条短信。没有“+”时按国家补全。", "hint.ref.text": "某账户的短信，以及它以此引用号提交的那一条。",
    "found": "找到的短信", "found.n": "找到 {n} 条", "found.none": "没有找到", "found.none.text": "没有保存发往此号码的短信：从未受理，或保留期已过。被拒绝的短信（例如黑名单）不会被受理。", "found.most": "这是最近的 16 条；更早的只能按编号查找。", "accepted": "受理时间",
    "message": "短信", "back.found": "返回查找", "copy.id": "复制编号", "timeline.title": "时间线", "watching": "每两秒重新读取，直到最终状态。", "worker": "工作进程",
    "whole": "号码与内容", "whole.show": "显示内容和号码", "whole.help": "两者均已隐藏。查看会记入审计。", "text.gone": "内容已不再保留。", "meta": "附加信息",
    "cancel.do": "取消短信", "cancel.not": "保留短信", "cancel.title": "取消此短信？", "cancel.text": "短信将不会发送，且无法撤销。", "resend": "立即发送", "resend.title": "立即发送此短信？", "resend.text": "等待下次尝试的短信，或没有得到应答的短信，将立即发送。其余短信不受影响。", "resend.twice": "上次尝试的结果不明：接收人可能会收到两次。",
    "did.cancelled": "已取消。", "did.already": "之前已取消。", "did.resent": "已重新发送，当前状态：{state}。",
    "problem.already": "之前已取消。", "problem.too_late": "太晚了。", "problem.waits": "无需操作。", "problem.sent": "运营商已接收。", "problem.final": "短信已结束。", "problem.late": "短信已过期。", "problem.exhausted": "已无可用的尝试次数。", "problem.invalid_number": "号码无效。", "problem.invalid_field": "此处内容不符合要求。", "problem.missing_field": "缺少内容。",
    "gone": "没有保存此短信：从未受理，或保留期已过。", "no_id": "这不是短信编号。编号形如 0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b。",
  },
};
