// The composer: what a person is about to say, of which kind, and what it quotes.
//
// Owns the draft of each chat, and the example questions. Whom one speaks as, and where, is chosen in chats.js.

import { send } from "./connection.js";
import { $, el, icon, insert, keyed, redraw } from "./dom.js";
import { authorOf, readToEnd, summaryOf } from "./entries.js";
import { closePicker, pickByKey } from "./mentions.js";
import { chosen, isGroup, kindsHere, state } from "./state.js";
import { language, t } from "./words.js";

const composer = $("composer");
const drafts = new Map(); // by chat

const maySend = () => chosen.kind === "picture" || composer.value.trim() !== "";
const mention = () => (isGroup() && state.hello.robot ? `@${state.hello.robot} ` : "");

export function drawComposer() {
  keyed($("kinds"), kindsHere(), String, makeKind, (label, kind) => {
    label.querySelector("span").textContent = t(`kind.${kind}`, {}, kind);
    label.querySelector("input").checked = kind === chosen.kind;
  });
  const quoted = state.entries.get(chosen.quote);
  $("quoting").hidden = !quoted;
  $("quoted").textContent = quoted ? `${authorOf(quoted)}: ${summaryOf(quoted)}` : "";
  $("insert-picture").hidden = chosen.kind !== "rich";
  $("hint").textContent = [t("hint"), ...(mention() ? [t("hintMention")] : [])].join(" · ");
  composer.placeholder = t(`placeholder.${chosen.kind}`, {}, "");
  $("send").disabled = !maySend();
  const examples = state.hello.examples[language] ?? [];
  keyed($("examples"), examples, String, makeExample, (chip, text) => (chip.textContent = text));
}

function makeKind(kind) {
  const onchange = () => (Object.assign(chosen, { kind }), fillComposer());
  const radio = el("input", { type: "radio", name: "kind", class: "unseen", onchange });
  return el("label", { "data-kind": kind }, radio, icon(kind), el("span"));
}

function makeExample(text) {
  const onclick = () => say("text", mention() + text) && composer.focus();
  return el("button", { type: "button", class: "pill", onclick });
}

/** With the draft of this chat, or as it is at the beginning. */
export function fillComposer() {
  if (!kindsHere().includes(chosen.kind)) chosen.kind = kindsHere()[0] ?? "text";
  composer.readOnly = chosen.kind === "picture"; // at once: the next key may be on its way
  composer.value = chosen.kind === "picture" ? "" : drafts.get(chosen.chat) ?? mention();
  composer.setSelectionRange(composer.value.length, composer.value.length);
  closePicker();
  redraw(drawComposer);
}

// ---- what is said

function say(kind, text) {
  const isSent = send({ do: "say", chat: chosen.chat, person: chosen.person, kind, text, quote: chosen.quote || null });
  if (isSent) readToEnd();
  return isSent;
}

function sendDraft() {
  const isPicture = chosen.kind === "picture";
  if (!maySend() || !say(chosen.kind, isPicture ? mention().trim() : composer.value.trim())) return;
  chosen.quote = "";
  if (!isPicture) drafts.delete(chosen.chat);
  fillComposer();
  composer.focus();
}

function quote(id) {
  chosen.quote = id;
  redraw(drawComposer);
  composer.focus();
}

$("entries").addEventListener("click", ({ target }) => {
  if (target.closest(".quote-it")) quote(target.closest("[data-entry]").dataset.entry);
});
$("unquote").addEventListener("click", () => quote(""));
$("send").addEventListener("click", sendDraft);
$("insert-picture").addEventListener("click", () => {
  const before = composer.value.slice(0, composer.selectionStart);
  insert(composer, `${before && !before.endsWith("\n") ? "\n" : ""}[picture]\n`);
});
composer.addEventListener("input", () => {
  drafts.set(chosen.chat, composer.value);
  redraw(drawComposer);
});
composer.addEventListener("keydown", (event) => {
  if (event.isComposing || event.keyCode === 229) return; // 229: Safari, for the Enter that ends the composing
  if (pickByKey(event.key)) event.preventDefault();
  else if (event.key === "Escape") quote("");
  else if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    if (chosen.kind === "picture" || composer.value.trim() !== mention().trim()) sendDraft(); // no Enter too many
  }
});
