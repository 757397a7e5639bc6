// The browser's storage. Where it is full or forbidden, values last as long as the page is open.

const memory = new Map();

/** The text under `key` in `area` ("localStorage", "sessionStorage"), or null. */
export function recall(area, key) {
  if (memory.has(key)) return memory.get(key);
  try {
    return window[area].getItem(key);
  } catch {
    return null;
  }
}

/** Keep a text under `key`; null forgets it. */
export function remember(area, key, text) {
  memory.delete(key);
  try {
    if (text === null) window[area].removeItem(key);
    else window[area].setItem(key, text);
  } catch {
    memory.set(key, text);
  }
}
