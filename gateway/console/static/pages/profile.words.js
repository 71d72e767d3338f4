// Words of one's own profile.
export const words = {
  en: {
    "who": "You", "role.may": "You may", "may.viewer": "look at everything but whole numbers and texts", "may.operator": "steer channels, gates and messages, and see numbers and texts", "may.admin": "do everything, users and configuration too", "ends": "Signed in until", "by.token": "You came with a token of the configuration. Password, authenticator and sessions are for users who sign in.",
    "preferences": "Language and colours", "preferences.help": "Kept in this browser.",
    "password.change": "Change the password", "password.old": "Password now", "password.changed": "The password is changed; all other sessions of yours have ended.", "password.ends": "All other sessions of yours end with it.",
    "sessions.end.others": "End all others",
    "totp": "Authenticator", "totp.on": "on", "totp.off": "off", "totp.on.text": "Signing in wants a code of your app beside the password.", "totp.off.text": "With an authenticator app, the password alone does not open the console.", "totp.begin": "Set up", "totp.remove": "Turn off", "totp.remove.title": "Turn the authenticator off?", "totp.remove.text": "The password alone opens the console then.", "totp.removed": "The authenticator is off.",
    "totp.step1": "Enter this secret in your authenticator app (time-based, 6 digits):", "totp.uri": "As an address for apps that take one", "totp.step2": "Then type the code that it shows:", "totp.code": "Code", "totp.confirm": "Turn on", "totp.done": "The authenticator is on.", "totp.once": "The secret is shown this once. Until a code was given, signing in stays as it is.", "totp.copy.secret": "Copy the secret", "totp.copy.uri": "Copy the address",
    "problem.wrong_code": "That code is not right; look at the app again.", "problem.wrong_password": "That is not the password.", "problem.weak_password": "This password is too weak.",
  },
  zh: {
    "who": "您", "role.may": "您可以", "may.viewer": "查看除完整号码和内容以外的一切", "may.operator": "控制通道、闸门和短信，并可查看号码和内容", "may.admin": "执行所有操作，包括用户与配置", "ends": "登录有效期至", "by.token": "您使用的是配置中的令牌。密码、验证器和会话仅适用于登录的用户。",
    "preferences": "语言与颜色", "preferences.help": "保存在此浏览器中。",
    "password.change": "修改密码", "password.old": "当前密码", "password.changed": "密码已修改，您的其他会话均已结束。", "password.ends": "您的其他会话将随之结束。",
    "sessions.end.others": "结束其他会话",
    "totp": "动态验证器", "totp.on": "已启用", "totp.off": "未启用", "totp.on.text": "登录时除密码外还需输入验证码。", "totp.off.text": "启用验证器后，仅凭密码无法进入控制台。", "totp.begin": "启用", "totp.remove": "停用", "totp.remove.title": "停用验证器？", "totp.remove.text": "之后仅凭密码即可进入控制台。", "totp.removed": "验证器已停用。",
    "totp.step1": "在验证器应用中输入此密钥（基于时间，6 位）：", "totp.uri": "供支持的应用使用的地址", "totp.step2": "然后输入应用显示的验证码：", "totp.code": "验证码", "totp.confirm": "启用", "totp.done": "验证器已启用。", "totp.once": "密钥仅显示这一次。输入验证码之前，登录方式不变。", "totp.copy.secret": "复制密钥", "totp.copy.uri": "复制地址",
    "problem.wrong_code": "验证码不正确，请查看应用后重试。", "problem.wrong_password": "密码不正确。", "problem.weak_password": "密码强度不足。",
  },
};
