// The history: in this browser's storage alone, newest first.

import { $, h, plural, when } from "./dom.js";
import { recall, remember } from "./storage.js";

const STORED = "studytag-history";
const MOST = 50;
const LONGEST_TEXT = 20_000;

let open = { article: () => {}, file: () => {} };

/** Wire the list; `openers` open an entry again, by its kind. */
export function startHistory(openers) {
  open = openers;
  $("forget").addEventListener("click", () => {
    save([]);
    $("tab-history").focus();
  });
  window.addEventListener("storage", (event) => event.key === STORED && show());
  show();
}

/** Remember an article or a file; the same one moves to the top. */
export function addToHistory(entry) {
  if (entry.abstract?.length > LONGEST_TEXT) return;
  const others = load().filter((other) => key(other) !== key(entry));
  save([{ ...entry, time: new Date().toISOString() }, ...others].slice(0, MOST));
}

/** Forget a file that is no longer on the server. */
export function removeFromHistory(entry) {
  save(load().filter((other) => key(other) !== key(entry)));
}

const key = (entry) => (entry.kind === "file" ? entry.id : `${entry.title}\n${entry.abstract}`);

function load() {
  try {
    const entries = JSON.parse(recall("localStorage", STORED));
    return Array.isArray(entries) ? entries : [];
  } catch {
    return [];
  }
}

function save(entries) {
  remember("localStorage", STORED, entries.length ? JSON.stringify(entries) : null);
  show();
}

function show() {
  const entries = load();
  $("forget").hidden = !entries.length;
  $("entries").replaceChildren(
    ...(entries.length
      ? entries.map(item)
      : [h("li", { class: "empty" }, "Nothing yet. What you tag is listed here.")]),
  );
}

function item(entry) {
  const name = entry.kind === "file" ? entry.name : entry.title || entry.abstract;
  const detail =
    entry.kind === "file"
      ? entry.records == null
        ? "not finished when this page last saw it"
        : plural(entry.records, "record")
      : entry.labels.join(", ") || "no label";
  return h(
    "li",
    {},
    h("button", { class: "link", type: "button", onclick: () => open[entry.kind](entry) }, name),
    h(
      "span",
      { class: "quiet" },
      `${entry.kind === "file" ? "File" : "Article"} · ${detail} · ${when(entry.time)}`,
    ),
    h(
      "button",
      {
        class: "small",
        type: "button",
        "aria-label": `Remove ${name}`,
        onclick: () => remove(entry),
      },
      "Remove",
    ),
  );
}

function remove(entry) {
  removeFromHistory(entry);
  $("tab-history").focus();
}
