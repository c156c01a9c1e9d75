// The robot's counters: its status as the server tells it every second, and its state in the head of the page.
//
// Owns the tables, and that what has changed flashes. Knows no counter by name, but that an age changes all the time.

import { $, el, keyed } from "./dom.js";
import { state } from "./state.js";
import { number, t } from "./words.js";

export function drawCounters() {
  const rows = flat(state.status);
  const groups = [...new Set(rows.map((row) => row.group))]
    .map((group) => ({ group, rows: rows.filter((row) => row.group === group) }));
  $("counters").dataset.empty = t("countersEmpty");
  keyed($("counters"), groups, ({ group }) => group, makeGroup, (table, { group, rows: some }) => {
    table.caption.textContent = group || t("countersMain");
    keyed(table.tBodies[0], some, (row) => row.name, makeCounter, fillCounter);
  });
  const name = state.status.state;
  $("robot-state").textContent = name ? t(`state.${name}`, {}, name) : "";
  $("robot-state").title = t("robotState");
  $("robot-state").className = name === "connected" ? "good" : "";
}

/** A row for each value; what is a dict is a group of its own. */
function flat(status, group = "") {
  const isGroup = ([, value]) => value?.constructor === Object && Object.keys(value).length > 0;
  const pairs = Object.entries(status);
  const own = pairs.filter((pair) => !isGroup(pair)).map(([name, value]) => ({ group, name, value }));
  const inner = pairs.filter(isGroup).flatMap(([name, value]) => flat(value, group ? `${group} › ${name}` : name));
  return [...own, ...inner];
}

function makeGroup() {
  const table = el("table", {}, el("tbody"));
  table.createCaption();
  return table;
}

const makeCounter = ({ name }) => el("tr", {}, el("th", { scope: "row" }, name), el("td"));

function fillCounter(row, { name, value }, isRenewed) {
  const cell = row.lastChild;
  const before = cell.textContent;
  cell.textContent = inWords(value);
  if (isRenewed || before === cell.textContent || name.endsWith("_age")) return;
  cell.classList.remove("changed");
  void cell.offsetWidth; // so that it flashes again
  cell.classList.add("changed");
}

function inWords(value) {
  if (typeof value === "number") return number(value, 3);
  if (value == null || value === "" || (typeof value === "object" && !Object.keys(value).length)) return "–";
  if (Array.isArray(value)) return value.map(inWords).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
