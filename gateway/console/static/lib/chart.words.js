// Words of charts.
export const words = {
  en: {
    "chart.table": "Show as a table", "chart.hide": "Hide the table", "chart.asof": "{label}, as of {time}", "chart.time": "Time", "chart.value": "Value", "chart.read": "{label}: values along the axis, arrow keys move",
    "chart.summary": "{label}, {from} to {to}. {lines}.", "chart.summary.line": "{name}: {last} at the end, between {min} and {max}", "chart.empty": "Nothing has been measured yet.", "chart.summary.empty": "{label}: nothing has been measured yet.",
    "chart.bars": "{label}: {lines}.", "chart.join": "; ", "chart.share": "Share", "chart.none": "None.", "chart.spark": "{label}: {last} now, between {min} and {max}",
  },
  zh: {
    "chart.table": "以表格显示", "chart.hide": "隐藏表格", "chart.asof": "{label}（截至 {time}）", "chart.time": "时间", "chart.value": "数值", "chart.read": "{label}：沿坐标轴查看数值，用方向键移动",
    "chart.summary": "{label}，{from} 至 {to}。{lines}。", "chart.summary.line": "{name}：最新 {last}，介于 {min} 与 {max} 之间", "chart.empty": "尚无测量数据。", "chart.summary.empty": "{label}：尚无测量数据。",
    "chart.bars": "{label}：{lines}。", "chart.join": "；", "chart.share": "占比", "chart.none": "无。", "chart.spark": "{label}：当前 {last}，介于 {min} 与 {max} 之间",
  },
};
