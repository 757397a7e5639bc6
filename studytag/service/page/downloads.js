// Downloads of a tagged file: all of it, or the parts that are kept and set aside.

import { download } from "./api.js";
import { announce, h, showError } from "./dom.js";

const FORMATS = {
  ris: "RIS",
  csv: "CSV",
  xlsx: "Excel",
  nbib: "PubMed (.nbib)",
  enw: "EndNote (.enw)",
  bibtex: "BibTeX",
  jsonl: "JSON Lines",
  parquet: "parquet",
};
let ids = 0;

/** The downloads of a job. */
export function downloads(job, model) {
  const suffix = job.name.split(".").pop().toLowerCase();
  const format = h(
    "select",
    {},
    Object.entries(FORMATS).map(([value, name]) =>
      h("option", { value, selected: value.startsWith(suffix) }, name),
    ),
  );
  const error = h("p", { class: "error", role: "alert", hidden: true });
  const save = async (button, query) => {
    showError(error, null);
    button.disabled = true;
    try {
      const parameters = new URLSearchParams([["format", format.value], ...query]);
      const name = await download(
        `v1/files/${job.id}/download?${parameters}`,
        `tagged.${format.value}`,
      );
      announce(`Saved ${name}.`);
    } catch (problem) {
      showError(error, problem);
    }
    button.disabled = false;
  };
  return h(
    "div",
    { class: "downloads" },
    h(
      "div",
      { class: "toolbar" },
      h("label", {}, "Format ", format),
      h(
        "button",
        {
          class: "primary",
          type: "button",
          onclick: ({ currentTarget }) => save(currentTarget, [["part", "all"]]),
        },
        "Download all, with tags",
      ),
    ),
    screening(model, save, error),
    error,
  );
}

function screening(model, save, error) {
  const boxes = model.labels.map((label) => h("input", { type: "checkbox", value: label }));
  const part =
    (name) =>
    async ({ currentTarget }) => {
      const keep = boxes.filter((box) => box.checked).map((box) => box.value);
      if (!keep.length) return showError(error, "Choose the labels to keep first.");
      await save(currentTarget, [["part", name], ...keep.map((label) => ["keep", label])]);
    };
  const id = `screening-note-${++ids}`;
  return h(
    "details",
    {},
    h("summary", {}, "Divide the file for screening"),
    h(
      "fieldset",
      { "aria-describedby": id },
      h("legend", {}, "Keep records with one of these labels"),
      h(
        "div",
        { class: "checks" },
        boxes.map((box) => h("label", {}, box, box.value)),
      ),
    ),
    h(
      "p",
      { class: "hint", id },
      "Every record is in one of the two parts. Whatever operating point is chosen above, the parts are divided at “sensitive”, which misses very few. Records without an abstract, or with too short a one to assess, are always kept.",
    ),
    h(
      "div",
      { class: "actions" },
      h("button", { type: "button", onclick: part("kept") }, "Download kept"),
      h("button", { type: "button", onclick: part("set-aside") }, "Download set aside"),
    ),
  );
}
