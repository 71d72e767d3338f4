// Words of differences.
export const words = {
  en: { "same": "They say the same.", "line": "from line {n}", "count": "{added} lines added, {removed} removed", "of": "Changes of {name}", "add": "added: ", "remove": "removed: " },
  zh: { "same": "内容相同。", "line": "自第 {n} 行", "count": "新增 {added} 行，删除 {removed} 行", "of": "{name} 的变更", "add": "新增：", "remove": "删除：" },
};
