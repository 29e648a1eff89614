// The integration services of a machine that runs, key-value pairs, and the guest's memory.
import { bytes, element, get, machinePath, may, request } from "./api.js";
import { heartbeat } from "./list.js";
import { button, replace, table } from "./tables.js";

const states = { closed: "not used by the guest", negotiating: "negotiating", ready: "connected", "no-version": "the guest knows no offered version" };
/** The pools of items, and whether the host may change them. */
const pools = { external: ["Sent to the guest", true], guest: ["Of the guest", false], host: ["Of the host", true] };
const json = { "Content-Type": "application/json" };

export class Services {
  constructor(name) {
    this.name = name;
    this.problem = element("p", { className: "problem", role: "alert" });
    this.services = element("div");
    this.about = element("div");
    this.items = element("div");
    this.memory = element("div");
    this.pool = element("select", { id: "kvp-pool" }, ...Object.entries(pools).map(([pool, [title]]) => element("option", { value: pool, textContent: title })));
    this.pool.addEventListener("change", () => this.read());
    const read = button("Read", "Read the items", () => this.read());
    this.root = element("div", {}, this.problem, element("h3", { textContent: "Integration services" }), this.services,
      element("h3", { textContent: "What the guest reports about itself" }), this.about,
      element("h3", { textContent: "Key-value pairs" }), element("div", { className: "toolbar pool" }, element("label", { htmlFor: "kvp-pool", textContent: "Items" }), this.pool, read), this.items, this.itemForm(),
      element("h3", { textContent: "Memory" }), this.memory, this.memoryForm());
  }

  /** Does something. Returns false, and shows why, if it fails. */
  async attempt(act) {
    this.problem.textContent = "";
    try {
      await act();
      document.dispatchEvent(new Event("hardware"));
      return true;
    } catch (error) {
      this.problem.textContent = error.message;
      return false;
    }
  }

  control(method, path, body) {
    return request(method, machinePath(this.name, "/control" + path), body === undefined ? {} : { body: JSON.stringify(body), headers: json });
  }

  itemPath(key) {
    return `/kvp/${this.pool.value}/${encodeURIComponent(key)}`;
  }

  /** Makes a form of fields in a line. */
  form(id, fields, word, submit) {
    const inputs = fields.map(([label, placeholder]) => element("input", { "aria-label": label, placeholder, required: true, spellcheck: false, autocomplete: "off" }));
    const form = element("form", { id, className: "toolbar attach", hidden: !may("operate") }, ...inputs, element("button", { textContent: word }));
    form.addEventListener("submit", async event => {
      event.preventDefault();
      if (await this.attempt(() => submit(...inputs.map(input => input.value.trim())))) for (const input of inputs) input.value = "";
    });
    return form;
  }

  itemForm() {
    return this.keys = this.form("kvp-set", [["Key", "key"], ["Value", "value"]], "Set", async (key, value) => {
      await this.control("PUT", this.itemPath(key), { value });
      await this.read();
    });
  }

  memoryForm() {
    return this.resize = this.form("memory-set", [["New size of the memory", "new size, such as 1G"]], "Set the size", size =>
      request("POST", "/jobs", { body: JSON.stringify({ kind: "memory", machine: this.name, arguments: { size } }), headers: json }));
  }

  /** Reads the items of the chosen pool, for which the guest is asked. */
  async read() {
    const [, isHosts] = pools[this.pool.value];
    this.keys.hidden = !isHosts || !may("operate");
    await this.attempt(async () => {
      this.items.shown = null;
      this.items.replaceChildren();
      const items = await get(machinePath(this.name, "/control/kvp/" + this.pool.value));
      const remove = key => isHosts && may("operate") && button("Delete", "Delete " + key, () => this.attempt(() => this.control("DELETE", this.itemPath(key))).then(done => done && this.read()));
      this.items.replaceChildren(table("Items", ["Key", "Value", ""], items.map(({ key, value }) => [key, String(value), remove(key) || ""]), "There is no item."));
    });
  }

  /** Asks for the services, and shows what there is. */
  async update(tree) {
    const all = await get(machinePath(this.name, "/control/services"));
    const services = all.map(({ name, title, enabled, status }) => {
      const contact = status?.["last-contact-seconds"];
      return { name, title, enabled, version: status?.version ?? "–", contact: contact == null ? "–" : contact < 10 ? "just now" : contact + " s ago",
        state: !enabled ? "off" : status?.health ? heartbeat({ heartbeat: status.health }) : states[status?.state] ?? status?.state ?? "–" };
    });
    const toggle = ({ name, title, enabled }) => may("operate") && button(enabled ? "Turn off" : "Turn on", `Turn ${title} ${enabled ? "off" : "on"}`,
      () => this.attempt(() => this.control("PUT", "/services/" + name, { enabled: !enabled })));
    replace(this.services, services, () => table("Integration services", ["Service", "State", "Version", "Last reply", ""], services.map(service => [
      service.title, service.state, service.version, service.contact, toggle(service) || ""]), "There is no service."));
    const own = all.find(({ name }) => name === "kvp")?.status;
    const about = [...own?.addresses?.length ? [["Addresses", own.addresses.join(", ")]] : [], ...(own?.intrinsic ?? []).map(({ key, value }) => [key, String(value)])];
    replace(this.about, about, () => table("What the guest reports", ["Item", "Value"], about, "Nothing yet: a Linux guest needs hv_kvp_daemon (Debian: hyperv-daemons) for it."));
    this.showMemory(tree["memory-bytes"], tree.devices.memory);
  }

  showMemory(size, memory) {
    this.resize.hidden = !memory || !may("operate");
    const text = value => value == null ? "not reported" : bytes(value);
    const pairs = !memory ? { Size: bytes(size) + ", fixed. To change it while the machine runs, give it memory = \"startup=1G,min=512M,max=4G\" in its definition." } : {
      Assigned: text(memory["assigned-bytes"]), "To be reached": text(memory["target-bytes"]), Demand: text(memory["demand-bytes"]),
      Pressure: memory["demand-bytes"] == null ? "not reported" : Math.round(memory["demand-bytes"] / memory["assigned-bytes"] * 100) + " % of what is assigned",
      Available: text(memory["available-bytes"]), Limits: `${bytes(memory["minimum-bytes"])} to ${bytes(memory["maximum-bytes"])}, ${bytes(memory["startup-bytes"])} at the start`,
      "Given back by the guest": text(memory["ballooned-bytes"]), "Added while it runs": text(memory["hot-added-bytes"]),
      "Driver in the guest": memory.driver + (memory.version ? ", version " + memory.version : ""),
    };
    replace(this.memory, pairs, () => element("dl", { className: "pairs card" }, ...Object.entries(pairs).flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value })])));
  }
}
