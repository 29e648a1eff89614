// One machine: its charts, console, screen, devices, services, VMBus and messages, in tabs.
import { element, get, machinePath } from "./api.js";
import { Hardware } from "./hardware.js";
import { actions, facts, machines } from "./list.js";
import { Overview } from "./overview.js";
import { Services } from "./services.js";
import { Tracing } from "./tracing.js";

const $ = id => document.getElementById(id);
const tabs = { overview: "Overview", console: "Console", screen: "Screen", hardware: "Disks and network", services: "Services and memory", devices: "Devices", vmbus: "VMBus", messages: "Messages" };
/** Interval of the samples. */
const INTERVAL = 2000;
/** What more can be done here than in the list. */
const more = { running: ["nmi"] };

/** The tabs of a lab. Its machines have the others. */
const ofLab = ["overview", "devices", "messages"];

let open = null;

const find = name => machines.find(machine => machine.name === name);

/** Makes a tree of values that can be folded. */
function tree(value, isOpen = false) {
  if (value === null || typeof value !== "object") return element("span", { className: "value", textContent: String(value ?? "–") });
  const entries = Object.entries(value);
  if (entries.every(([, inner]) => inner === null || typeof inner !== "object") && Array.isArray(value)) return element("span", { className: "value", textContent: value.join(", ") || "none" });
  const list = element("dl", { className: "tree" });
  for (const [name, inner] of entries) {
    const isTree = inner !== null && typeof inner === "object" && !(Array.isArray(inner) && inner.every(item => item === null || typeof item !== "object"));
    if (!isTree) list.append(element("div", {}, element("dt", { textContent: name }), element("dd", {}, tree(inner))));
    else list.append(element("details", { open: isOpen, "data-key": name }, element("summary", { textContent: name + (inner.kind ? " (" + inner.kind + ")" : "") }), tree(inner)));
  }
  return list;
}

/** Replaces a tree. What was unfolded stays so. */
function replace(place, made) {
  // Nobody wants to lose what is selected, to be copied.
  const selection = document.getSelection();
  if (!selection.isCollapsed && place.contains(selection.anchorNode)) return;
  const path = details => {
    const names = [];
    for (let at = details; at && at !== place; at = at.parentElement?.closest("details")) names.unshift(at.dataset.key);
    return names.join("/");
  };
  const unfolded = new Set([...place.querySelectorAll("details[open]")].map(path));
  const focused = place.contains(document.activeElement) ? path(document.activeElement.closest("details")) : null;
  place.replaceChildren(made);
  for (const details of place.querySelectorAll("details")) {
    if (unfolded.has(path(details))) details.open = true;
    if (focused === path(details)) details.querySelector("summary").focus();
  }
}

const percent = (fill, size) => size ? Math.round(fill / size * 100) + " % of " + Math.round(size / 1024) + " KiB" : "–";

function channels(bus) {
  const head = ["Channel", "Device", "Instance", "State", "VP", "Ring from the guest", "Ring to the guest"];
  const cells = channel => [
    channel.id + (channel.subchannel ? " (subchannel " + channel.subchannel + ")" : ""), channel.interface ?? "–", channel.instance ?? "–",
    channel.rescinded ? "rescinded" : channel.open ? "open" : "offered", channel.vp ?? "–",
    percent(channel.rings?.["from-guest"], channel.rings?.["from-guest-size"]), percent(channel.rings?.["to-guest"], channel.rings?.["to-guest-size"]),
  ];
  const row = channel => element("tr", {}, ...cells(channel).map((text, index) => element("td", { textContent: text, "data-head": head[index] })));
  const table = element("table", { "aria-label": "Channels" }, element("thead", {}, element("tr", {}, ...head.map(text => element("th", { textContent: text, scope: "col" })))),
    element("tbody", {}, ...bus.channels.map(row)));
  return element("div", {}, element("p", { textContent: bus.version ? "The guest uses VMBus " + bus.version + "." : "The guest has not connected to VMBus." }), table);
}

class View {
  constructor(name) {
    this.name = name;
    this.overview = new Overview();
    this.panels = {};
    for (const tab of Object.keys(tabs)) this.panels[tab] = element("section", { id: "panel-" + tab, role: "tabpanel", "aria-labelledby": "tab-" + tab, hidden: true });
    this.members = element("ul", { "aria-label": "Machines of " + name, hidden: true });
    this.panels.overview.append(this.members, this.overview.root);
    this.channels = element("div");
    this.tracing = new Tracing(name);
    this.panels.vmbus.append(this.channels, this.tracing.root);
    this.state = element("span");
    this.facts = element("p", { className: "facts" });
    this.actions = element("div", { className: "actions" });
    this.problem = element("p", { className: "dim", role: "status" });
    this.tabs = element("div", { role: "tablist", className: "tabs", "aria-label": "Parts of " + name }, ...Object.entries(tabs).map(([tab, title]) => {
      const link = element("a", { id: "tab-" + tab, role: "tab", href: `#/${encodeURIComponent(name)}/${tab}`, "aria-controls": "panel-" + tab, textContent: title });
      link.addEventListener("keydown", event => this.turn(event, tab));
      return link;
    }));
    const back = element("a", { href: "#/", textContent: "All machines" });
    this.root = element("div", { "data-view": name }, element("nav", {}, back), element("div", { className: "head" }, element("h2", {}, name + " ", this.state), this.actions),
      this.facts, this.tabs, this.problem, ...Object.values(this.panels));
    this.timer = setInterval(() => this.sample(), INTERVAL);
    this.redraw = () => this.draw();
    document.addEventListener("machines", this.redraw);
    this.look = () => this.sample();
    document.addEventListener("hardware", this.look);
  }

