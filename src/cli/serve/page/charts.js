// Charts in SVG. Their colours are classes of the style sheet, so they fit the colour scheme.
import { element } from "./api.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const WIDTH = 400, HEIGHT = 120;

function svg(kind, attributes, ...children) {
  const made = document.createElementNS(NAMESPACE, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Returns the points of a line. Missing values are left out; the newest is at the right. */
function points(values, slots, top, width, height) {
  const step = width / (slots - 1);
  return values.map((value, index) => {
    if (value == null) return null;
    const x = width - (values.length - 1 - index) * step;
    return x.toFixed(1) + "," + (height - Math.min(1, value / top) * height).toFixed(1);
  }).filter(Boolean).join(" ");
}

/** A small line without axes. `text` is for those who do not see it. */
export function sparkline(values, slots, top, text) {
  const line = svg("polyline", { points: points(values, slots, top, 100, 22), class: "line line0", "vector-effect": "non-scaling-stroke" });
  const drawn = svg("svg", { viewBox: "0 -1 100 24", preserveAspectRatio: "none", class: "spark", role: "img", "aria-label": text }, line);
  return drawn;
}

/** Rounds up to a number that is good for an axis. */
function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map(factor => factor * power).find(candidate => candidate >= value);
}

/** A chart of several series over time. */
export class Chart {
  constructor(title, format, { slots = 120, top = 0, seconds = 2 } = {}) {
    Object.assign(this, { format, slots, top, seconds });
    this.legend = element("ul", { className: "legend" });
    this.lines = svg("g", {});
    this.scale = svg("text", { x: 4, y: 12, class: "axis" });
    const grid = [0, HEIGHT / 2, HEIGHT].map(y => svg("line", { x1: 0, x2: WIDTH, y1: y, y2: y, class: "grid" }));
    this.picture = svg("svg", { viewBox: `0 -2 ${WIDTH} ${HEIGHT + 4}`, role: "img", class: "chart" }, ...grid, this.lines, this.scale);
    this.root = element("figure", { className: "card" }, element("figcaption", { textContent: title }), this.picture, this.legend);
    this.title = title;
  }

  /** Draws series: names, values, and what belongs to the newest beside it. */
  update(series) {
    const all = series.flatMap(({ values }) => values.filter(value => value != null));
    const top = Math.max(this.top, nice(Math.max(0, ...all)));
    this.scale.textContent = this.format(top) + " · " + this.slots * this.seconds / 60 + " minutes";
    this.lines.replaceChildren(...series.map(({ values }, index) =>
      svg("polyline", { points: points(values, this.slots, top, WIDTH, HEIGHT), class: "line line" + index % 6 })));
    const newest = ({ values }) => values.length && values.at(-1) != null ? this.format(values.at(-1)) : "–";
    this.legend.replaceChildren(...series.map((one, index) => element("li", {},
      element("span", { className: "dot dot" + index % 6, "aria-hidden": "true" }), one.name + " ", element("b", { textContent: newest(one) }))));
    this.picture.setAttribute("aria-label", this.title + ": " + series.map(one => one.name + " " + newest(one)).join(", "));
  }
}

/** A chart of how often something was in each of some ranges. */
export class Histogram {
  constructor(title) {
    this.title = title;
    this.bars = element("ol", { className: "bars", "aria-label": title });
    this.root = element("figure", { className: "card" }, element("figcaption", { textContent: title }), this.bars);
  }

  /** Draws pairs of a range and a number. */
  update(pairs) {
    const most = Math.max(1, ...pairs.map(([, number]) => number));
    this.bars.replaceChildren(...pairs.map(([range, number]) => {
      const bar = element("span", { className: "bar" });
      bar.style.width = number / most * 100 + "%";
      return element("li", {}, element("span", { className: "range", textContent: range }), element("span", { className: "track" }, bar),
        element("b", { textContent: number }));
    }));
  }
}
