// Words of sessions and passwords, which the profile and the page of users share.
export const words = {
  en: { "sessions": "Sessions", "browser": "Browser", "browser.none": "unknown", "here": "this one", "address": "Address", "begun": "Signed in", "seen": "Last seen", "end": "End", "end.of": "End the session from {address}", "ended": "{n} session{n:|s} ended.", "password.new": "New password", "password.help": "12 characters at least. A long sentence is better than a short riddle.", "password.again": "The same again", "password.differ": "The two passwords differ." },
  zh: { "sessions": "会话", "browser": "浏览器", "browser.none": "未知", "here": "当前", "address": "地址", "begun": "登录时间", "seen": "最近活动", "end": "结束", "end.of": "结束来自 {address} 的会话", "ended": "已结束 {n} 个会话。", "password.new": "新密码", "password.help": "至少 12 个字符；较长的一句话比短而复杂的密码更安全。", "password.again": "再次输入", "password.differ": "两次输入的密码不同。" },
};