  /** The arrow keys go from tab to tab. */
  turn(event, tab) {
    const all = Object.keys(tabs).filter(name => !this.tabs.querySelector("#tab-" + name).hidden), at = all.indexOf(tab);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (next == null) return;
    event.preventDefault();
    const name = all[(next + all.length) % all.length];
    location.hash = `#/${encodeURIComponent(this.name)}/${name}`;
    this.tabs.querySelector("#tab-" + name).focus();
  }

  async show(tab) {
    this.tab = tab;
    for (const [name, panel] of Object.entries(this.panels)) panel.hidden = name !== tab;
    for (const link of this.tabs.children) {
      const isOwn = link.id === "tab-" + tab;
      link.setAttribute("aria-selected", isOwn);
      link.tabIndex = isOwn ? 0 : -1;
      // Not all tabs fit on a phone.
      if (isOwn) link.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    const isStream = tab === "console" || tab === "screen";
    // These say themselves what they lack.
    if (isStream) this.problem.textContent = "";
    this.draw();
    if (isStream) await this.attach(tab);
    else this.sample();
  }

  /** Loads and shows the console or the screen, whose code is large. */
  async attach(tab) {
    const module = await import(tab === "console" ? "./console.js" : "./screen.js");
    if (open !== this) return;
    if (!this[tab]) {
      this[tab] = tab === "console" ? new module.Console(this.name) : new module.Screen(this.name);
      this.panels[tab].append(this[tab].root);
    }
    if (this.tab === tab) this[tab].show(() => this.tabs.querySelector("#tab-" + tab).focus());
  }

  draw() {
    const machine = find(this.name);
    if (!machine) {
      this.problem.textContent = "There is no machine " + this.name + ".";
      return;
    }
    this.state.className = "state " + machine.state;
    this.state.textContent = machine.state;
    this.facts.textContent = facts(machine);
    actions(machine, this.actions, more);
    const isLab = machine.machines != null;
    for (const tab of Object.keys(tabs)) this.tabs.querySelector("#tab-" + tab).hidden = isLab && !ofLab.includes(tab);
    this.members.hidden = !isLab;
    this.overview.root.hidden = isLab;
    const names = machine.machines?.join() ?? "";
    if (this.members.dataset.names !== names) {
      this.members.dataset.names = names;
      this.members.replaceChildren(...(machine.machines ?? []).map(name => element("li", {}, element("a", { href: "#/" + encodeURIComponent(name) + "/overview", textContent: name }))));
    }
    if (machine.process !== this.process) {
      this.overview.clear();
      this.process = machine.process;
      // What was connected to the machine's last process is to be connected again.
      if (machine.process != null && this[this.tab]?.connect && machine.state === "running") this[this.tab].connect();
      if (machine.state !== "running") this.process = null;
      this.sample();
    }
  }

  async sample() {
    if (document.hidden || this.isAsking || !["overview", "hardware", "services", "devices", "vmbus", "messages"].includes(this.tab)) return;
    this.isAsking = true;
    try {
      const machine = await get(machinePath(this.name));
      if (this.tab === "messages") {
        const text = machine.messages || "It has said nothing.";
        const shown = this.panels.messages.querySelector("pre") ?? this.panels.messages.appendChild(element("pre", { tabIndex: 0 }));
        if (shown.textContent !== text) shown.textContent = text;
        this.problem.textContent = "";
        return;
      }
      if (machine.process == null) {
        this.problem.textContent = machine.machines ? "It does not run. The messages of its process are in the tab Messages." : "It does not run. Its last output is in the tab Console, and the messages of its process are in the tab Messages.";
        return;
      }
      const all = await get(machinePath(this.name, "/inspect"));
      this.problem.textContent = "";
      if (machine.machines) {
        if (this.tab === "devices") replace(this.panels.devices, tree(all.machines));
        return;
      }
      this.overview.add(all, machine);
      if (this.tab === "devices") replace(this.panels.devices, tree(all.devices));
      if (this.tab === "vmbus") this.channels.replaceChildren(channels(all.devices.vmbus));
      if (this.tab === "hardware") this.part("hardware", Hardware).update(all.devices);
      if (this.tab === "services") await this.part("services", Services).update(all);
    } catch (error) {
      this.problem.textContent = error.message;
    } finally {
      this.isAsking = false;
    }
  }

  /** Returns the content of a tab. Its forms depend on the role, which is known when there is something to show. */
  part(tab, Kind) {
    if (!this[tab]) {
      this[tab] = new Kind(this.name);
      this.panels[tab].append(this[tab].root);
    }
    return this[tab];
  }

  dispose() {
    clearInterval(this.timer);
    this.tracing.dispose();
    document.removeEventListener("hardware", this.look);
    document.removeEventListener("machines", this.redraw);
    this.console?.dispose();
    this.screen?.dispose();
    this.root.remove();
  }
}

/** Shows what the address names: a machine, or the list. */
export function route() {
  const [, name, tab] = location.hash.match(/^#\/([^/]+)(?:\/(\w+))?$/) ?? [];
  const wanted = name && decodeURIComponent(name);
  if (open && open.name !== wanted) {
    open.dispose();
    open = null;
  }
  $("all").hidden = $("log").hidden = !!wanted;
  document.title = (wanted ? wanted + " – " : "") + "Viridian";
  if (!wanted) return;
  if (!open) {
    open = new View(wanted);
    $("one").replaceChildren(open.root);
  }
  open.show(tab in tabs ? tab : "overview");
}
