// Words of the page of replies.
export const words = {
  en: {
    "lists": "Lists of replies", "list.review": "To be read", "list.all": "All replies", "review.help": "The gateway was not sure about these: they may ask for no more messages. Read each, then decide.", "review.none": "Nothing waits to be read.",
    "opt.stop": "opt-out", "opt.start": "opt-in", "opt.review": "may be an opt-out", "partial": "incomplete", "chars": "Text of {n} characters, not shown.", "texts.show": "Show texts and numbers", "texts.hide": "Hide texts and numbers",
    "shown": "{n} repl{n:y|ies} shown.", "found": "{n} repl{n:y|ies} from this number.", "found.none": "This number wrote nothing that is kept.", "reply.from": "Reply from {number}", "to.number": "to {number}", "by.channel": "by {channel}", "of.account": "account {account}", "of.nobody": "no account", "keyword": "keyword {word}", "answers": "the message it answers",
    "find": "Find replies", "find.number": "Number of the handset", "find.clear": "Back to the lists",
    "opt_out": "Opt out", "opt_out.title": "Put the number on the blacklist?", "opt_out.text": "{number} gets no more messages of the categories that an opt-out covers. What waits for it ends.", "opt_out.done": "{number} has opted out (scope {scope}).", "dismiss": "Not an opt-out", "dismiss.done": "Taken off the list; the number stays as it was.",
  },
  zh: {
    "lists": "回复列表", "list.review": "待人工判断", "list.all": "全部回复", "review.help": "网关无法确定这些回复是否为退订，请逐条阅读后决定。", "review.none": "没有待判断的回复。",
    "opt.stop": "退订", "opt.start": "恢复接收", "opt.review": "疑似退订", "partial": "不完整", "chars": "内容共 {n} 个字符，未显示。", "texts.show": "显示内容和号码", "texts.hide": "隐藏内容和号码",
    "shown": "显示 {n} 条回复。", "found": "该号码共 {n} 条回复。", "found.none": "没有保存该号码的回复。", "reply.from": "来自 {number} 的回复", "to.number": "发往 {number}", "by.channel": "通道 {channel}", "of.account": "账户 {account}", "of.nobody": "无账户", "keyword": "关键词 {word}", "answers": "所回复的短信",
    "find": "查找回复", "find.number": "手机号码", "find.clear": "返回列表",
    "opt_out": "退订", "opt_out.title": "将该号码加入黑名单？", "opt_out.text": "{number} 将不再收到退订所涵盖类别的短信，等待中的短信也会终止。", "opt_out.done": "{number} 已退订（范围 {scope}）。", "dismiss": "不是退订", "dismiss.done": "已移出列表，号码状态不变。",
  },
};
