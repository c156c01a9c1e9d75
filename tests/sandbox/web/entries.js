// The entries of the chat that is open: people's messages, and the frame around what the robot shows.
//
// Owns their list, what is said below an entry, and how far it is scrolled; with the real platform, the notes above
// them. Does not decide which chat is open, nor what is quoted (composer.js); what the robot shows is drawn by card.js.

import { fillCard, makeCard } from "./card.js";
import { $, el, follow, html, icon, keyed, renew } from "./dom.js";
import { chosen, entriesOf, mentionable, state, viewOf } from "./state.js";
import { language, nameOfRobot, t } from "./words.js";

const TONES = 6; // colours of people, in page.css

export const readToEnd = follow($("scroller"), $("entries-and-more"), (atEnd) => ($("to-end").hidden = atEnd));
$("to-end").addEventListener("click", () => {
  readToEnd();
  $("composer").focus(); // the button is gone
});

export function drawEntries() {
  const isLive = state.hello.live;
  const entries = isLive ? [...state.entries.values()] : entriesOf(chosen.chat);
  keyed($("entries"), entries, (entry) => entry.id, makeEntry, fillEntry);
  $("empty").hidden = entries.length > 0 || !chosen.chat;
  $("live-notes").hidden = !isLive;
  if (isLive) drawLiveNotes();
}

function drawLiveNotes() {
  const lines = state.hello.notice.map((line) => el("li", { class: line.ok ? "ok" : "bad" },
    el("span", { class: "unseen" }, t(line.ok ? "lineOk" : "lineBad")), ` ${line[language]}`));
  $("live-notes").replaceChildren(el("h3", {}, t("liveTitle")), el("p", {}, t("liveText")), el("ul", {}, ...lines));
}

export const authorOf = (entry) => entry.person ?? nameOfRobot();
export const textOf = (entry) => html(viewOf(entry).html).textContent.trim();

/** In one line. */
export function summaryOf(entry) {
  if (entry.person) return entry.kind === "picture" ? t("picture") : inLine(entry.text);
  return viewOf(entry).title || textOf(entry);
}

const inLine = (text) => text.replaceAll("[picture]", `[${t("picture")}]`);

/** What is said below an entry, until a button of it is pressed again; returns whether there is such an entry. */
export function tellBelow(id, notice) {
  if (!state.entries.has(id)) return false;
  state.told.set(id, notice);
  renew(drawEntries);
  return true;
}

// ---- one of them

function makeEntry(entry) {
  const isRobot = !entry.person;
  const look = isRobot ? "robot" : toneOf(entry.person);
  const symbol = isRobot ? icon("robot") : initials(entry.person);
  const face = el("span", { class: `avatar ${look}`, "aria-hidden": "true" }, symbol);
  const quote = el("button", { type: "button", class: "quote-it quiet" }, icon("quote"));
  const byline = el("p", { class: "byline" }, el("span", { class: "author" }), el("time"), quote);
  const box = isRobot ? makeCard(entry) : el("div", { class: `bubble of-${entry.kind}` });
  const aside = el("p", { class: "aside", role: "status" });
  const content = el("div", { class: "content" }, byline, box, aside);
  return el("li", { "data-entry": entry.id, tabindex: "-1" }, face, content);
}

const toneOf = (name) => `tone${[...name].reduce((sum, char) => sum + char.codePointAt(0), 0) % TONES}`;

/** Of a Chinese name the last two characters, of any other one the first letters. */
function initials(name) {
  if (/\p{Script=Han}/u.test(name)) return name.slice(-2);
  return name.split(/\s+/).map((word) => word.slice(0, 1)).join("").slice(0, 2).toUpperCase();
}

function fillEntry(node, entry) {
  node.dataset.state = entry.state ?? "";
  node.className = entry.person ? (entry.person === chosen.person ? "mine" : "theirs") : "robots";
  node.querySelector(".author").textContent = authorOf(entry);
  node.querySelector("time").textContent = entry.time;
  const quote = node.querySelector(".quote-it");
  quote.hidden = !state.hello.quotes || state.hello.live;
  quote.title = t("quote");
  quote.ariaLabel = t("quoteOf", { person: authorOf(entry) });
  const told = state.told.get(entry.id) ?? (entry.heard === false ? { key: "notHeard" } : null);
  node.querySelector(".aside").textContent = told ? t(told.key, told) : "";
  if (entry.person) fillMessage(node.querySelector(".bubble"), entry);
  else fillCard(node, entry);
}

// ---- a person's message

const CONTENT = {
  text: ({ text }) => [withMentions(text)],
  rich: ({ parts }) => parts.map((part) => (part.picture ? picture() : withMentions(part.text))),
  voice,
  picture: () => [picture()],
};

function fillMessage(box, entry) {
  const { quote, kind } = entry;
  const words = () => [el("b", {}, quote.person || nameOfRobot()), ` ${inLine(quote.text)}`];
  const quoted = quote ? [el("blockquote", {}, ...words())] : [];
  box.replaceChildren(...quoted, ...(CONTENT[kind] ?? CONTENT.text)(entry));
}

const picture = () => el("div", { class: "picture", role: "img", "aria-label": t("picture") }, icon("picture"));

function voice({ seconds, text }) {
  const wave = el("i", { class: "wave", "aria-hidden": "true" });
  const length = el("span", {}, t("seconds", { count: seconds }));
  const line = el("p", { class: "voice" }, icon("voice"), el("span", { class: "unseen" }, t("voice")), wave, length);
  return [line, el("p", { class: "recognised" }, el("span", {}, t("recognised")), ` ${text}`)];
}

function withMentions(text) {
  if (!mentionable().length) return el("p", {}, text);
  const escaped = mentionable().map((name) => name.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  const pattern = new RegExp(`(?<![A-Za-z0-9_.-])(@(?:${escaped.join("|")})(?![A-Za-z0-9_]))`, "u"); // as platforms.py
  const nodes = text.split(pattern).map((part, at) => (at % 2 ? el("span", { class: "mention" }, part) : part));
  return el("p", {}, ...nodes);
}
