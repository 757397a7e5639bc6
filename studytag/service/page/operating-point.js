// The operating point: which one is chosen, and what it promises.

import { $, count, h, percent } from "./dom.js";
import { recall, remember } from "./storage.js";

const STORED = "studytag-operating-point";

let model;
let chosen;
const listeners = [];

/** The name of the operating point that is chosen. */
export const operatingPoint = () => chosen;

/** Call `listener` with the name whenever another operating point is chosen. */
export const onOperatingPoint = (listener) => listeners.push(listener);

/** Show the operating points of the model, with the last one chosen or the server's default. */
export function showOperatingPoints(ofModel) {
  model = ofModel;
  const names = Object.keys(model.operating_points);
  const last = recall("localStorage", STORED);
  chosen = names.includes(last) ? last : model.default_operating_point;
  $("points").replaceChildren(...names.map(segment));
  $("operating-point").hidden = false;
  showPromise();
}

function segment(name) {
  const input = h("input", { type: "radio", name: "point", value: name, checked: name === chosen });
  input.addEventListener("change", () => {
    chosen = name;
    remember("localStorage", STORED, name);
    showPromise();
    for (const listener of listeners) listener(name);
  });
  return h("label", {}, input, h("span", {}, name.replaceAll("_", " ")));
}

function showPromise() {
  const point = model.operating_points[chosen];
  const open = $("promise").querySelector("details")?.open;
  $("promise").replaceChildren(
    h(
      "p",
      { "aria-live": "polite" },
      h("strong", {}, sentence(point.description)),
      average(point.metrics),
    ),
    h(
      "details",
      { open },
      h("summary", {}, "What to expect of each label"),
      h(
        "div",
        {
          class: "scroll",
          tabindex: 0,
          role: "region",
          "aria-label": "What to expect of each label",
        },
        promises(point),
      ),
    ),
  );
}

function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return start && `${start.replace(/[.]?$/, ".")} `;
}

function average(metrics) {
  const scores = Object.values(metrics ?? {}).filter((score) => score.support);
  if (!scores.length) return "How well it does at this point has not been measured.";
  const mean = (name) =>
    rounded(scores.reduce((sum, score) => sum + score[name], 0) / scores.length);
  return (
    `Measured on ${model.measured_on}: averaged over the labels, ${mean("recall")} of those that ` +
    `have a label were found, and ${mean("precision")} of the labels were right.`
  );
}

/** A measured share: no more digits than some hundred articles give. */
const rounded = (share) => `${Math.round(100 * share)}\u00a0%`;

function promises(point) {
  const cell = (score, name) =>
    h("td", { class: "number" }, score?.support ? rounded(score[name]) : "–");
  return h(
    "table",
    {},
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ...["Label", "Threshold", "Found (recall)", "Right (precision)", "Articles measured"].map(
          (title, index) => h("th", { scope: "col", class: index ? "number" : null }, title),
        ),
      ),
    ),
    h(
      "tbody",
      {},
      model.labels.map((label) => {
        const score = point.metrics?.[label];
        return h(
          "tr",
          {},
          h("th", { scope: "row" }, label),
          h("td", { class: "number" }, percent(point.thresholds[label])),
          cell(score, "recall"),
          cell(score, "precision"),
          h("td", { class: "number" }, score ? count(score.support) : "–"),
        );
      }),
    ),
  );
}
