// A file: upload, progress, result.

import { events, get, request, sleep } from "./api.js";
import { $, announce, count, h, plural, showError, when } from "./dom.js";
import { downloads } from "./downloads.js";
import { addToHistory, removeFromHistory } from "./history.js";
import { onOperatingPoint, operatingPoint } from "./operating-point.js";
import { startTable } from "./table.js";

const ENDED = ["done", "failed"];
const TRIES = 30; // a second each: a server that is started again takes some
const AWAY = [0, 502, 504]; // no connection, also behind a proxy

let model;
let source = null; // the File of the job that is shown, where this page uploaded it
let current = null; // the job that is shown
let following = null; // aborts when another job is shown

/** Wire the place to drop files: all of the page. `goThere` shows the panel. */
export function startFiles(ofModel, goThere) {
  model = ofModel;
  $("upload").addEventListener("change", () => {
    const [file] = $("upload").files;
    if (file) uploadFile(file);
    $("upload").value = "";
  });
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    document.body.classList.remove("dragging");
    goThere();
    const [file, ...others] = event.dataTransfer.files;
    if (others.length) showError($("file-error"), "Drop one file at a time.");
    else if (file) uploadFile(file);
  });
  onOperatingPoint(() => current?.status === "done" && showOtherPoint());
}

/** Show a job of the history, if the server still has it. */
export async function openJob(entry) {
  showError($("file-error"), null);
  try {
    source = null;
    await follow(await get(`v1/files/${entry.id}`));
  } catch (error) {
    if (error.status === 404) {
      removeFromHistory(entry);
      error.message = `${entry.name} is no longer on the server; upload it again.`;
    }
    fail(error);
  }
}

async function uploadFile(file) {
  const signal = stop();
  showError($("file-error"), null);
  $("job").hidden = false;
  $("job-title").textContent = file.name;
  $("job-body").replaceChildren(
    h("progress", { "aria-label": "Upload" }),
    h("p", {}, "Uploading …"),
  );
  const form = new FormData();
  form.append("file", file);
  form.append("operating_point", operatingPoint());
  try {
    // Once: a file of many megabytes is not sent again and again to a server that has no room.
    const response = await request("v1/files", { method: "POST", body: form, signal }, 1);
    source = file;
    const job = await response.json();
    // Now, so that a page that is closed or loaded again finds the job that goes on without it.
    addToHistory({ kind: "file", id: job.id, name: job.name, records: null });
    await follow(job);
  } catch (error) {
    fail(error);
  }
}

function fail(error) {
  if (error.name === "AbortError") return;
  current = null;
  $("job").hidden = true;
  showError($("file-error"), error);
}

/** Give up what goes on; the signal of what begins. */
function stop() {
  current = null;
  following?.abort();
  following = new AbortController();
  return following.signal;
}

/** Show a job until it has ended; a lost connection is taken up again. */
async function follow(job) {
  const signal = stop();
  $("job").hidden = false;
  $("job-title").textContent = job.name;
  const progress = startProgress(job);
  progress.show(job);
  for (let tries = 0; !ENDED.includes(job.status);) {
    try {
      for await (job of events(`v1/files/${job.id}/events`, signal)) {
        tries = 0;
        progress.show(job);
        if (ENDED.includes(job.status)) break;
      }
      if (!ENDED.includes(job.status)) job = await get(`v1/files/${job.id}`, { signal });
    } catch (error) {
      if (signal.aborted) return;
      if (!AWAY.includes(error.status ?? 0) || ++tries >= TRIES) throw error;
    }
    if (!ENDED.includes(job.status)) await sleep(1000);
    if (signal.aborted) return;
  }
  if (job.status === "failed") {
    removeFromHistory({ kind: "file", id: job.id });
    throw new Error(reason(job));
  }
  showResult(job);
}

/** Why a job failed; the server's sentence may begin with the file's name itself. */
function reason({ name, error }) {
  return error.startsWith(name) ? error : `${name}: ${error}`;
}

function startProgress(first) {
  const bar = h("progress", { max: 1, "aria-label": `Progress of ${first.name}` });
  const text = h("p", {});
  const cancel = h("button", { type: "button", onclick: () => remove(first) }, "Cancel");
  $("job-body").replaceChildren(bar, text, cancel);
  const started = performance.now();
  const before = first.done ?? 0;
  const show = (job) => {
    const { done = 0, total } = job;
    if (total) bar.value = done / total;
    else bar.removeAttribute("value");
    const speed = (1000 * (done - before)) / (performance.now() - started);
    const left = total && speed > 0 ? ` · about ${duration((total - done) / speed)} left` : "";
    text.textContent =
      job.status === "queued"
        ? "Waiting for its turn …"
        : `${count(done)}${total ? ` of ${count(total)}` : ""} records tagged${left}`;
  };
  return { show };
}

function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} seconds`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} minutes` : `${Math.round(minutes / 60)} hours`;
}

function showResult(job) {
  current = job;
  addToHistory({ kind: "file", id: job.id, name: job.name, records: job.done });
  const failed = job.errors ? `, ${plural(job.errors, "record")} could not be tagged` : "";
  announce(`${job.name}: ${plural(job.done, "record")} tagged${failed}.`);
  const table = h("div");
  $("job-body").replaceChildren(
    h(
      "p",
      {},
      `${plural(job.done, "record")} at the operating point “${job.operating_point.replaceAll("_", " ")}”${failed}. `,
      h("span", { class: "quiet" }, `On the server until ${when(job.expires)}. `),
      h("button", { class: "small", type: "button", onclick: () => remove(job) }, "Delete it now"),
    ),
    h("p", { id: "other-point", hidden: true }),
    downloads(job, model),
    table,
  );
  startTable(table, job, model);
  showOtherPoint();
  $("job-title").focus();
}

/** Another operating point than the job's is chosen: offer to tag the file again. */
function showOtherPoint() {
  const place = $("other-point");
  const point = operatingPoint();
  place.hidden = point === current.operating_point;
  place.replaceChildren(
    source
      ? h(
          "button",
          { type: "button", onclick: () => uploadFile(source) },
          `Tag the file again at “${point.replaceAll("_", " ")}”`,
        )
      : `To tag it at “${point.replaceAll("_", " ")}”, choose the file again.`,
  );
}

async function remove(job) {
  try {
    await request(`v1/files/${job.id}`, { method: "DELETE" });
  } catch (error) {
    if (error.status !== 404) return showError($("file-error"), error);
  }
  stop();
  removeFromHistory({ kind: "file", id: job.id });
  source = null;
  $("job").hidden = true;
  announce(`${job.name} was deleted from the server.`);
  $("upload").focus();
}
