// The model: what it is, and its card.

import { $, count, fill, h } from "./dom.js";

/** Show what is known of the model. */
export function showModel(model) {
  const facts = {
    Name: model.name,
    Variant: model.variant,
    Labels: model.labels.join(", "),
    "Longest text": `${count(model.max_length)} tokens`,
    "Bundle (SHA-256)": h("code", {}, model.bundle_sha256),
    "Version of studytag": model.version,
  };
  fill(
    $("model-body"),
    h("h2", {}, "Model"),
    h(
      "dl",
      {},
      Object.entries(facts).map(([name, value]) =>
        h("div", {}, h("dt", {}, name), h("dd", {}, value)),
      ),
    ),
    model.card ? h("h3", {}, "Card") : null,
    model.card
      ? h("pre", { class: "model-card", tabindex: 0, "aria-label": "Model card" }, model.card)
      : null,
  );
  $("version").textContent = `studytag ${model.version}, ${model.name} (${model.variant}).`;
}
