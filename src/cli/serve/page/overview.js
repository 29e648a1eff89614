// The charts of a machine, from what its own counters were two seconds ago and are now.
import { bytes, count, element } from "./api.js";
import { Chart, Histogram } from "./charts.js";
import { heartbeat } from "./list.js";

const SLOTS = 120;

/** The reasons of exits that have a line of their own. */
const REASONS = 5;

/** Returns the difference of two numbers by second, or nothing if there was none before. */
function rate(now, before, seconds) {
  return before == null || now == null || now < before ? null : (now - before) / seconds;
}

const total = direction => ["directed", "multicast", "broadcast"].reduce((sum, kind) => sum + (direction[kind]?.bytes ?? 0), 0);
const frames = direction => ["directed", "multicast", "broadcast"].reduce((sum, kind) => sum + (direction[kind]?.frames ?? 0), 0);

/** Takes what there is to be counted out of the tree of a machine. */
function counters(tree, machine) {
  const all = { cpu: machine["cpu-seconds"], memory: machine["resident-bytes"], exits: tree.exits, disks: {}, adapters: {} };
  for (const [name, device] of Object.entries(tree.devices)) {
    if (device.image?.counters) all.disks[name] = device.image.counters;
    if (device.frames) all.adapters[name] = device.frames;
  }
  return all;
}

function range(bucket, buckets) {
  const time = microseconds => microseconds < 1000 ? microseconds + " µs" : microseconds < 1e6 ? Math.round(microseconds / 1000) + " ms" : Math.round(microseconds / 1e6) + " s";
  return bucket === buckets - 1 ? "from " + time(2 ** (bucket - 1)) : "under " + time(2 ** bucket);
}

export class Overview {
  constructor() {
    this.series = new Map();
    this.charts = {
      cpu: new Chart("Processor", share => Math.round(share * 100) + " %", { slots: SLOTS, top: 1 }),
      memory: new Chart("Memory of the process", bytes, { slots: SLOTS }),
      guest: new Chart("Memory of the guest", bytes, { slots: SLOTS }),
      exits: new Chart("Exits a second, by reason", count, { slots: SLOTS, top: 10 }),
      disks: new Chart("Disks, bytes a second", bytes, { slots: SLOTS, top: 1024 }),
      requests: new Chart("Disks, requests a second", count, { slots: SLOTS, top: 10 }),
      network: new Chart("Network, bytes a second", bytes, { slots: SLOTS, top: 1024 }),
    };
    this.latency = new Histogram("Disks, time of requests");
    this.facts = element("dl", { className: "pairs card" });
    this.root = element("div", { className: "charts" }, this.facts, ...Object.values(this.charts).map(chart => chart.root), this.latency.root);
  }

  /** Forgets what was seen: it was of another process. */
  clear() {
    this.series.clear();
    this.before = null;
  }

  push(chart, name, value) {
    const key = chart + "\n" + name;
    if (!this.series.has(key)) this.series.set(key, Array(Math.max(0, this.length ?? 0)).fill(null));
    this.series.get(key).push(value);
  }

  /** Adds what the machine tells now. */
  add(tree, machine) {
    const now = counters(tree, machine), at = performance.now(), before = this.before;
    const seconds = before ? (at - before.at) / 1000 : 1;
    const was = before?.counters;
    // The process of a machine of a lab is that of the lab.
    if (machine.lab == null) {
      this.push("cpu", "all processors", rate(now.cpu, was?.cpu, seconds));
      this.push("memory", "resident", now.memory);
    }
    // A guest whose memory has a fixed size reports none.
    if (tree.devices.memory) {
      this.push("guest", "assigned", tree.devices.memory["assigned-bytes"]);
      this.push("guest", "demand", tree.devices.memory["demand-bytes"]);
    }
    for (const [reason, number] of Object.entries(now.exits)) this.push("exits", reason, rate(number, was?.exits[reason], seconds));
    for (const [name, disk] of Object.entries(now.disks)) {
      const old = was?.disks[name];
      this.push("disks", name + " read", rate(disk["read-bytes"], old?.["read-bytes"], seconds));
      this.push("disks", name + " written", rate(disk["written-bytes"], old?.["written-bytes"], seconds));
      this.push("requests", name + " reads", rate(disk.reads, old?.reads, seconds));
      this.push("requests", name + " writes", rate(disk.writes, old?.writes, seconds));
    }
    for (const [name, adapter] of Object.entries(now.adapters)) {
      const old = was?.adapters[name];
      this.push("network", name + " sent", rate(total(adapter.transmit), old && total(old.transmit), seconds));
      this.push("network", name + " received", rate(total(adapter.receive), old && total(old.receive), seconds));
    }
    this.before = { at, counters: now };
    // Series of what is gone end, and all keep to the same time.
    this.length = Math.min(SLOTS, (this.length ?? 0) + 1);
    for (const values of this.series.values()) {
      if (values.length < this.length) values.push(null);
      values.splice(0, values.length - SLOTS);
    }
    this.draw(now, tree, machine);
  }

  of(chart) {
    return [...this.series].filter(([key]) => key.startsWith(chart + "\n")).map(([key, values]) => ({ name: key.split("\n")[1], values }));
  }

  draw(now, tree, machine) {
    for (const [name, chart] of Object.entries(this.charts)) {
      let series = this.of(name);
      if (name === "exits") {
        const weight = ({ values }) => values.reduce((sum, value) => sum + (value ?? 0), 0);
        series = series.sort((one, other) => weight(other) - weight(one)).filter((one, index) => index < REASONS && (weight(one) > 0 || index === 0));
      }
      chart.root.hidden = series.length === 0;
      chart.update(series);
    }
    const disks = Object.values(now.disks);
    const buckets = disks[0]?.latency.length ?? 0;
    const latency = Array.from({ length: buckets }, (_, bucket) => disks.reduce((sum, disk) => sum + disk.latency[bucket], 0));
    const used = latency.map((number, bucket) => [bucket, number]).filter(([, number]) => number > 0);
    const first = used.at(0)?.[0] ?? 0, last = used.at(-1)?.[0] ?? -1;
    this.latency.root.hidden = last < first;
    this.latency.update(latency.slice(first, last + 1).map((number, index) => [range(first + index, buckets), number]));
    const pairs = {
      Engine: tree.engine, "Virtual processors": tree.vps, "Guest memory": bytes(tree["memory-bytes"]), Process: machine.process,
      Heartbeat: heartbeat(machine), Addresses: machine.addresses?.join(", ") || "none", "Restarts of the guest": tree.restarts,
      Network: Object.entries(now.adapters).map(([name, { transmit, receive }]) => `${name}: ${count(frames(transmit))} frames sent, ${count(frames(receive))} received`).join("; ") || "none",
    };
    this.facts.replaceChildren(...Object.entries(pairs).flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value ?? "–" })]));
  }
}
