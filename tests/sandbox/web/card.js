// What the robot shows: a card, or a message without a frame.
//
// Owns its title, labels, text, note and buttons, inside the entry of entries.js. The text grows in place. What a
// button does is up to the server.

import { send } from "./connection.js";
import { el, html, keyed, morph } from "./dom.js";
import { chosen, state, viewOf } from "./state.js";
import { t } from "./words.js";

const PRESSED_MS = 1000; // the robot need not change the card

/** Still without anything in it. */
export function makeCard(entry) {
  const head = el("header", {}, el("h3"), el("span", { class: "label state" }), el("span", { class: "label look" }));
  const dots = el("span", { class: "dots", "aria-hidden": "true" }, el("i"), el("i"), el("i"));
  const [body, note] = ["body", "note"].map((name) => el("div", { class: `${name} markdown` }));
  const buttons = el("div", { class: "buttons", role: "group" });
  const look = entry.kind === "card" ? "card" : "bubble";
  return el("div", { class: look }, head, el("p", { class: "mentions" }), body, dots, note, buttons);
}

/** `node` is the whole entry. */
export function fillCard(node, entry) {
  const view = viewOf(entry);
  const part = (name) => node.querySelector(name);
  const put = (name, text) => {
    part(name).textContent = text;
    part(name).hidden = !text;
  };
  put("h3", view.title);
  put(".mentions", entry.mentions.map((person) => `@${person}`).join(" "));
  put(".look", entry.look && t(`look.${entry.look}`, {}, entry.look));
  const shown = entry.look === "standard" ? "" : entry.state; // a standard card draws no state: it has none
  put(".state", t(`answer.${shown}`, {}, ""));
  part(".content > div > header").hidden = !view.title && !entry.look;
  part(".caret")?.classList.remove("caret");
  morph(part(".body"), html(view.html));
  if (shown === "growing") lastBlock(part(".body")).classList.add("caret");
  morph(part(".note"), html(view.note));
  part(".note").hidden = !view.note;
  fillButtons(node, part(".buttons"), entry, view);
}

/** Where the text grows: the last paragraph, item of a list, cell of a table … */
function lastBlock(node) {
  const last = node.lastElementChild;
  const isAtEnd = last && !(last.nextSibling?.data ?? "").trim();
  return isAtEnd && !last.matches("a, em, strong, s, span, br, hr, :not(pre) > code") ? lastBlock(last) : node;
}

function fillButtons(node, box, entry, { buttons }) {
  const hadFocus = box.contains(document.activeElement);
  box.hidden = !buttons.length;
  box.ariaLabel = t("buttons");
  const make = ({ id }) => el("button", { type: "button", class: "pill", "data-button": id });
  keyed(box, buttons, (button) => button.id, make, (button, { id, label }) => {
    button.textContent = label;
    button.disabled = state.hello.live;
    button.onclick = () => click(node, button, { entry: entry.id, button: id });
  });
  for (const button of box.children) button.classList.remove("pressed");
  if (hadFocus && !box.contains(document.activeElement)) node.focus({ preventScroll: true }); // its button is gone
}

function click(node, button, what) {
  state.told.delete(what.entry); // of another click
  node.querySelector(".aside").replaceChildren();
  if (!send({ do: "click", ...what, person: chosen.person })) return;
  button.classList.add("pressed");
  setTimeout(() => button.classList.remove("pressed"), PRESSED_MS);
}
