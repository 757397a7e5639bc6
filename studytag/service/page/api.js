// Calls of the server's API, whose addresses are relative: the page also works below a path.

import { $, announce, showError } from "./dom.js";
import { recall, remember } from "./storage.js";

const TOKEN = "studytag-token";
const TRIES_WHEN_BUSY = 4;

/** What the server refused, in its own sentence. */
export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** A GET for JSON. */
export const get = async (path, options) => (await request(path, options)).json();

/** A POST of JSON for JSON. */
export async function post(path, body, options = {}) {
  const headers = { "content-type": "application/json" };
  const response = await request(path, {
    ...options,
    method: "POST",
    headers,
    body: JSON.stringify(body),
  });
  return response.json();
}

/** Fetch, with the token if one was given; asks for it when the server does.
 * A busy server is asked again when it says so. */
export async function request(path, options = {}, tries = TRIES_WHEN_BUSY) {
  const headers = new Headers(options.headers);
  const token = recall("sessionStorage", TOKEN);
  if (token) headers.set("authorization", `Bearer ${token}`);
  const response = await fetch(path, { ...options, headers }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is it still running?");
  });
  if (response.status === 401) {
    await askForToken(token);
    return request(path, options, tries);
  }
  const wait = Number(response.headers.get("retry-after")) || 1;
  if (tries > 1 && (await isBusy(response.clone()))) {
    announce(`The server is busy; trying again in ${wait} s.`);
    await sleep(1000 * wait);
    return request(path, options, tries - 1);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** Whether another try may succeed; what took too long would take as long again. */
async function isBusy(response) {
  if (response.status === 429) return true;
  if (response.status !== 503) return false;
  const body = await response.json().catch(() => ({}));
  return body.error_type !== "timeout";
}

/** Wait for some milliseconds. */
export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  const message =
    typeof body.error === "string" ? body.error : `The server answered ${response.status}.`;
  return new ApiError(message, response.status);
}

let asking = null;

/** Open the dialog; all calls that wait for a token share it. A token that came meanwhile is enough. */
function askForToken(refused) {
  if (recall("sessionStorage", TOKEN) !== refused) return Promise.resolve();
  asking ??= new Promise((resolve, reject) => {
    const dialog = $("token-dialog");
    let given = false;
    $("token").value = "";
    showError($("token-error"), refused ? "The server refused that token." : null);
    $("token-form").onsubmit = (event) => {
      event.preventDefault();
      const token = $("token").value.trim();
      if (!/^[ -~]+$/.test(token)) {
        showError($("token-error"), "This is no token: it holds letters that no header can.");
        return;
      }
      remember("sessionStorage", TOKEN, token);
      given = true;
      dialog.close();
    };
    $("token-cancel").onclick = () => dialog.close();
    dialog.onclose = () => {
      asking = null;
      if (given) resolve();
      else reject(new ApiError("This server asks for a token; reload the page to enter it.", 401));
    };
    dialog.showModal();
  });
  return asking;
}

/** Server-sent events as they come, read with fetch because EventSource can send no token. */
export async function* events(path, signal) {
  const response = await request(path, { signal, headers: { accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (buffer + value).split(/\r?\n\r?\n/);
    buffer = blocks.pop();
    for (const block of blocks) {
      const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      if (data.length) yield JSON.parse(data.map((line) => line.slice(5)).join("\n"));
    }
  }
}

/** Ask for a file and hand it to the browser's downloads, under the name that the server gives. */
export async function download(path, fallback) {
  const response = await request(path);
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = fileName(response.headers.get("content-disposition")) ?? fallback;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  return link.download;
}

function fileName(disposition) {
  const encoded = /filename\*=(?:UTF-8|utf-8)''([^;]+)/.exec(disposition ?? "");
  if (encoded) return decodeURIComponent(encoded[1]);
  return /filename="?([^";]+)"?/.exec(disposition ?? "")?.[1];
}
