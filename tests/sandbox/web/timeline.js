// The timeline of one answer: when it was asked for, and what was seen of it when.
//
// Owns the choice of the answer, which is the newest one unless another one was chosen, and its picture.

import { $, el, offer, redraw } from "./dom.js";
import { keep, state } from "./state.js";
import { milliseconds, t } from "./words.js";

const OFFERED = 20; // answers to choose from

$("which-answer").addEventListener("change", (event) => {
  state.answer = event.target.value;
  redraw(drawTimeline);
});

export function takeAnswer(answer) {
  keep(state.answers, answer.id, answer);
  redraw(drawTimeline);
}

export function drawTimeline() {
  const answers = [...state.answers.values()].slice(-OFFERED).reverse();
  const labelOf = (answer) => answer.question || t("noQuestion");
  const newest = t("newestAnswer", { question: answers.length ? labelOf(answers[0]) : "–" });
  const options = answers.map((answer) => ({ value: answer.id, label: labelOf(answer) }));
  if (!state.answers.has(state.answer)) state.answer = "";
  offer($("which-answer"), [{ value: "", label: newest }, ...options], state.answer);
  const answer = state.answers.get(state.answer) ?? answers[0];
  $("timeline").dataset.empty = t("noAnswer");
  $("timeline").replaceChildren(...(answer ? [bar(answer.marks), list(answer)] : []));
}

function bar(marks) {
  const end = Math.max(...marks.map((mark) => mark.ms), 1);
  const place = (node, from, to = from) => {
    node.style.left = `${(100 * from) / end}%`;
    node.style.width = `${(100 * (to - from)) / end}%`;
    return node;
  };
  const turns = marks.filter((mark) => mark.what !== "update");
  const span = ({ what, ms }, at) => place(el("i", { class: `span ${what}` }), ms, turns[at + 1]?.ms ?? end);
  const tick = ({ what, ms }) => place(el("i", { class: `tick ${what}`, title: milliseconds(ms) }), ms);
  const scale = el("p", { class: "scale" }, el("span", {}, milliseconds(0)), el("span", {}, milliseconds(end)));
  const track = el("div", { class: "track" }, ...turns.map(span), ...marks.map(tick));
  return el("div", { "aria-hidden": "true" }, track, scale);
}

function list({ marks, over }) {
  const updates = marks.filter((mark) => mark.what === "update");
  const shown = marks.filter((mark) => mark.what !== "update" || mark === updates.at(-1));
  const line = (what, label, ...more) =>
    el("li", { "data-mark": what }, el("i", { class: `dot ${what}` }), el("span", {}, label), ...more);
  const lines = shown.map(({ what, ms }) => {
    const label = what === "update" ? t("mark.updates", { count: updates.length }) : t(`mark.${what}`);
    return line(what, label, el("b", {}, milliseconds(ms)));
  });
  if (!over) lines.push(line("running", t("underWay")));
  return el("ol", {}, ...lines);
}
