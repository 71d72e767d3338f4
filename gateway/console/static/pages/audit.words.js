// Words of the audit.
export const words = {
  en: {
    "who": "Who", "what": "What", "object": "Of what", "change": "Change", "result": "Result", "object.all": "everything", "before": "before: ", "after": "after: ", "nothing": "nothing", "details.n": "entry {n}",
    "filter": "Filter", "filter.clear": "All entries", "shown": "{n} entries shown, the newest first.", "none.here": "Nothing in the entries looked at so far.", "csv": "Save as CSV",
    "verify": "Verify the chain", "verifying": "Following every chain …", "sound": "The audit is whole.", "broken": "The audit was changed.", "entries": "{n} entries were compared.", "chain": "Shard {shard}: {n} entries, whole. Its head:", "chain.broken": "Shard {shard}: the chain breaks at entry {at}.",
    "sound.help": "Keep the heads elsewhere: a chain that was made anew as a whole shows by them only.", "broken.help": "Somebody changed, left out or put in an entry in the store. Entries before that one are to be trusted, the others are not.",
    "listed": "{reason} for {categories}, by {source}", "listed.td": "opt-out", "listed.complaint": "complaint", "listed.operator": "by an operator", "listed.invalid-number": "invalid number", "listed.do-not-disturb": "do not disturb", "source.operator": "an operator",
    "result.done": "done", "result.dry run": "dry run", "result.nothing to change": "nothing to change", "result.was there": "was there", "result.nothing there": "nothing there",
    "action.gate.set": "Gate set", "action.gate.swept": "Gate swept", "action.channel.set": "Channel steered", "action.webhook": "Webhook", "action.blacklist.add": "Number listed", "action.blacklist.remove": "Number taken off", "action.blacklist.import": "List imported", "action.blacklist.import_begun": "Import begun", "action.blacklist.undo": "Entries taken back", "action.blacklist.export": "List exported",
    "action.number.erase": "Number erased", "action.number.erase_begun": "Erasure begun", "action.message.cancel": "Message cancelled", "action.message.resend": "Message sent again", "action.message.read_full": "Message read in full", "action.inbound.reviewed": "Reply decided", "action.inbound.read": "Replies read in full", "action.ported.forget": "Ported numbers forgotten",
    "action.template.put": "Template put", "action.template.retire": "Template retired", "action.config.write": "Configuration written", "action.config.reload": "Configuration reloaded", "action.config.rollback": "Configuration rolled back", "action.config.publish": "Configuration published",
  },
  zh: {
    "who": "操作者", "what": "操作", "object": "对象", "change": "变更", "result": "结果", "object.all": "全部", "before": "之前：", "after": "之后：", "nothing": "无", "details.n": "第 {n} 条",
    "filter": "筛选", "filter.clear": "全部记录", "shown": "显示 {n} 条，最新在前。", "none.here": "已查看的记录中没有符合的。", "csv": "保存为 CSV",
    "verify": "校验链条", "verifying": "正在逐条校验……", "sound": "审计记录完整。", "broken": "审计记录被改动。", "entries": "共比对 {n} 条。", "chain": "分片 {shard}：{n} 条，完整。链头：", "chain.broken": "分片 {shard}：链条在第 {at} 条断开。",
    "sound.help": "请另行保存链头：整条链被重做时，只有靠它才能发现。", "broken.help": "存储中的记录被修改、删除或插入。该条之前的记录可信，之后的不可信。",
    "listed": "{reason}，{categories}，来源 {source}", "listed.td": "退订", "listed.complaint": "投诉", "listed.operator": "人工", "listed.invalid-number": "无效号码", "listed.do-not-disturb": "免打扰", "source.operator": "人工",
    "result.done": "完成", "result.dry run": "试运行", "result.nothing to change": "无需变更", "result.was there": "已存在", "result.nothing there": "不存在",
    "action.gate.set": "设置闸门", "action.gate.swept": "闸门清理完成", "action.channel.set": "控制通道", "action.webhook": "回调操作", "action.blacklist.add": "加入黑名单", "action.blacklist.remove": "移出黑名单", "action.blacklist.import": "导入名单", "action.blacklist.import_begun": "开始导入", "action.blacklist.undo": "撤回条目", "action.blacklist.export": "导出名单",
    "action.number.erase": "清除号码", "action.number.erase_begun": "开始清除", "action.message.cancel": "取消消息", "action.message.resend": "重发消息", "action.message.read_full": "查看消息全文", "action.inbound.reviewed": "判断回复", "action.inbound.read": "查看回复全文", "action.ported.forget": "清除携号记录",
    "action.template.put": "保存模板", "action.template.retire": "停用模板", "action.config.write": "写入配置文件", "action.config.reload": "重载配置", "action.config.rollback": "回滚配置", "action.config.publish": "发布配置",
  },
};
