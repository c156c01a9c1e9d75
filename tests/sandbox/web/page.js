// The sandbox's page in the browser: a chat as the platform draws it, and a workbench.
//
// Owns who is told what of the server's messages, the tabs and panes, and the beginning. A message changes `state` and
// says what is to be drawn anew; that is done once before the next frame. What a person does goes back over the same
// connection, and shows when the server says so. Knows no platform, no robot and no Markdown. Runs in one browser
// window; any number of them may be open.

import { drawChats, takeEntry } from "./chats.js";
import { drawComposer, fillComposer } from "./composer.js";
import { connect, drawBanner, toast } from "./connection.js";
import { drawCounters } from "./counters.js";
import { $, redraw, renew } from "./dom.js";
import { drawEntries, tellBelow } from "./entries.js";
import { drawLog, markNews, takeLine } from "./log.js";
import { begin, state } from "./state.js";
import { drawTimeline, takeAnswer } from "./timeline.js";
import { drawSettings, drawSwitches } from "./trouble.js";
import { drawWire, takeItem } from "./wire.js";
import { drawWords, language, speak, t } from "./words.js";

const EVERYTHING = [
  ...[drawWords, drawBanner, drawChats, drawEntries, drawComposer, drawSwitches, drawSettings],
  ...[drawWire, drawTimeline, drawCounters, drawLog],
];

// ---- what the server says

const TAKE = {
  hello: greet,
  entry: ({ entry }) => takeEntry(entry),
  wire: ({ item }) => takeItem(item),
  answer: ({ answer }) => takeAnswer(answer),
  log: ({ line }) => takeLine(line),
  status: ({ status }) => take({ status }, drawCounters),
  switches: ({ switches }) => take({ switches }, drawSwitches),
  settings: ({ settings }) => take({ settings }, drawSettings),
  notice: tell,
};

function take(news, draw) {
  Object.assign(state, news);
  redraw(draw);
}

function greet(hello) {
  begin(hello);
  document.body.classList.toggle("live", hello.live);
  fillComposer();
  renew(...EVERYTHING);
}

/** Below the entry that it is about, or in passing. */
function tell({ entry, ...notice }) {
  if (!tellBelow(entry, notice)) toast(t(notice.key, notice));
}

// ---- tabs and panes

const tabs = [...document.querySelectorAll("[role=tab]")];

function openTab(tab) {
  for (const one of tabs) {
    one.ariaSelected = String(one === tab);
    one.tabIndex = one === tab ? 0 : -1;
    $(`panel-${one.dataset.tab}`).hidden = one !== tab;
  }
  markNews(tab, false);
}

tabs.forEach((tab, at) => {
  tab.addEventListener("click", () => openTab(tab));
  tab.addEventListener("keydown", ({ key }) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[key];
    if (to === undefined) return;
    openTab(tabs[to % tabs.length]);
    tabs[to % tabs.length].focus();
  });
});

/** On a narrow screen there is room for one of the two. */
function openPane(name) {
  document.body.dataset.pane = name;
  for (const button of $("panes").children) button.ariaPressed = String(button.dataset.pane === name);
}

for (const button of $("panes").children) button.addEventListener("click", () => openPane(button.dataset.pane));
$("skip-composer").addEventListener("click", () => openPane("chat"));
$("skip-bench").addEventListener("click", () => openPane("bench"));

// ---- the beginning

$("language").addEventListener("click", () => {
  speak(language === "en" ? "zh" : "en");
  renew(...EVERYTHING);
});
openTab(tabs[0]);
redraw(...EVERYTHING);
connect((message) => TAKE[message.type]?.(message));
