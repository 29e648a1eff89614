// The machines: what is known of each, and what can be done with it.
import { bytes, duration, element, get, machinePath, may, request } from "./api.js";
import { sparkline } from "./charts.js";

/** Number of samples that are kept of each machine, one for each time that the list is loaded. */
const SAMPLES = 60;

export let machines = [];
let received = 0;
/** Samples of processor time and memory, by machine. */
const samples = new Map();
const rows = new Map();

const $ = id => document.getElementById(id);

// What can be done in each state.
const operations = {
  stopped: ["start", "edit", "remove"], broken: ["edit", "remove"], waiting: ["start", "kill", "edit"], starting: ["kill"],
  running: ["stop", "pause", "reset", "kill", "edit"], paused: ["resume", "kill", "edit"], stopping: ["kill"],
};
// A lab is paused and reset machine by machine. A machine of a lab has no definition of its own, and starts with the lab.
const ofLab = { ...operations, running: ["stop", "kill", "edit"] };
const ofMember = { starting: ["kill"], running: ["stop", "pause", "reset", "kill"], paused: ["resume", "kill"], stopping: ["kill"] };
const titles = { start: "Start", stop: "Shut down", kill: "Turn off", pause: "Pause", resume: "Resume", reset: "Reset", nmi: "NMI", edit: "Edit", remove: "Remove" };
/** What needs more than the role operate. */
const needs = { edit: "administer", remove: "administer" };
const questions = { stop: "Ask the guest of NAME to shut down?", kill: "Turn off NAME at once, without asking its guest?", reset: "Reset NAME without asking its guest?", remove: "Remove the definition of NAME?",
  nmi: "Send NAME a non-maskable interrupt? Its guest may write a dump and restart." };

/** Bodies of requests. A guest that does not shut down is not ended by force: that is an action of its own. */
const bodies = { stop: { force: false } };
/** Machines whose guests were asked to shut down by this page. */
const asked = new Set();

export function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

async function act(name, operation, buttons) {
  say("");
  buttons.querySelectorAll("button").forEach(button => button.disabled = true);
  try {
    if (operation === "remove") await request("DELETE", machinePath(name));
    else {
      if (operation === "stop") asked.add(name);
      const body = bodies[operation] && { body: JSON.stringify(bodies[operation]), headers: { "Content-Type": "application/json" } };
      await request("POST", machinePath(name, "/" + operation), body);
    }
  } catch (error) {
    if (operation === "stop") asked.delete(name);
    say(name + ": " + error.message);
  }
  buttons.dataset.state = "";
  await load().catch(() => {});
}

/** Says so if a guest has not done what this page has asked it for. */
export function noteJob({ machine, kind, state, problem }) {
  if (kind !== "stop" || state === "running" || !asked.delete(machine)) return;
  if (state === "failed") say(`${machine}: ${problem.message}; it continues to run. Shut it down in the guest itself, or turn it off, which does not ask the guest.`);
}

let edit = () => {};
/** Sets what edits a definition. */
export function whenEdited(act) {
  edit = act;
}

/** Fills an element with the buttons for a machine, if its state is another one. */
export function actions(machine, buttons, more = {}) {
  const isAllowed = operation => may(needs[operation] ?? "operate");
  const state = machine.state + (may("administer") ? "" : may("operate") ? " operate" : " read");
  if (buttons.dataset.state === state) return;
  const focused = buttons.contains(document.activeElement) ? document.activeElement.dataset.operation : null;
  const own = machine.machines ? ofLab : machine.lab ? ofMember : operations;
  const all = [...own[machine.state] ?? [], ...machine.machines ? [] : more[machine.state] ?? []].filter(isAllowed);
  buttons.replaceChildren(...all.map(operation => {
    const button = element("button", { textContent: titles[operation], "aria-label": titles[operation] + " " + machine.name, "data-operation": operation });
    if (operation === "start" || operation === "resume") button.className = "main";
    button.addEventListener("click", () => {
      if (operation === "edit") return edit(machine.name);
      const question = questions[operation];
      if (!question || confirm(question.replace("NAME", machine.name))) act(machine.name, operation, buttons);
    });
    return button;
  }));
  buttons.dataset.state = state;
  if (focused) (buttons.querySelector(`[data-operation="${focused}"]`) ?? buttons.querySelector("button"))?.focus();
}

/** Returns how long ago the list was loaded. */
export const sinceLoaded = () => (performance.now() - received) / 1000;

/** Puts the state of the heartbeat in words: NoContact is "no contact". */
export const heartbeat = machine => (machine.heartbeat ?? "none").replace(/(?<=[a-z])[A-Z]/g, letter => " " + letter).toLowerCase();

