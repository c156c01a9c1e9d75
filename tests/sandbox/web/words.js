// The page's words, in the language that was chosen.
//
// Owns the language, what is remembered of it, and the texts that index.html asks for (data-t…). All other texts are
// put in by whoever shows them.

import { $ } from "./dom.js";
import { state } from "./state.js";

const REMEMBERED = "imRobots.sandbox.language";

const texts = await (await fetch("texts.json")).json();
export let language = remembered() ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

function remembered() {
  try {
    return Object.keys(texts).find((name) => name === localStorage.getItem(REMEMBERED));
  } catch {
    return undefined; // a browser that keeps nothing
  }
}

export function speak(other) {
  language = other;
  try {
    localStorage.setItem(REMEMBERED, language);
  } catch {
    // a browser that keeps nothing
  }
}

export const nameOfPlatform = () => texts[language][`platform.${state.hello.platform}`] ?? state.hello.platform ?? "";
export const nameOfRobot = () => state.hello.robot || nameOfPlatform();

/** The text with this key, or what `otherwise` says; `{name}` in it is filled in. */
export function t(key, more = {}, otherwise = key) {
  const words = { platform: nameOfPlatform(), robot: nameOfRobot(), ...more };
  return (texts[language][key] ?? otherwise).replace(/\{(\w+)\}/g, (all, name) => words[name] ?? all);
}

export const number = (value, digits = 1) =>
  new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
export const milliseconds = (ms) => t("ms", { count: number(ms, ms < 100 ? 1 : 0) });

export function drawWords() {
  const isChinese = language === "zh";
  const element = state.hello.element ?? "";
  document.documentElement.lang = isChinese ? "zh-CN" : "en";
  document.title = `${t("title")} · ${element || "imRobots"}`;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-label]")) node.ariaLabel = t(node.dataset.tLabel);
  for (const node of document.querySelectorAll("[data-t-title]")) node.title = t(node.dataset.tTitle);
  for (const node of document.querySelectorAll("[data-t-placeholder]")) node.placeholder = t(node.dataset.tPlaceholder);
  $("language").textContent = t("language");
  $("language").lang = isChinese ? "en" : "zh-CN";
  $("element").textContent = element;
}
