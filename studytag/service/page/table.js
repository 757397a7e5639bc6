// The records of a tagged file: counts per label, filters, sorting, pages.

import { get } from "./api.js";
import { announce, chips, count, h, percent, plural, showError, withRoles } from "./dom.js";

const PAGE = 50;
const PAUSE = 250; // milliseconds without typing before a search starts

/** Show the records of a job in `place`. */
export function startTable(place, job, model) {
  const view = {
    offset: 0,
    label: "",
    decision: "present",
    search: "",
    sort: "",
    descending: false,
  };
  const parts = {
    counts: h("div", { class: "counts", role: "group", "aria-label": "Records per label" }),
    controls: h("div", { class: "toolbar" }),
    summary: h("p", { class: "quiet" }),
    error: h("p", { class: "error", role: "alert", hidden: true }),
    rows: h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Records" }),
    pages: h("nav", { class: "toolbar", "aria-label": "Pages of the table" }),
  };
  place.replaceChildren(h("h3", {}, "Records"), ...Object.values(parts));
  let latest = 0;

  const update = async (change) => {
    Object.assign(view, { offset: 0 }, change);
    if (model.labels.includes(view.sort) && view.sort !== view.label) view.sort = "";
    const request = ++latest;
    showError(parts.error, null);
    try {
      const page = await get(`v1/files/${job.id}/rows?${query(view)}`);
      if (request === latest) draw(page);
    } catch (error) {
      if (request === latest) showError(parts.error, error);
    }
  };
  const draw = (page) => {
    const counts = model.labels.map((label) => countButton(label, job, view, update));
    keepFocus(parts.counts, () => parts.counts.replaceChildren(...counts));
    decision.update();
    const summary = page.total
      ? `${plural(page.total, "record")} ${described(view)}`.trim()
      : "No record matches.";
    parts.summary.textContent = summary;
    if (latest > 1) announce(summary); // the first one comes with the news that the file is tagged
    keepFocus(parts.rows, () => parts.rows.replaceChildren(table(page.rows, view, update)));
    keepFocus(parts.pages, () => parts.pages.replaceChildren(...pages(page.total, view, update)));
  };
  const decision = decisionChoice(view, update);
  parts.controls.append(searchBox(update), decision.element);
  update({});
}

function query(view) {
  const parameters = new URLSearchParams({ offset: view.offset, limit: PAGE });
  if (view.label && view.decision) {
    parameters.set("label", view.label);
    parameters.set("decision", view.decision);
  }
  if (view.search) parameters.set("search", view.search);
  if (view.sort) {
    parameters.set("sort", view.sort);
    parameters.set("descending", view.descending);
  }
  return parameters;
}

function described(view) {
  const parts = [];
  if (view.label && view.decision)
    parts.push(`${view.decision === "present" ? "with" : "without"} ${view.label}`);
  if (view.search) parts.push(`containing “${view.search}”`);
  return parts.join(" ");
}

/** Redraw, and give the focus back to the control in the same place. */
function keepFocus(place, redraw) {
  const name = place.contains(document.activeElement) ? document.activeElement.dataset.name : null;
  redraw();
  if (name) place.querySelector(`[data-name="${CSS.escape(name)}"]`)?.focus();
}

function countButton(label, job, view, update) {
  const pressed = view.label === label;
  return h(
    "button",
    {
      type: "button",
      class: "count",
      "data-name": label,
      "aria-pressed": String(pressed),
      onclick: () => update({ label: pressed ? "" : label, decision: "present" }),
    },
    label,
    " ",
    h("strong", {}, count(job.counts?.[label] ?? 0)),
  );
}

function searchBox(update) {
  const input = h("input", { type: "search", autocomplete: "off", maxlength: 500 });
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => update({ search: input.value.trim() }), PAUSE);
  });
  return h("label", {}, "Search ", input);
}

/** Records with the label, without it, or all of them with its probability. */
function decisionChoice(view, update) {
  const choices = { present: "with", absent: "without", "": "with or without" };
  const select = h("select", { onchange: () => update({ decision: select.value }) });
  const element = h("label", {}, "Show ", select);
  return {
    element,
    update: () => {
      element.hidden = !view.label;
      select.replaceChildren(
        ...Object.entries(choices).map(([value, words]) =>
          h("option", { value, selected: value === view.decision }, `${words} ${view.label}`),
        ),
      );
    },
  };
}

function table(rows, view, update) {
  const columns = [
    ["title", "Article"],
    ["year", "Year"],
    [null, "Labels"],
  ];
  if (view.label) columns.push([view.label, view.label]);
  return withRoles(
    h(
      "table",
      { class: "records" },
      h("caption", { class: "hidden" }, "Records of the file"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map(([key, title]) => heading(key, title, view, update)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) => line(row, view)),
      ),
    ),
  );
}

function heading(key, title, view, update) {
  if (!key) return h("th", { scope: "col" }, title);
  const sorted = view.sort === key;
  // Probabilities are sorted from the highest, all else from the lowest; then the other way; then not.
  const first = key === view.label;
  const next = !sorted
    ? { sort: key, descending: first }
    : view.descending === first
      ? { sort: key, descending: !first }
      : { sort: "" };
  const arrow = sorted ? (view.descending ? "▼" : "▲") : "↕";
  return h(
    "th",
    { scope: "col", "aria-sort": sorted ? (view.descending ? "descending" : "ascending") : null },
    h(
      "button",
      { type: "button", class: "sort", "data-name": key, onclick: () => update(next) },
      title,
      " ",
      h("span", { "aria-hidden": "true" }, arrow),
    ),
  );
}

function line(row, view) {
  const pubmed = /^\d+$/.test(row.pmid ?? "")
    ? `https://pubmed.ncbi.nlm.nih.gov/${row.pmid}/`
    : null;
  const title = row.title || `Record ${count(row.row)}, without a title`;
  return h(
    "tr",
    {},
    h(
      "td",
      { class: "title" },
      title,
      pubmed
        ? [
            " ",
            h(
              "a",
              {
                href: pubmed,
                rel: "noreferrer",
                target: "_blank",
                "aria-label": `PubMed ${row.pmid}, opens in a new tab`,
              },
              `PubMed ${row.pmid}`,
            ),
          ]
        : null,
    ),
    h("td", { class: "number" }, row.year ?? ""),
    h(
      "td",
      {},
      row.error
        ? h("span", { class: "row-error" }, row.error)
        : row.labels.length
          ? chips(row.labels)
          : h("span", { class: "quiet" }, "no label"),
    ),
    view.label
      ? h("td", { class: "number" }, row.error ? "" : percent(row.probabilities[view.label]))
      : null,
  );
}

function pages(total, view, update) {
  if (total <= PAGE) return [];
  const last = Math.min(total, view.offset + PAGE);
  const turn = (name, offset, possible) =>
    h(
      "button",
      {
        type: "button",
        "data-name": name,
        "aria-disabled": String(!possible),
        onclick: () => possible && update({ offset }),
      },
      name,
    );
  return [
    turn("Previous", Math.max(0, view.offset - PAGE), view.offset > 0),
    h("span", {}, `${count(view.offset + 1)}–${count(last)} of ${count(total)}`),
    turn("Next", view.offset + PAGE, last < total),
  ];
}
