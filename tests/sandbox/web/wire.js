// What goes over the wire: the frames and calls as the robot sees them, one line each.
//
// Owns the list, its filter, and the detail below a line, which is fetched when it is opened. Secrets are masked by
// then.

import { $, el, follow, icon, keyed, redraw } from "./dom.js";
import { keep, state } from "./state.js";
import { milliseconds, t } from "./words.js";

follow($("wire-scroller"), $("wire"));
$("filter").addEventListener("input", () => redraw(drawWire));
$("clear").addEventListener("click", () => {
  state.cleared = Math.max(0, ...state.wire.keys());
  state.wire.clear();
  redraw(drawWire);
});

export function takeItem(item) {
  if (item.n <= state.cleared) return;
  keep(state.wire, item.n, item);
  redraw(drawWire);
}

export function drawWire() {
  const wanted = $("filter").value.trim().toLowerCase();
  const words = ({ time, kind, title, summary }) => `${time} ${kind} ${title} ${summary}`.toLowerCase();
  const items = [...state.wire.values()].filter((item) => words(item).includes(wanted));
  $("wire").dataset.empty = t(state.wire.size ? "wireNone" : "wireEmpty");
  keyed($("wire"), items, (item) => item.n, makeItem, fillItem);
}

function makeItem({ n }) {
  const columns = ["time", "direction", "title", "summary", "ms"].map((name) => el("span", { class: name }));
  const detail = el("pre", { hidden: "", tabindex: "0" });
  const button = el("button", { type: "button", "data-wire": n, "aria-expanded": "false" }, ...columns);
  button.addEventListener("click", () => {
    detail.hidden = !detail.hidden;
    button.ariaExpanded = String(!detail.hidden);
    if (!detail.hidden) fillDetail(detail, n);
  });
  return el("li", {}, button, detail);
}

function fillItem(node, item) {
  const put = (name, ...content) => node.querySelector(`.${name}`).replaceChildren(...content);
  node.className = [item.kind, item.ok === false ? "bad" : item.ok == null ? "running" : "", item.direction].join(" ");
  put("time", item.time);
  put("direction", icon(item.direction), el("span", { class: "unseen" }, t(`direction.${item.direction}`)));
  put("title", item.title);
  put("summary", item.summary ?? "");
  put("ms", item.ms == null ? (item.ok == null ? "…" : "") : milliseconds(item.ms));
  const [button, detail] = node.children;
  button.title = [item.title, item.summary].filter(Boolean).join("\n");
  detail.ariaLabel = item.title;
  if (!detail.hidden) fillDetail(detail, item.n);
}

async function fillDetail(detail, n) {
  const answer = await fetch(`wire/${n}`).catch(() => ({ ok: false }));
  detail.replaceChildren(...(answer.ok ? coloured(JSON.stringify(await answer.json(), null, 2)) : [t("gone")]));
}

/** JSON, with its names, texts and other values told apart. */
function coloured(json) {
  const parts = json.split(/("(?:\\.|[^"\\])*"(?::)?|\b(?:true|false|null)\b|-?\d[\d.eE+-]*)/);
  const kind = (part) => (part.endsWith(":") ? "key" : part.startsWith('"') ? "text" : "value");
  return parts.map((part, at) => (at % 2 ? el("span", { class: kind(part) }, part) : part));
}
