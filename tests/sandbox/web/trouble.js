// Trouble that can be made, and settings: the upper part of the workbench.
//
// Owns the switches and selects. What they are, and which are on, the server says, also after a click: a switch moves
// when the server has moved it. One without a text is shown by its name.

import { send } from "./connection.js";
import { $, el, keyed, offer } from "./dom.js";
import { state } from "./state.js";
import { t } from "./words.js";

export function drawSwitches() {
  const pushes = state.switches.filter(({ on }) => on === undefined);
  const toggles = state.switches.filter(({ on }) => on !== undefined);
  for (const [box, some] of [[$("pushes"), pushes], [$("toggles"), toggles]]) {
    box.hidden = !some.length;
    keyed(box.querySelector(".switches"), some, (one) => one.name, makeSwitch, fillSwitch);
  }
}

function makeSwitch({ name, on }) {
  const [label, why] = ["name", "why"].map((part) => el("span", { class: part, id: `switch-${name}-${part}` }));
  const names = { "aria-labelledby": label.id, "aria-describedby": why.id };
  const role = on === undefined ? null : "switch";
  return el("button", { type: "button", "data-switch": name, role, ...names }, label, why);
}

function fillSwitch(button, { name, on }) {
  const why = t(`switch.${name}.why`, {}, "");
  button.querySelector(".name").textContent = t(`switch.${name}`, {}, name);
  button.querySelector(".why").textContent = why;
  button.title = why;
  if (on !== undefined) button.ariaChecked = String(on);
  button.onclick = () => send({ do: "switch", name, ...(on === undefined ? {} : { on: !on }) });
}

export function drawSettings() {
  $("settings").hidden = !state.settings.length;
  keyed($("settings"), state.settings, (setting) => setting.name, makeSetting, fillSetting);
}

function makeSetting({ name }) {
  return el("label", { class: "choice" }, el("span"), el("select", { "data-setting": name }));
}

function fillSetting(label, { name, value, choices }) {
  const select = label.querySelector("select");
  const labelOf = (choice) => t(`choice.${name}.${choice}`, {}, String(choice));
  label.querySelector("span").textContent = t(`setting.${name}`, {}, name);
  label.title = t(`setting.${name}.why`, {}, "");
  offer(select, choices.map((choice) => ({ value: String(choice), label: labelOf(choice) })), String(value));
  select.onchange = () => send({ do: "set", name, value: choices[select.selectedIndex] });
}
