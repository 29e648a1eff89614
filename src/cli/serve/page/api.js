// Requests to the service.

// A token in the address is taken over and removed from it. A code is good once, for a token.
const given = location.hash.match(/^#(token|code)=(\w+)$/);
if (given) history.replaceState(null, "", location.pathname);
if (given?.[1] === "token") sessionStorage.setItem("token", given[2]);
if (given?.[1] === "code") {
  const reply = await fetch("/session", { method: "POST", headers: { Authorization: "Bearer " + given[2] } }).catch(() => null);
  if (reply?.ok) sessionStorage.setItem("token", (await reply.json()).token);
}

let onUnauthorized = () => {};

/** Sets what is done if the service wants a token, or another one. */
export function whenUnauthorized(act) {
  onUnauthorized = act;
}

/** Makes a request. An error's message says what is wrong, where, and what to do about it. */
export async function request(method, path, options = {}) {
  const headers = { ...options.headers };
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = "Bearer " + token;
  const reply = await fetch(path, { ...options, method, headers, cache: "no-store" });
  if (reply.ok) return reply;
  const error = (await reply.json().catch(() => ({}))).error ?? { message: "the service answers with " + reply.status };
  if (reply.status === 401) onUnauthorized(token ? error.message : "");
  const words = [error.where, error.message].filter(Boolean).join(": ") + (error.remedy ? "; " + error.remedy : "");
  throw Object.assign(new Error(words), { status: reply.status });
}

export const get = async path => (await request("GET", path)).json();

const roles = ["read", "operate", "administer"];
let role = "read";

/** Asks the service what its user may do. */
export async function learnRole() {
  role = (await get("/service")).role;
}

/** Returns true if the user of the page may do what needs this role. */
export const may = needed => roles.indexOf(role) >= roles.indexOf(needed);

/** Returns the path of a machine, or of a part of it. */
export const machinePath = (name, part = "") => "/machines/" + encodeURIComponent(name) + part;

/** Opens a WebSocket that carries bytes. A browser cannot send the token with it, so it gets a ticket. */
export async function openSocket(path, protocols) {
  const offered = [...protocols];
  if (sessionStorage.getItem("token")) {
    const { ticket } = await (await request("POST", "/tickets")).json();
    offered.push("ticket." + ticket);
  }
  const url = new URL(path, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(url, offered);
  socket.binaryType = "arraybuffer";
  return socket;
}

/** Follows the events after one, until the connection ends. */
export async function follow(last, onOpen, onEvent) {
  const reply = await request("GET", "/events", { headers: { "Last-Event-ID": String(last) } });
  onOpen();
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "";;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) onEvent(JSON.parse(line.slice(6)));
  }
}

/** Makes an element. Keys with a dash are attributes, and the others properties. */
export function element(kind, properties = {}, ...children) {
  const made = document.createElement(kind);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter(child => child != null));
  return made;
}

export function duration(seconds) {
  const s = Math.floor(seconds), two = n => String(n).padStart(2, "0");
  return (s >= 86400 ? Math.floor(s / 86400) + " d " : "") + two(Math.floor(s / 3600) % 24) + ":" + two(Math.floor(s / 60) % 60) + ":" + two(s % 60);
}

/** Writes a number of bytes. */
export function bytes(count) {
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (count < 1024 || unit === "TiB") return (count < 10 && unit !== "B" ? count.toFixed(1) : Math.round(count)) + " " + unit;
    count /= 1024;
  }
}

/** Writes a number that may be large. */
export function count(value) {
  for (const unit of ["", " k", " M", " G"]) {
    if (value < 1000 || unit === " G") return (value > 0 && value < 10 ? value.toFixed(1) : Math.round(value)) + unit;
    value /= 1000;
  }
}
