// The picker of mentions: who is meant by the `@…` before the cursor of the composer.
//
// Owns its list, and which option is picked. The focus stays in the composer, which says which option is meant, and
// asks with each key whether it is for the picker.

import { $, el, insert, keyed } from "./dom.js";
import { isGroup, mentionable, state } from "./state.js";
import { t } from "./words.js";

const composer = $("composer");
const list = $("mentions");
let picked = 0;

composer.addEventListener("input", openPicker);
composer.addEventListener("blur", closePicker);
document.addEventListener("selectionchange", () => list.hidden || begun() || closePicker()); // the cursor has left it

/** The `@…` before the cursor, which is not part of an address. */
const begun = () => composer.value.slice(0, composer.selectionStart).match(/(?<![A-Za-z0-9._-])@([^\s@]*)$/);

function openPicker() {
  const typed = isGroup() && begun();
  const fits = (name) => name.toLowerCase().includes(typed[1].toLowerCase());
  const options = typed ? mentionable().filter(fits).map((name, at) => ({ name, at })) : [];
  keyed(list, options, (option) => option.name, makeOption, (node, { name, at }) => {
    node.id = `mention-${at}`;
    node.replaceChildren(name, el("small", {}, name === state.hello.robot ? t("theRobot") : ""));
  });
  list.hidden = !options.length;
  mark(0);
}

export function closePicker() {
  list.hidden = true;
  mark(picked);
}

function makeOption({ name }) {
  return el("li", { role: "option", onmousedown: (event) => (event.preventDefault(), pick(name)) });
}

function mark(number) {
  picked = number;
  [...list.children].forEach((option, at) => option.setAttribute("aria-selected", at === picked));
  if (list.hidden) composer.removeAttribute("aria-activedescendant");
  else composer.setAttribute("aria-activedescendant", `mention-${picked}`);
}

function pick(name) {
  insert(composer, `@${name} `, composer.selectionStart - begun()[0].length);
  closePicker();
}

/** Returns whether the key was meant for the picker. */
export function pickByKey(key) {
  if (list.hidden || !begun()) return false;
  const count = list.children.length;
  const step = { ArrowDown: 1, ArrowUp: -1 }[key];
  if (step) mark((picked + step + count) % count);
  else if (key === "Enter" || key === "Tab") pick(list.children[picked].item.name);
  else if (key === "Escape") closePicker();
  else return false;
  return true;
}
