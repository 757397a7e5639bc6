// One article: the form, its labels as bars, and a way to ask why.

import { get, post } from "./api.js";
import { $, announce, chips, fill, h, percent, showError, style, withRoles } from "./dom.js";
import { addToHistory } from "./history.js";
import { onOperatingPoint, operatingPoint } from "./operating-point.js";
import { hideWhy, showWhy } from "./why.js";

let model;
let shown = null; // the article whose labels are shown: {title, abstract}
let wanted = null; // the one that was asked for last; another until its answer has come
let latest = 0; // answers of earlier requests are dropped

/** Wire the form. */
export function startArticle(ofModel) {
  model = ofModel;
  $("article-form").addEventListener("submit", (event) => {
    event.preventDefault();
    tagArticle();
  });
  $("article-form").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) tagArticle();
  });
  $("article-form").addEventListener("input", markStale);
  $("clear").addEventListener("click", clear);
  $("example").addEventListener("click", async () => {
    try {
      await openArticle(await get("example.json"));
    } catch (error) {
      showError($("article-error"), error);
    }
  });
  onOperatingPoint(() => {
    if (wanted !== shown) tagArticle();
    else if (shown) tag(shown);
  });
}

/** Fill the form with an article and tag it. */
export async function openArticle({ title, abstract }) {
  $("title").value = title ?? "";
  $("abstract").value = abstract ?? "";
  await tagArticle();
}

function clear() {
  latest += 1;
  shown = wanted = null;
  $("article-form").reset();
  markStale();
  $("result").replaceChildren(
    h("p", { class: "empty" }, "Each label’s probability will be shown here."),
  );
  showError($("article-error"), null);
  hideWhy();
  $("title").focus();
}

const entered = () => ({ title: $("title").value.trim(), abstract: $("abstract").value.trim() });

/** Say so when the labels shown are those of an earlier text. */
function markStale() {
  const { title, abstract } = entered();
  $("result").classList.toggle(
    "stale",
    shown !== null && (title !== shown.title || abstract !== shown.abstract),
  );
}

async function tagArticle() {
  const article = entered();
  if (!article.title && !article.abstract) {
    showError($("article-error"), "Paste a title or an abstract first.");
    $("title").focus();
    return;
  }
  hideWhy();
  const result = await tag(article);
  if (result) addToHistory({ kind: "article", ...article, labels: result.labels });
}

/** Tag an article and show its labels; the result, or null where it failed or came too late. */
async function tag(article) {
  const request = ++latest;
  wanted = article;
  showError($("article-error"), null);
  $("result").setAttribute("aria-busy", "true");
  try {
    const answer = await post("v1/tag", { articles: article, operating_point: operatingPoint() });
    if (request !== latest) return null;
    const [result] = answer.results;
    if (result.error) throw new Error(result.error.error);
    shown = article;
    show(result);
    return result;
  } catch (error) {
    if (request === latest) {
      wanted = shown;
      showError($("article-error"), error);
    }
    return null;
  } finally {
    if (request === latest) $("result").removeAttribute("aria-busy");
  }
}

function show(result) {
  const verdict = result.labels.length ? result.labels.join(", ") : "No label";
  announce(`Tagged: ${verdict}.`);
  markStale();
  fill(
    $("result"),
    h(
      "p",
      { class: "verdict" },
      result.labels.length ? chips(result.labels) : "No label reaches its threshold.",
    ),
    h("p", { class: "hint when-stale" }, "The text has changed since; tag it again."),
    result.truncated
      ? h(
          "p",
          { class: "hint" },
          `The text is longer than the model’s ${model.max_length} tokens; its end was not read.`,
        )
      : null,
    bars(result),
    h(
      "p",
      { class: "legend quiet" },
      h("span", { class: "mark-key", "aria-hidden": "true" }),
      "The mark is the label’s threshold: a bar that reaches it means yes.",
    ),
  );
}

function bars(result) {
  const head = ["Label", "Probability", "Threshold", "Decision", "Reason"];
  return withRoles(
    h(
      "table",
      { class: "bars" },
      h("caption", { class: "hidden" }, "Probability, threshold and decision of each label"),
      h(
        "thead",
        { class: "hidden" },
        h(
          "tr",
          {},
          head.map((title) => h("th", { scope: "col" }, title)),
        ),
      ),
      h(
        "tbody",
        {},
        model.labels.map((label) => bar(label, result)),
      ),
    ),
  );
}

function bar(label, result) {
  const { probability, threshold, present } = result.decisions[label];
  const implied = present && probability < threshold ? impliedBy(label, result.labels) : null;
  const track = h(
    "span",
    { class: "track", "aria-hidden": "true" },
    h("span", { class: "fill" }),
    h("span", { class: "mark" }),
  );
  style(track, { "--probability": probability, "--threshold": threshold });
  return h(
    "tr",
    { class: present ? "yes" : "no" },
    h("th", { scope: "row" }, label),
    h("td", { class: "measure" }, track, h("span", { class: "value" }, percent(probability))),
    h("td", { class: "needs quiet" }, `needs ${percent(threshold)}`),
    h(
      "td",
      { class: "decision" },
      present ? "Yes" : "No",
      implied && h("span", { class: "quiet" }, ` follows from ${implied}`),
    ),
    h(
      "td",
      {},
      h(
        "button",
        {
          class: "small",
          type: "button",
          "aria-label": `Why ${label}?`,
          onclick: () => showWhy(label, shown, model),
        },
        "Why?",
      ),
    ),
  );
}

function impliedBy(label, present) {
  return present.find((other) => model.implications[other]?.includes(label));
}
