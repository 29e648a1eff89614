// The editor of definitions: a form that is made from the service's list of settings, and the text.
import { element, get, machinePath, request } from "./api.js";
import { load, machines, say } from "./list.js";

const $ = id => document.getElementById(id);
const example = "# kernel = \"/path/to/vmlinuz\"; without one, a small embedded guest boots\nmemory = \"256M\"\n\n[service]\nautostart = false\nrestart = \"never\" # on-failure, always\n";
/** Settings that most machines have. The others are behind a summary. */
const common = ["kernel", "initrd", "cmdline", "memory", "cpus", "disk", "net", "display", "services", "console"];

let settings;
let isForm = true;
/** The text that the form shows, as long as nothing in the form was changed: comments stay. */
let source = null;

const parts = help => {
  const [, text, preset] = help.match(/^([^]*?)(?: \[default: ([^\]]*)\])?$/);
  return { text, preset };
};

/** Makes the input of a setting. */
function field(setting) {
  const id = "setting-" + setting.table + setting.name.replaceAll(".", "-"), { text, preset } = parts(setting.help);
  let input;
  if (setting.kind === "boolean") {
    input = element("input", { type: "checkbox" });
  } else if (setting.choices) {
    const choice = ({ name, help }) => element("option", { value: name, textContent: name + (help ? ": " + help : "") });
    input = element("select", {}, element("option", { value: "", textContent: "default" + (preset ? ": " + preset : "") }), ...setting.choices.map(choice));
  } else if (setting.repeats) {
    input = element("textarea", { rows: 2, spellcheck: false, placeholder: "one a line" });
  } else {
    input = element("input", { type: setting.kind === "number" ? "number" : "text", step: "any", spellcheck: false, autocomplete: "off", placeholder: preset ?? setting["value-name"] ?? "" });
  }
  Object.assign(input, { id, setting });
  input.setAttribute("aria-describedby", id + "-help");
  const help = element("p", { id: id + "-help", className: "help", textContent: text });
  const label = element("label", { htmlFor: id, textContent: setting.name });
  return element("div", { className: setting.kind === "boolean" ? "field inline" : "field" }, label, input, help);
}

async function makeForm() {
  settings ??= (await get("/settings")).settings;
  const own = settings.filter(setting => setting.table === "");
  const first = common.map(name => own.find(setting => setting.name === name)).filter(Boolean);
  const rest = own.filter(setting => !common.includes(setting.name) && setting.name !== "name");
  const service = settings.filter(setting => setting.table !== "");
  $("form").replaceChildren(...first.map(field), element("h3", { textContent: "Service" }), ...service.map(field),
    element("details", {}, element("summary", { textContent: "All other settings" }), ...rest.map(field)));
}

/** Writes what is in the form as TOML. The strings of JSON are strings of TOML, too. */
function toml() {
  const tables = new Map();
  for (const input of $("form").querySelectorAll("input, select, textarea")) {
    const { setting } = input;
    let value;
    if (setting.kind === "boolean") value = input.checked ? "true" : null;
    else if (!input.value.trim()) value = null;
    else if (setting.repeats) value = JSON.stringify(input.value.split("\n").map(line => line.trim()).filter(Boolean));
    else value = setting.kind === "number" ? input.value.trim() : JSON.stringify(input.value.trim());
    if (value == null) continue;
    tables.set(setting.table, (tables.get(setting.table) ?? "") + setting.name + " = " + value + "\n");
  }
  const texts = [...tables].sort(([one], [other]) => one.localeCompare(other));
  return texts.map(([table, text]) => (table ? "[" + table + "]\n" : "") + text).join("\n") || "# all settings have their defaults\n";
}

/** Puts the values of a definition into the form. Returns what the form has no field for. */
function fill(values) {
  const inputs = new Map([...$("form").querySelectorAll("input, select, textarea")].map(input => [input.setting.table + "." + input.setting.name, input]));
  const isTable = value => value !== null && typeof value === "object" && !Array.isArray(value);
  // The keys of tables in the table for the service have the names of both: cpu.weight.
  const flat = (table, prefix) => Object.entries(table).flatMap(([name, value]) => isTable(value) ? flat(value, prefix + name + ".") : [["service", prefix + name, value]]);
  const all = Object.entries(values).flatMap(([name, value]) => name === "service" && isTable(value) ? flat(value, "") : [["", name, value]]);
  const unknown = [];
  for (const input of inputs.values()) input.type === "checkbox" ? input.checked = false : input.value = "";
  for (const [table, name, value] of all) {
    const input = inputs.get(table + "." + name);
    const isList = Array.isArray(value) && value.every(item => typeof item === "string");
    if (input?.type === "checkbox" && typeof value === "boolean") input.checked = value;
    else if (input?.setting.repeats && isList) input.value = value.join("\n");
    else if (input && typeof value !== "object") {
      input.value = input.setting.name === "autostart" && typeof value === "boolean" ? (value ? "always" : "never") : String(value);
      if (!input.value) unknown.push(name);
    } else unknown.push(name);
  }
  return unknown;
}

/** Reads a text into the form. Returns false, and says why, if the form cannot show it. */
async function read(text) {
  $("editor-problem").textContent = "";
  try {
    const { values } = await (await request("POST", "/settings", { body: text || "#", headers: { "Content-Type": "application/toml" } })).json();
    await makeForm();
    const unknown = fill(values);
    if (unknown.length) throw new Error("the form has no field for " + unknown.join(", ") + "; edit the text");
    source = text;
    return true;
  } catch (error) {
    $("editor-problem").textContent = error.message;
    return false;
  }
}

/** Shows the form or the text. */
async function show(form) {
  if (isForm && !form) $("text").value = source ?? toml();
  if (!isForm && form && !(await read($("text").value))) return;
  isForm = form;
  $("form").hidden = !form;
  $("text-part").hidden = form;
  $("as-form").setAttribute("aria-pressed", form);
  $("as-text").setAttribute("aria-pressed", !form);
}

/** Edits a definition, or a new one. */
export async function edit(name) {
  say("");
  let text = example;
  try {
    if (name) text = await (await request("GET", machinePath(name, "/definition"))).text();
    await makeForm();
  } catch (error) {
    if (error.status !== 409) return say((name ? name + ": " : "") + error.message);
    text = "";
  }
  const runs = machines.find(machine => machine.name === name)?.process;
  $("editor-title").textContent = name ? "Edit " + name + (runs ? " (counts from its next start on)" : "") : "Define a machine";
  $("name").value = name ?? "";
  $("name").readOnly = !!name;
  $("text").value = text;
  source = null;
  // A new machine begins with an empty form, and one that is there with its own values, if the form has fields for all of them.
  isForm = !name;
  show(!name);
  if (name) await show(true);
  $("editor-problem").textContent = "";
  $("editor").showModal();
}

export function start() {
  $("new").addEventListener("click", () => edit());
  $("cancel").addEventListener("click", () => $("editor").close());
  $("form").addEventListener("input", () => source = null);
  $("as-form").addEventListener("click", () => show(true));
  $("as-text").addEventListener("click", () => show(false));
  $("editor").querySelector("form").addEventListener("submit", async event => {
    event.preventDefault();
    try {
      const name = $("name").value;
      if (!$("name").readOnly && machines.some(it => it.name === name)) throw new Error("there is a machine of this name; edit that one, or choose another name");
      const body = isForm ? source ?? toml() : $("text").value;
      await request("PUT", machinePath(name), { body, headers: { "Content-Type": "application/toml" } });
      $("editor").close();
      await load();
    } catch (error) {
      $("editor-problem").textContent = error.message;
    }
  });
}
