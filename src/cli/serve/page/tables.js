// Tables that are lists on a phone, and buttons in them.
import { element } from "./api.js";

export const button = (text, label, act) => {
  const made = element("button", { textContent: text, "aria-label": label });
  made.addEventListener("click", act);
  return made;
};

/** Makes a table, or a text if there are no rows. */
export function table(title, head, rows, none) {
  if (!rows.length) return element("p", { className: "dim", textContent: none });
  const row = cells => element("tr", {}, ...cells.map((cell, index) => element("td", { "data-head": head[index] }, cell)));
  return element("table", { "aria-label": title }, element("thead", {}, element("tr", {}, ...head.map(text => element("th", { textContent: text, scope: "col" })))),
    element("tbody", {}, ...rows.map(row)));
}

/** Replaces a table if it is to show something else. What is typed in it stays, and so does the focus. */
export function replace(place, facts, make) {
  const text = JSON.stringify(facts);
  if (place.shown === text) return;
  place.shown = text;
  const typed = new Map([...place.querySelectorAll("input")].map(input => [input.ariaLabel, input.value]));
  const focused = place.contains(document.activeElement) ? document.activeElement.ariaLabel : null;
  place.replaceChildren(make());
  for (const input of place.querySelectorAll("input")) input.value = typed.get(input.ariaLabel) ?? "";
  if (focused) [...place.querySelectorAll("[aria-label]")].find(made => made.ariaLabel === focused)?.focus();
}
