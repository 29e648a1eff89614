// The decoded messages of a machine's VMBus as they come, with filters.
import { element, machinePath, request } from "./api.js";

const kinds = { vmbus: "VMBus messages", storage: "disks", network: "adapters", hypercall: "hypercalls", synic: "SynIC", msr: "MSRs" };
/** Number of lines that are kept. */
const KEPT = 500;

export class Tracing {
  constructor(name) {
    this.name = name;
    this.boxes = Object.entries(kinds).map(([kind, title]) => {
      const box = element("input", { type: "checkbox", id: "trace-" + kind, value: kind, checked: kind === "vmbus" });
      return { box, label: element("label", { htmlFor: box.id, textContent: title }) };
    });
    this.filter = element("input", { id: "trace-filter", placeholder: "such as channel 3; several with ; between them", spellcheck: false, autocomplete: "off" });
    this.toggle = element("button", { textContent: "Follow" });
    this.toggle.addEventListener("click", () => this.abort ? this.stop() : this.start());
    this.status = element("span", { className: "dim", role: "status" });
    this.lines = element("ol", { className: "trace", tabIndex: 0, "aria-label": "Messages" });
    const again = () => this.abort && (this.stop(), this.start());
    for (const { box } of this.boxes) box.addEventListener("change", again);
    this.filter.addEventListener("change", again);
    const checks = this.boxes.map(({ box, label }) => element("span", { className: "check" }, box, " ", label));
    this.root = element("section", { className: "tracing" }, element("h3", { textContent: "Messages as they come" }),
      element("div", { className: "toolbar" }, ...checks), element("div", { className: "toolbar" }, element("label", { htmlFor: "trace-filter", textContent: "Only lines with" }), this.filter, this.toggle, this.status), this.lines);
  }

  async start() {
    const wanted = this.boxes.filter(({ box }) => box.checked).map(({ box }) => box.value);
    if (!wanted.length) return this.status.textContent = "choose at least one kind";
    const own = this.abort = new AbortController();
    this.toggle.textContent = "Stop";
    this.status.textContent = "following";
    const text = this.filter.value.trim();
    try {
      const path = machinePath(this.name, "/control/trace/" + wanted.join(",") + (text ? "/" + encodeURIComponent(text) : ""));
      const reply = await request("GET", path, { signal: own.signal });
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = "";;) {
        const { value, done } = await reader.read();
        if (done) break;
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        this.add(lines.filter(line => line.startsWith("data: ")).map(line => JSON.parse(line.slice(6))));
      }
      if (this.abort === own) this.stop("the machine has ended");
    } catch (error) {
      if (this.abort === own) this.stop(error.message);
    }
  }

  add(events) {
    const isAtEnd = this.lines.scrollTop + this.lines.clientHeight >= this.lines.scrollHeight - 8;
    const line = event => event.event === "dropped"
      ? element("li", { className: "problem", textContent: event.count + " lines were dropped, because they were not read in time" })
      : element("li", {}, element("time", { textContent: event.time.toFixed(6) }), element("span", { textContent: event.line }));
    // Of many, only the last can be seen.
    this.lines.append(...events.slice(-KEPT).map(line));
    while (this.lines.children.length > KEPT) this.lines.firstChild.remove();
    if (isAtEnd) this.lines.scrollTop = this.lines.scrollHeight;
  }

  stop(words = "stopped") {
    const own = this.abort;
    this.abort = null;
    own?.abort();
    this.toggle.textContent = "Follow";
    this.status.textContent = words;
  }

  dispose() {
    this.stop();
  }
}
