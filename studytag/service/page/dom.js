// Elements, numbers and dates. Text is always set as text, never as HTML.

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/** Make an element: attributes by name, `on…` as listeners, then children (null is left out). */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

/** Set custom properties, which a strict policy allows to scripts but not to attributes. */
export function style(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value);
  return element;
}

/** Replace what is in `place`; null is left out. */
export function fill(place, ...children) {
  place.replaceChildren(...children.flat().filter((child) => child != null));
}

/** State the roles of a table and its parts, which browsers drop where a style lays them out anew. */
export function withRoles(table) {
  const roles = {
    thead: "rowgroup",
    tbody: "rowgroup",
    tr: "row",
    td: "cell",
    "th[scope=row]": "rowheader",
    "th[scope=col]": "columnheader",
  };
  table.setAttribute("role", "table");
  for (const [selector, role] of Object.entries(roles)) {
    for (const part of table.querySelectorAll(selector)) part.setAttribute("role", role);
  }
  return table;
}

/** Labels as small boxes. */
export const chips = (labels) => labels.map((label) => h("span", { class: "chip" }, label));

/** Show an error in its place, or none. */
export function showError(place, error) {
  place.textContent = error ? (error.message ?? String(error)) : "";
  place.hidden = !error;
}

/** Tell people who do not see the page what has changed. */
export function announce(message) {
  $("status").textContent = message;
}

/** "43 %", "98.5 %", ">99.9 %", "0.017 %": small thresholds must be told apart. */
export function percent(share) {
  const value = 100 * share;
  if (value > 99.9 && value < 100) return ">99.9\u00a0%";
  const digits = value >= 90 ? 1 : value >= 10 ? 0 : value >= 1 ? 1 : value >= 0.1 ? 2 : 3;
  return `${value.toFixed(value % 100 === 0 ? 0 : digits)}\u00a0%`;
}

/** "+12.3": percentage points with their sign; a real minus, as wide as a plus. */
export function points(difference) {
  const value = 100 * difference;
  const digits = Math.abs(value) >= 0.95 || value === 0 ? 1 : 2;
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? "0.0" : `${value > 0 ? "+" : "−"}${text}`;
}

const NUMBER = new Intl.NumberFormat("en");

/** "12,345". */
export const count = (number) => NUMBER.format(number);

/** "1 record", "2 records". */
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** A date and time as the browser's owner writes them. */
export const when = (time) =>
  new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
