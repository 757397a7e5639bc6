// The page: loads the model's description, then wires its parts.

import { get } from "./api.js";
import { openArticle, startArticle } from "./article.js";
import { $, showError } from "./dom.js";
import { startHistory } from "./history.js";
import { openJob, startFiles } from "./job.js";
import { showModel } from "./model.js";
import { showOperatingPoints } from "./operating-point.js";

const TABS = ["article", "file", "history", "model"];
const WITH_OPERATING_POINT = ["article", "file"];

/** Show one panel; the address keeps it, so that a link and the back button work. */
function showTab(name, { focus = false, keep = true } = {}) {
  for (const tab of TABS) {
    const selected = tab === name;
    $(`tab-${tab}`).setAttribute("aria-selected", String(selected));
    $(`tab-${tab}`).tabIndex = selected ? 0 : -1;
    $(tab).hidden = !selected;
  }
  $("operating-point").classList.toggle("away", !WITH_OPERATING_POINT.includes(name));
  if (focus) $(`tab-${name}`).focus();
  if (keep && location.hash.slice(1) !== name) history.pushState(null, "", `#${name}`);
}

function startTabs() {
  for (const [index, name] of TABS.entries()) {
    $(`tab-${name}`).addEventListener("click", () => showTab(name));
    $(`tab-${name}`).addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, Home: -index, End: TABS.length - 1 - index }[
        event.key
      ];
      if (step === undefined) return;
      event.preventDefault();
      showTab(TABS[(index + step + TABS.length) % TABS.length], { focus: true });
    });
  }
  const showHash = () => {
    const name = location.hash.slice(1) || TABS[0];
    if (TABS.includes(name)) showTab(name, { keep: false });
  };
  window.addEventListener("popstate", showHash);
  showHash();
}

async function start() {
  startTabs();
  const model = await get("v1/model");
  showOperatingPoints(model);
  showModel(model);
  startArticle(model);
  startFiles(model, () => showTab("file"));
  startHistory({
    article: (entry) => {
      showTab("article", { focus: true });
      openArticle(entry);
    },
    file: (entry) => {
      showTab("file", { focus: true });
      openJob(entry);
    },
  });
}

start().catch((error) => showError($("page-error"), error));
