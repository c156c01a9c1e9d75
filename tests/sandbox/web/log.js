// The robot's log.
//
// Owns its lines, from which level on they are shown, and the dot on a tab: on the log's when there is trouble in it.

import { $, el, follow, keyed, redraw } from "./dom.js";
import { isNews, keep, state } from "./state.js";
import { t } from "./words.js";

const LEVELS = { debug: 0, info: 1, warning: 2, error: 3, critical: 3 };

follow($("log-scroller"), $("log"));
$("level").addEventListener("change", () => redraw(drawLog));

export function takeLine(line) {
  keep(state.log, line.n, line);
  redraw(drawLog);
  const isSeen = $("tab-log").ariaSelected === "true";
  if (isNews() && !isSeen && LEVELS[line.level] >= LEVELS.warning) markNews($("tab-log"), true);
}

export function markNews(tab, isNew) {
  tab.classList.toggle("news", isNew);
  tab.title = isNew ? t("news") : "";
}

export function drawLog() {
  const least = LEVELS[$("level").value] ?? 0;
  const lines = [...state.log.values()].filter((line) => (LEVELS[line.level] ?? 1) >= least);
  $("log").dataset.empty = t("logEmpty");
  keyed($("log"), lines, (line) => line.n, () => el("li"), (node, line) => {
    node.className = line.level;
    node.replaceChildren(el("time", {}, line.time), el("b", {}, line.level), el("span", {}, line.text));
  });
}