export function facts(machine) {
  const all = [];
  if (machine.machines) all.push("lab of " + machine.machines.length + (machine.machines.length === 1 ? " machine" : " machines"));
  if (machine.lab) all.push("in the lab " + machine.lab);
  if (machine["memory-bytes"]) all.push(bytes(machine["memory-bytes"]));
  if (machine.vps) all.push(machine.vps + (machine.vps === 1 ? " processor" : " processors"));
  if (machine.seconds != null) all.push("up " + duration(machine.seconds + sinceLoaded()));
  if (machine.heartbeat) all.push("heartbeat: " + heartbeat(machine));
  if (machine.addresses?.length) all.push(machine.addresses.join(", "));
  if (machine["policy-restarts"]) all.push(machine["policy-restarts"] + " restarts after an end");
  if (machine.problem) all.push([machine.problem.where, machine.problem.message].filter(Boolean).join(": "));
  if (machine.process == null && machine.end) all.push("last end: " + machine.end.message);
  if (machine.autostart !== "never") all.push("starts with the service");
  return all.join(" · ") || "not started yet";
}

/** Returns what was seen of a machine: shares of a processor, and bytes of memory. */
export const history = name => samples.get(name) ?? { cpu: [], memory: [] };

function row(name) {
  const made = { state: element("span"), facts: element("div", { className: "facts" }), actions: element("div", { className: "actions" }), sparks: element("div", { className: "sparks" }) };
  const title = element("div", { className: "name" }, element("a", { href: "#/" + encodeURIComponent(name) + "/overview", textContent: name }), " ", made.state);
  made.root = element("article", { className: "machine", "data-machine": name }, title, made.facts, made.sparks, made.actions);
  return made;
}

function sparks(machine) {
  const { cpu, memory } = history(machine.name);
  // The process of a machine of a lab is that of the lab.
  if (machine.process == null || machine.lab) return [];
  const share = cpu.at(-1), used = machine["resident-bytes"] ?? 0;
  const top = Math.max(machine["memory-bytes"] ?? 1, ...memory.filter(value => value != null));
  const one = (title, text, values, top) => element("div", {}, element("span", { textContent: title + " " }), element("b", { textContent: text }), sparkline(values, SAMPLES, top, title + " " + text));
  return [
    one("CPU", share == null ? "–" : Math.round(share * 100) + " %", cpu, Math.max(1, machine.vps ?? 1)),
    one("Memory", bytes(used), memory, top),
  ];
}

export function draw() {
  const list = $("machines");
  const names = new Set(machines.map(machine => machine.name));
  for (const [name, old] of rows) if (!names.has(name)) { old.root.remove(); rows.delete(name); samples.delete(name); }
  machines.forEach((machine, index) => {
    let own = rows.get(machine.name);
    if (!own) rows.set(machine.name, own = row(machine.name));
    if (list.children[index] !== own.root) list.insertBefore(own.root, list.children[index] ?? null);
    own.root.classList.toggle("member", machine.lab != null);
    own.state.className = "state " + machine.state;
    own.state.textContent = machine.state;
    own.facts.textContent = facts(machine);
    own.sparks.replaceChildren(...sparks(machine));
    actions(machine, own.actions);
  });
  $("empty").hidden = machines.length > 0;
}

/** Shows how long the machines have run. */
export function tick() {
  for (const machine of machines) if (machine.process != null && rows.has(machine.name)) rows.get(machine.name).facts.textContent = facts(machine);
}

function sample(machine, old, now) {
  const own = samples.get(machine.name) ?? { cpu: [], memory: [], at: 0 };
  samples.set(machine.name, own);
  const since = (now - own.at) / 1000;
  // Processor time is counted in hundredths of a second.
  if (since < 1.5) return;
  const isSame = old?.process === machine.process && machine.process != null && own.seconds != null;
  own.cpu.push(isSame ? Math.max(0, machine["cpu-seconds"] - own.seconds) / since : null);
  own.memory.push(machine["resident-bytes"] ?? null);
  Object.assign(own, { at: now, seconds: machine["cpu-seconds"] });
  for (const values of [own.cpu, own.memory]) values.splice(0, values.length - SAMPLES);
}

/** Loads the list, and returns the number of the event after which it is to be continued. */
export async function load() {
  const list = await get("/machines");
  const now = performance.now(), before = new Map(machines.map(machine => [machine.name, machine]));
  for (const machine of list.machines) sample(machine, before.get(machine.name), now);
  machines = list.machines;
  received = now;
  draw();
  document.dispatchEvent(new Event("machines"));
  return list["last-event"];
}
