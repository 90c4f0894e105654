// Small line charts as SVG. Values are told by pointer and by arrow keys, too.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;
// A chart that has only begun is drawn over so many steps; later over as many as there are.
const FEWEST_STEPS = 30;

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function path(values, steps, high, height) {
  // A missing value is a gap; one between two gaps is a dot.
  const first = steps - values.length;
  let drawn = "";
  values.forEach((value, place) => {
    if (value === null) return;
    const before = place > 0 && values[place - 1] !== null;
    const after = place + 1 < values.length && values[place + 1] !== null;
    const x = (((first + place) * WIDTH) / (steps - 1)).toFixed(1);
    const y = (height - 1.5 - (value / high) * (height - 4)).toFixed(1);
    drawn += `${before ? "L" : "M"}${x} ${y}`;
    if (!before && !after) drawn += "h0.01";
  });
  return drawn;
}

function extremes(lines) {
  const values = lines.flatMap((line) => line.values).filter((value) => value !== null);
  return values.length ? [Math.min(...values), Math.max(...values)] : [null, null];
}

// `lines` name and style what is drawn: [{name, style}]. `format` writes a value for people.
export class Chart {
  constructor(title, lines, format, { height = 56, explore = true } = {}) {
    Object.assign(this, { title, lines, format, height, values: lines.map(() => []), steps: FEWEST_STEPS, stepS: 1, at: null });
    this.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.area = svg("path", { class: `area ${lines[0].style}` });
    this.paths = lines.map((line) => svg("path", { class: `line ${line.style}` }));
    this.cursor = svg("path", { class: "cursor" });
    this.picture.append(this.area, ...this.paths, this.cursor);
    this.plot = el("div", { class: "plot" }, this.picture);
    this.node = el("div", { class: "chart" }, this.plot);
    if (!explore) {
      this.plot.setAttribute("role", "img");
      return;
    }
    this.low = el("span");
    this.told = el("span", { class: "told" });
    this.high = el("span");
    this.node.append(el("p", { class: "scale", "aria-hidden": "true" }, this.low, this.told, this.high));
    for (const [name, value] of Object.entries({ role: "slider", tabindex: "0", "aria-readonly": "true" }))
      this.plot.setAttribute(name, value);
    this.plot.addEventListener("pointermove", (event) => {
      const box = this.plot.getBoundingClientRect();
      this.explore(Math.round(((event.clientX - box.left) / box.width) * (this.steps - 1)) - (this.steps - this.count));
    });
    this.plot.addEventListener("pointerleave", () => this.explore(null));
    this.plot.addEventListener("blur", () => this.explore(null));
    this.plot.addEventListener("keydown", (event) => {
      const here = this.at ?? this.count - 1;
      const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: this.count - 1, PageUp: here - 15, PageDown: here + 15 }[event.key];
      if (to !== undefined) {
        event.preventDefault();
        this.explore(to);
      } else if (event.key === "Escape") this.explore(null);
    });
  }

  get count() {
    return this.values[0].length;
  }

  update(values, stepS) {
    const steps = Math.max(FEWEST_STEPS, values[0].length);
    Object.assign(this, { values, steps, stepS });
    const drawn = this.lines.map((line, place) => ({ ...line, values: values[place] }));
    const [low, high] = extremes(drawn);
    const top = high || 1;
    drawn.forEach((line, place) => this.paths[place].setAttribute("d", high ? path(line.values, steps, top, this.height) : ""));
    const outline = this.paths[0].getAttribute("d");
    const gaps = !high || values[0].includes(null);
    const left = (((steps - this.count) * WIDTH) / (steps - 1)).toFixed(1);
    this.area.setAttribute("d", gaps || this.count < 2 ? "" : `${outline}L${WIDTH} ${this.height}L${left} ${this.height}Z`);
    const now = this.tell(this.count - 1);
    this.plot.setAttribute("aria-label", `${this.title}, the last ${clock(this.count * stepS)}`);
    if (this.told === undefined) {
      this.plot.setAttribute("aria-label", `${this.title}: ${now}${high === null ? "" : `, highest ${this.format(high)}`}`);
      return;
    }
    this.plot.setAttribute("aria-valuemin", String(Math.min(0, 1 - this.count) * stepS));
    this.plot.setAttribute("aria-valuemax", "0");
    say(this.low, low === null ? "" : `low ${this.format(low)}`);
    say(this.high, high === null ? "" : `high ${this.format(high)}`);
    this.explore(this.at);
  }

  tell(place) {
    const told = this.lines.map((line, number) => {
      const value = this.values[number][place];
      const text = value === null || value === undefined ? "–" : this.format(value);
      return line.name ? `${line.name} ${text}` : text;
    });
    return told.join(" · ");
  }

  // Show what was at one step; null: nowhere.
  explore(place) {
    this.at = place === null || !this.count ? null : Math.min(Math.max(place, 0), this.count - 1);
    const here = this.at ?? this.count - 1;
    const ago = Math.round((this.count - 1 - here) * this.stepS);
    const text = this.count ? `${ago ? `${clock(ago)} ago` : "now"}: ${this.tell(here)}` : "nothing yet";
    this.plot.setAttribute("aria-valuenow", String(Math.min(0, here - this.count + 1) * this.stepS));
    this.plot.setAttribute("aria-valuetext", text);
    say(this.told, this.at === null && this.count ? `last ${clock(this.count * this.stepS)}` : text);
    this.node.classList.toggle("explored", this.at !== null);
    const x = (((this.steps - this.count + here) * WIDTH) / (this.steps - 1)).toFixed(1);
    this.cursor.setAttribute("d", this.at === null ? "" : `M${x} 0V${this.height}`);
  }
}

function clock(seconds) {
  const rest = seconds % 60;
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min${rest ? ` ${rest} s` : ""}`;
}

// How numbers, durations and times are written.

export function count(number) {
  return Math.round(number).toLocaleString("en-US");
}

export function rate(perSecond) {
  return perSecond > 0 && perSecond < 10 ? perSecond.toFixed(1) : count(perSecond);
}

export function duration(us) {
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${(us / 1e3).toPrecision(us < 1e5 ? 3 : 4).replace(/\.0+$/, "")} ms`;
  return `${(us / 1e6).toPrecision(3)} s`;
}

export function moment(seconds, today = null) {
  const text = new Date(seconds * 1000).toISOString();
  const day = text.slice(0, 10);
  return day === today ? text.slice(11, 19) : `${day} ${text.slice(11, 19)}`;
}

export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [minutes, hours, days] = [Math.floor(whole / 60), Math.floor(whole / 3600), Math.floor(whole / 86400)];
  if (!minutes) return `${whole} s`;
  if (!hours) return `${minutes} min`;
  return days ? `${days} d ${hours % 24} h` : `${hours} h ${minutes % 60} min`;
}

// As the texts of the sidecar and `status` show it.
export function bytes(size) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let place = 0;
  for (; size >= 1024 && place < 3; place += 1) size /= 1024;
  return `${place ? size.toFixed(1) : size} ${units[place]}`;
}
