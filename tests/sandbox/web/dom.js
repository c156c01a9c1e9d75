// Elements: how they are made, kept up to date in place, scrolled, and when they are drawn.
//
// Owns no element, and knows nothing of chats or robots. What is drawn changes what is there already, so that focus,
// selection and scroll position stay. `html` is the only way by which text becomes HTML.

let edition = 0;
const waiting = new Set();

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS(svg.namespaceURI, "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** What the server has made of Markdown, and made safe; its wide tables scroll in boxes of their own. */
export function html(source) {
  const { content } = Object.assign(document.createElement("template"), { innerHTML: source });
  for (const table of content.querySelectorAll("table")) {
    const box = el("div", { class: "table" });
    table.replaceWith(box);
    box.append(table);
  }
  return content;
}

// ---- kept up to date

/**
 * Make the children of `parent` those of `items`, keeping what is there already: nothing moves without need. `fill` is
 * told whether the child is filled in anew although nothing need have happened to its item.
 */
export function keyed(parent, items, keyOf, make, fill) {
  const keys = new Set(items.map((item) => String(keyOf(item))));
  for (const child of [...parent.children]) if (!keys.has(child.itemKey)) child.remove();
  const there = new Map([...parent.children].map((child) => [child.itemKey, child]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const node = there.get(key) ?? Object.assign(make(item), { itemKey: key });
    if (node === next) next = node.nextElementSibling;
    else parent.insertBefore(node, next);
    const isRenewed = node.edition !== edition;
    if (node.item !== item || isRenewed) fill(node, item, isRenewed);
    Object.assign(node, { item, edition });
  }
}

/** Make the options of `select` these, each with `value` and `label`, and choose the one with `value`. */
export function offer(select, options, value) {
  const make = (option) => el("option", { value: option.value });
  keyed(select, options, (option) => option.value, make, (node, { label }) => {
    if (node.textContent !== label) node.textContent = label;
  });
  select.value = value;
}

/** Make the content of `old` that of `fresh`, and leave alone what is the same. */
export function morph(old, fresh) {
  const before = [...old.childNodes];
  [...fresh.childNodes].forEach((node, at) => {
    const was = before[at];
    if (!was) old.append(node);
    else if (was.isEqualNode(node)) return;
    else if (was.nodeType === Node.TEXT_NODE && node.nodeType === Node.TEXT_NODE) grow(was, node.data);
    else if (was.cloneNode().isEqualNode(node.cloneNode())) morph(was, node);
    else was.replaceWith(node);
  });
  before.slice(fresh.childNodes.length).forEach((node) => node.remove());
}

const grow = (text, data) =>
  data.startsWith(text.data) ? text.appendData(data.slice(text.data.length)) : (text.data = data);

/** As if it were typed, in place of what is selected, or of what is there from `from` on. */
export function insert(field, text, from = field.selectionStart) {
  field.setRangeText(text, from, field.selectionEnd, "end");
  field.focus();
  field.dispatchEvent(new Event("input"));
}

/** Keeps a box that scrolls at its end, as long as the reader is there. Returns what brings the reader there. */
export function follow(box, content, onMove = () => {}) {
  let atEnd = true;
  const note = (is) => {
    atEnd = is;
    box.style.overflowAnchor = is ? "none" : "auto"; // the browser keeps what a reader reads, not the end
    onMove(is);
  };
  const stay = () => atEnd && (box.scrollTop = box.scrollHeight);
  box.addEventListener("scroll", () => note(box.scrollHeight - box.scrollTop - box.clientHeight < 24));
  const observer = new ResizeObserver(stay);
  [box, content].forEach((node) => observer.observe(node));
  note(true);
  return () => (note(true), stay());
}

// ---- when it is drawn

/** Each of them once, before the next frame. */
export function redraw(...draws) {
  if (!waiting.size) requestAnimationFrame(drawWaiting);
  draws.forEach((draw) => waiting.add(draw));
}

/** Also what is still the same item is filled in anew: in another language, or for another person. */
export function renew(...draws) {
  edition += 1;
  redraw(...draws);
}

function drawWaiting() {
  const draws = [...waiting];
  waiting.clear();
  draws.forEach((draw) => draw());
}
