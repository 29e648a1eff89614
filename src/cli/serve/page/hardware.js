// Disks and network adapters of a machine that runs: attach, detach, resize, cables.
import { bytes, element, machinePath, may, request } from "./api.js";
import { button, replace, table } from "./tables.js";

export class Hardware {
  constructor(name) {
    this.name = name;
    this.problem = element("p", { className: "problem", role: "alert" });
    this.disks = element("div");
    this.adapters = element("div");
    this.root = element("div", {}, this.problem, element("h3", { textContent: "Disks" }), this.disks, this.form("disks", "Attach a disk", "/srv/data.img,readonly=on"),
      element("h3", { textContent: "Network adapters" }), this.adapters, this.form("adapters", "Attach an adapter", "user"),
      element("p", { className: "dim", textContent: "Changes are for the machine that runs, until its end. Its definition has what it gets at its next start." }));
  }

  /** A field for what is attached, as run --disk and --net take it. It names files of the host. */
  form(kind, title, example) {
    const input = element("input", { id: "attach-" + kind, placeholder: example, required: true, spellcheck: false, autocomplete: "off" });
    const form = element("form", { className: "toolbar attach", hidden: !may("administer") }, element("label", { htmlFor: input.id, textContent: title }), input, element("button", { textContent: "Attach" }));
    form.addEventListener("submit", async event => {
      event.preventDefault();
      if (await this.act("POST", "/" + kind, { what: input.value.trim(), folder: "/" })) input.value = "";
    });
    return form;
  }

  async act(method, path, body) {
    this.problem.textContent = "";
    try {
      await request(method, machinePath(this.name, "/control" + path), { body: body === undefined ? undefined : JSON.stringify(body), headers: { "Content-Type": "application/json" } });
      document.dispatchEvent(new Event("hardware"));
      return true;
    } catch (error) {
      this.problem.textContent = error.message;
      return false;
    }
  }

  detach(kind, name) {
    return button("Detach", "Detach " + name, () => confirm(`Detach ${name}, even if the guest uses it?`) && this.act("DELETE", `/${kind}/${name}`));
  }

  resize(name) {
    const input = element("input", { placeholder: "20G", required: true, "aria-label": "New size of " + name, size: 6, autocomplete: "off" });
    const form = element("form", { className: "inline-form" }, input, element("button", { textContent: "Grow", "aria-label": "Grow " + name }));
    form.addEventListener("submit", async event => {
      event.preventDefault();
      if (await this.act("POST", `/disks/${name}/resize`, { size: input.value.trim() })) for (const field of this.disks.querySelectorAll("input")) if (field.ariaLabel === input.ariaLabel) field.value = "";
    });
    return form;
  }

  /** Shows what there is. */
  update(devices) {
    const of = kind => Object.entries(devices).filter(([, device]) => device.kind === kind);
    const tools = (...all) => element("div", { className: "actions" }, ...all.filter(Boolean));
    const disks = of("disk").map(([name, { medium, image }]) => ({ name, path: image?.path || "–", format: image?.format ?? "", size: medium?.["size-bytes"], isReadOnly: medium?.["read-only"] }));
    replace(this.disks, disks, () => table("Disks", ["Disk", "Image", "Size", ""], disks.map(({ name, path, format, size, isReadOnly }) => [
      name, path + (format ? " (" + format + ")" : ""), size == null ? "no medium" : bytes(size) + (isReadOnly ? ", read-only" : ""),
      tools(may("administer") && size != null && !isReadOnly && this.resize(name), may("operate") && this.detach("disks", name)),
    ]), "There is no disk."));
    const adapters = of("adapter").map(([name, { address, link, nvsp }]) => ({ name, address, link, isUsed: !!nvsp }));
    replace(this.adapters, adapters, () => table("Network adapters", ["Adapter", "Address", "Cable", ""], adapters.map(({ name, address, link, isUsed }) => [
      name, address ?? "–", (link === "up" ? "in" : "out") + (isUsed ? "" : "; the guest does not use it"),
      tools(may("operate") && button(link === "up" ? "Pull the cable out" : "Plug the cable in", `${link === "up" ? "Unplug" : "Plug"} ${name}`, () => this.act("POST", `/devices/${name}/link`, link === "up" ? "down" : "up")),
        may("operate") && this.detach("adapters", name)),
    ]), "There is no adapter."));
  }
}
