// Why: how much the probability of a label changes when a sentence is left out.

import { post } from "./api.js";
import { $, h, points, showError, style } from "./dom.js";

const LEAST_SCALE = 0.02; // below two points, colours stay pale: nothing moves the label much

let explained = { article: null, sentences: [] };
let strongestFirst = true;
let latest = 0;

/** Hide the explanation; it belongs to the article before. */
export function hideWhy() {
  latest += 1;
  $("why").hidden = true;
}

/** Explain one label of an article, and go there. */
export async function showWhy(label, article, model) {
  const request = ++latest;
  $("why").hidden = false;
  $("why-title").textContent = `Why ${label}?`;
  if (explained.article !== article) {
    $("why-body").replaceChildren(
      h("p", { class: "quiet" }, "Reading the article without each of its sentences …"),
    );
    try {
      const answer = await post("v1/tag", { articles: article, explain: true });
      const [{ explanation }] = answer.results;
      explained = { article, sentences: explanation ?? [] };
    } catch (error) {
      if (request !== latest) return;
      const place = h("p", { class: "error", role: "alert" });
      $("why-body").replaceChildren(place);
      showError(place, error);
      return;
    }
  }
  if (request !== latest) return;
  show(label, model);
  $("why-title").focus();
  $("why").scrollIntoView({ block: "nearest" });
}

function show(label, model) {
  $("why-title").textContent = `Why ${label}?`;
  if (!explained.sentences.length) {
    $("why-body").replaceChildren(
      h(
        "p",
        { class: "quiet" },
        "The article is a single sentence: there is nothing to compare it with.",
      ),
    );
    return;
  }
  const moved = explained.sentences.map(({ sentence, contributions }) => [
    sentence,
    contributions[label],
  ]);
  const scale = Math.max(LEAST_SCALE, ...moved.map(([, difference]) => Math.abs(difference)));
  if (strongestFirst) moved.sort((one, other) => Math.abs(other[1]) - Math.abs(one[1]));
  $("why-body").replaceChildren(
    h(
      "p",
      { class: "quiet" },
      `The number says by how many percentage points a sentence moves the probability of ${label}: `,
      h("span", { class: "key raises" }, "+ raises it"),
      " ",
      h("span", { class: "key lowers" }, "− lowers it"),
      ". Sentences that say the same share their part, so numbers need not add up.",
    ),
    h("div", { class: "toolbar" }, labelChoice(label, model), orderChoice(label, model)),
    h(
      "ol",
      { class: "sentences" },
      moved.map(([sentence, difference]) => line(sentence, difference, scale)),
    ),
  );
}

function line(sentence, difference, scale) {
  const number = points(difference);
  const side = number === "0.0" ? "" : difference > 0 ? "raises" : "lowers";
  const item = h(
    "li",
    { class: side },
    h("span", { class: "points" }, number, h("span", { class: "hidden" }, " points: ")),
    h("span", { class: "text" }, sentence),
  );
  return style(item, { "--weight": `${Math.round((100 * Math.abs(difference)) / scale)}%` });
}

function labelChoice(label, model) {
  const select = h(
    "select",
    {},
    model.labels.map((name) => h("option", { selected: name === label }, name)),
  );
  select.addEventListener("change", () => redraw(select, () => show(select.value, model), 0));
  return h("label", {}, "Label ", select);
}

function orderChoice(label, model) {
  const choices = { strongest: "Strongest first", written: "As written" };
  const chosen = strongestFirst ? "strongest" : "written";
  const select = h(
    "select",
    {},
    Object.entries(choices).map(([value, text]) =>
      h("option", { value, selected: value === chosen }, text),
    ),
  );
  select.addEventListener("change", () => {
    strongestFirst = select.value === "strongest";
    redraw(select, () => show(label, model), 1);
  });
  return h("label", {}, "Order ", select);
}

/** Draw anew and leave the focus on the choice that was made. */
function redraw(select, draw, index) {
  draw();
  $("why-body").querySelectorAll("select")[index].focus();
}
