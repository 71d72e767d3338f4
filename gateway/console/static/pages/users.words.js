// Words of the page of users.
export const words = {
  en: {
    "users.help": "Those who sign in here. Operators with tokens stand in the configuration.", "name": "Name", "none.users": "There are no users.", "you": "(you)", "enabled": "may sign in", "disabled": "disabled", "totp": "Authenticator", "last": "Last sign-in", "never": "never", "password.of": "Their password is of {time}.", "password.make": "Make another",
    "role.help": "viewer: looks. operator: steers, and sees numbers and texts. admin: users and configuration too.", "name.help": "Small letters, digits, . _ -; it stands in the audit.",
    "add.title": "Add a user", "add.yes": "Add", "added": "{name} is added.", "hand": "The password of {name}", "hand.text": "Hand it over by another way than this. It is not shown again; they change it in their profile.",
    "change": "Change …", "change.of": "Change {name}", "change.title": "Change {name}", "change.text": "Another role, and being disabled, end all sessions of this user.", "changed": "{name} is changed; {n} sessions ended.", "enabled.label": "May sign in", "totp.forget": "Forget the authenticator", "totp.forget.help": "For somebody who lost it; the password alone opens the console then.", "unlock": "Let them try again at once", "unlock.help": "After too many wrong passwords there is a delay.",
    "reset": "Password …", "reset.of": "Set a new password for {name}", "reset.title": "A new password for {name}?", "reset.text": "All their sessions end.", "reset.yes": "Set it", "reset.done": "{name} has a new password.", "sessions.of": "Sessions of {name}", "sessions.end.all": "End all",
    "remove.of": "Remove {name}", "remove.title": "Remove {name}?", "remove.text": "They cannot sign in any more, and their sessions end now. What they did stays in the audit.", "remove.yes": "Remove", "removed": "{name} is removed.",
    "problem.last_admin": "Nobody who may administrate would be left.", "problem.exists": "There is a user of this name.", "problem.weak_password": "This password is too weak.",
  },
  zh: {
    "users.help": "可登录此控制台的用户。使用令牌的操作员写在配置文件中。", "name": "用户名", "none.users": "没有用户。", "you": "（您）", "enabled": "可登录", "disabled": "已停用", "totp": "验证器", "last": "最近登录", "never": "从未", "password.of": "密码设置于 {time}。", "password.make": "换一个",
    "role.help": "查看者：仅查看。操作员：可控制，并可见号码和内容。管理员：还可管理用户与配置。", "name.help": "小写字母、数字和 . _ -，会出现在审计中。",
    "add.title": "添加用户", "add.yes": "添加", "added": "已添加 {name}。", "hand": "{name} 的密码", "hand.text": "请通过其他途径转交。此后不再显示；用户可在个人设置中修改。",
    "change": "修改……", "change.of": "修改 {name}", "change.title": "修改 {name}", "change.text": "更换角色或停用会结束该用户的全部会话。", "changed": "已修改 {name}，结束 {n} 个会话。", "enabled.label": "允许登录", "totp.forget": "清除验证器", "totp.forget.help": "用于验证器遗失时；之后仅凭密码即可进入。", "unlock": "允许立即重试", "unlock.help": "多次输错密码后会有延迟。",
    "reset": "密码……", "reset.of": "为 {name} 设置新密码", "reset.title": "为 {name} 设置新密码？", "reset.text": "其全部会话将结束。", "reset.yes": "设置", "reset.done": "{name} 已有新密码。", "sessions.of": "{name} 的会话", "sessions.end.all": "全部结束",
    "remove.of": "移除 {name}", "remove.title": "移除 {name}？", "remove.text": "该用户将无法登录，会话立即结束；其操作仍保留在审计中。", "remove.yes": "移除", "removed": "已移除 {name}。",
    "problem.last_admin": "将没有任何管理员。", "problem.exists": "已有同名用户。", "problem.weak_password": "密码强度不足。",
  },
};
