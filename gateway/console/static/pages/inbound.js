// Replies: what handsets wrote, and those that a person has to read because they may be opt-outs. Owns the list, the
// search by number (never in the address line) and the two decisions. Texts come only when they are asked for.

import { ask, get, query as asQuery, session } from "../lib/api.js";
import { confirm } from "../lib/dialog.js";
import { fill, h, icon } from "../lib/dom.js";
import { button, field, form } from "../lib/form.js";
import { count, time, zone } from "../lib/format.js";
import { done, failed } from "../lib/say.js";
import { badge } from "../lib/table.js";
import { words } from "./inbound.words.js";

export { words };

const PAGE = 50;
const PLACE = "/admin/v1/inbound";
const OPT = { stop: ["bad", "opt.stop"], start: ["ok", "opt.start"], review: ["warn", "opt.review"] };

export async function show({ main, query, signal, go, t }) {
  const mayAct = session.may("operator");
  const chosen = { review: query.get("list") !== "all", account: query.get("account") ?? "" };
  let searched = null;  // the number that is searched for: it lives here only
  let full = false;
  let rows = [];
  let reviewing = 0;

  const list = h("ul", { class: "replies" });
  const foot = h("div", { class: "buttons gap-above" }, h("p", { class: "loading" }, t("loading")));
  const status = h("p", { class: "soft small", role: "status" });
  const tabs = h("div", { class: "tabs", role: "group", "aria-label": t("lists") });
  const textButton = button("", async () => { await read({ full: !full }); }, { picture: icon("info"), id: "texts" });

  const accounts = (await get("/admin/v1/accounts", { signal })).accounts.map((one) => one.id);

  async function read(wanted = {}) {
    const want = { full, ...wanted };
    const found = searched
      ? await ask("POST", `${PLACE}/search`, { number: searched, full: want.full }, { signal })
      : await get(PLACE + asQuery({ review: chosen.review ? 1 : "", account: chosen.account, limit: PAGE, full: want.full ? 1 : "" }), { signal });
    full = want.full;
    rows = found.messages;
    reviewing = found.to_review;
    draw(!searched && rows.length === PAGE);
  }

  async function more() {
    const found = await get(PLACE + asQuery({ review: chosen.review ? 1 : "", account: chosen.account, limit: PAGE, full: full ? 1 : "", before: rows.at(-1).id }), { signal });
    rows.push(...found.messages);
    draw(found.messages.length === PAGE);
  }

  function draw(isMore) {
    fill(tabs, [["review", true], ["all", false]].map(([name, review]) => h("button", {
      type: "button", id: `list-${name}`, class: "tab", "aria-pressed": String(!searched && chosen.review === review),
      on: { click: () => go("inbound", [], { list: name, account: chosen.account }) },
    }, t(`list.${name}`), review ? h("span", { class: ["pill", reviewing && "warn"] }, count(reviewing)) : null)));
    fill(textButton, icon("info"), full ? t("texts.hide") : t("texts.show"));
    finder.querySelector("#find-clear").hidden = !searched;
    fill(status, searched ? t("found", { n: count(rows.length) }) : t("shown", { n: count(rows.length) }), " ", t("times", { zone: zone() }));
    fill(list, rows.length ? rows.map((row) => h("li", null, reply(row))) : h("li", { class: "soft" }, searched ? t("found.none") : chosen.review ? t("review.none") : t("none")));
    fill(foot, isMore ? button(t("earlier"), more, { id: "more" }) : null);
  }

  function reply(row) {
    const kind = OPT[row.opt];
    const decides = row.opt === "review" && mayAct && chosen.review && !searched;
    return h("article", { class: "reply", "aria-label": t("reply.from", { number: row.from }) },
      h("div", { class: "reply-head" }, h("strong", { class: "mono" }, row.from), kind ? badge(kind[0], t(kind[1])) : null, row.partial ? badge("warn", t("partial")) : null,
        h("span", { class: "grow" }), h("time", { datetime: row.received_at, class: "soft small" }, time(row.received_at))),
      row.text === undefined ? h("p", { class: "soft reply-text" }, t("chars", { n: count(row.chars) })) : h("p", { class: "reply-text", dir: "auto" }, row.text),
      h("p", { class: "small soft reply-of" }, [t("to.number", { number: row.to }), t("by.channel", { channel: row.channel }), row.account ? t("of.account", { account: row.account }) : t("of.nobody"), row.signature ? `【${row.signature}】` : "", row.keyword ? t("keyword", { word: row.keyword }) : ""].filter(Boolean).join(" · "),
        row.in_reply_to ? [" · ", h("a", { href: `#/messages/${row.in_reply_to}` }, t("answers"))] : null),
      decides ? h("div", { class: "buttons" },
        button(t("opt_out"), () => decide(row, "opt_out"), { small: true, kind: "main", id: `out-${row.id}` }),
        button(t("dismiss"), () => decide(row, "dismiss"), { small: true, id: `no-${row.id}` })) : null);
  }

  async function decide(row, decision) {
    if (decision === "opt_out" && !await confirm({ title: t("opt_out.title"), text: t("opt_out.text", { number: row.from }), yes: t("opt_out") })) return;
    const answer = await ask("POST", `${PLACE}/reviewed`, { id: row.id, decision });
    done(decision === "opt_out" ? t("opt_out.done", { number: row.from, scope: answer.scope }) : t("dismiss.done"));
    const at = rows.indexOf(row);
    await read();
    const next = rows[Math.min(at, rows.length - 1)];
    (next && document.getElementById(`out-${next.id}`) || document.getElementById("list-review"))?.focus();
  }

  const finder = form({
    inline: true, button: t("search"), kind: "plain", label: t("find"),
    fields: [
      field({ name: "number", label: t("find.number"), type: "tel", inputmode: "tel", autocomplete: "off", required: true, maxlength: 40, wide: true }),
    ],
    also: h("button", { type: "button", class: "bare", id: "find-clear", hidden: true, on: { click: async () => { searched = null; finder.reset(); try { await read({ full: false }); } catch (error) { failed(error); } } } }, t("find.clear")),
    send: async ({ number }) => {
      const before = searched;
      searched = number;
      try { await read(); } catch (error) { searched = before; throw error; }
      status.scrollIntoView({ block: "nearest" });
    },
  });

  fill(main, h("div", { class: "head" }, h("h1", null, t("page.inbound")), h("span", { class: "grow" }), mayAct ? textButton : null),
    h("section", { class: "card", "aria-label": t("find") }, finder),
    h("section", { class: "card", "aria-label": t("lists") },
      h("div", { class: "head" }, tabs, h("span", { class: "grow" }),
        h("label", { class: "beside" }, h("span", { class: "small" }, t("account")), h("select", { class: "small", on: { change: (event) => go("inbound", [], { list: chosen.review ? "review" : "all", account: event.target.value }) } },
          h("option", { value: "", selected: !chosen.account }, t("all")), accounts.map((id) => h("option", { value: id, selected: id === chosen.account }, id))))),
      chosen.review ? h("p", { class: "help" }, t("review.help")) : null, status, list, foot));
  await read();
}
