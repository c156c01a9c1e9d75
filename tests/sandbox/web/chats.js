// The chats, which of them is open, and who one is in them.
//
// Owns their list, the head of the one that is open, and what is news: counted where it is not seen, read out where it
// is. What is in the open one is drawn by entries.js.

import { drawComposer, fillComposer } from "./composer.js";
import { $, el, html, icon, keyed, offer, redraw, renew } from "./dom.js";
import { drawEntries, readToEnd, summaryOf, textOf } from "./entries.js";
import { chatOf, chosen, concernsMe, entriesOf, isNews, keep, placeOf, remember, state, viewOf } from "./state.js";
import { nameOfPlatform, nameOfRobot, t } from "./words.js";

const MOST_SPOKEN = 300; // characters of an answer

$("speak-as").addEventListener("change", (event) => choose({ person: event.target.value }));

export function takeEntry(entry) {
  const before = state.entries.get(entry.id);
  keep(state.entries, entry.id, entry);
  redraw(drawEntries, drawChats);
  if (!isNews() || entry.person || state.hello.live) return;
  const place = placeOf(entry.chat, entry.with);
  if (entry.chat === chosen.chat && concernsMe(entry)) announce(entry, before);
  else if (!before) state.unread.set(place, (state.unread.get(place) ?? 0) + 1);
}

/** An answer when it has ended, and later what is new below it. */
function announce(entry, before) {
  const isOver = (one) => one && !["thinking", "growing"].includes(one.state);
  const note = (one) => html(viewOf(one).note).textContent;
  if (!isOver(entry)) return;
  const words = isOver(before) ? note(entry) !== note(before) && note(entry) : textOf(entry).slice(0, MOST_SPOKEN);
  if (words) $("announcer").textContent = `${nameOfRobot()}: ${words}`;
}

const titleOf = (chat) => chat.title || nameOfRobot();

export function drawChats() {
  const chats = state.chats.map((chat) => ({ ...chat })); // filled in anew: what is in them has changed
  keyed($("chats"), chats, (chat) => chat.id, makeChat, fillChat);
  const chat = chatOf(chosen.chat);
  $("talk-title").textContent = chat ? titleOf(chat) : nameOfRobot();
  $("talk-kind").textContent = chat ? t(`chat.${chat.kind}`) : nameOfPlatform();
  $("speaker").hidden = !state.people.length;
  const labelOf = ({ id, title }) => (title ? t("speaker", { id, title: t(`person.${title}`, {}, title) }) : id);
  offer($("speak-as"), state.people.map((one) => ({ value: one.id, label: labelOf(one) })), chosen.person);
}

function makeChat(chat) {
  const symbol = icon(chat.kind === "group" ? "group" : "robot");
  const face = el("span", { class: "avatar robot", "aria-hidden": "true" }, symbol);
  const parts = ["name", "kind", "unread", "last"].map((name) => el("span", { class: name }));
  const onclick = () => choose({ chat: chat.id });
  return el("button", { type: "button", "data-chat": chat.id, onclick }, face, ...parts);
}

function fillChat(button, chat) {
  const last = entriesOf(chat.id).at(-1);
  const count = state.unread.get(placeOf(chat.id, chosen.person));
  button.querySelector(".name").textContent = titleOf(chat);
  button.querySelector(".kind").textContent = count ? "" : t(`chat.${chat.kind}`);
  button.querySelector(".unread").textContent = count ? t("unread", { count }) : "";
  button.querySelector(".last").textContent = last ? summaryOf(last) : "–";
  if (chat.id === chosen.chat) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
}

function choose(news) {
  Object.assign(chosen, news, { quote: "" });
  remember();
  state.unread.delete(placeOf(chosen.chat, chosen.person));
  fillComposer();
  renew(drawEntries, drawChats, drawComposer);
  readToEnd();
}
