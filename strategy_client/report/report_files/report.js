"use strict";

const session = JSON.parse(document.getElementById("payload").textContent);
const style = getComputedStyle(document.documentElement);
const colour = (name) => style.getPropertyValue(`--${name}`).trim();
const byId = (id) => document.getElementById(id);

// One colour a reason, the same in every report; what is nobody's failure is quiet.
const REASONS = {
  BUY: "#1a9850", SELL: "#d73027",
  HOLD: "#b9c2cd", BELOW_THRESHOLD: "#93a1b1", WARMING_UP: "#9ecae1", DISABLED: "#cfc5e0",
  STALE_TICK: "#fdd49e", NON_FINITE: "#fdbb84", OUT_OF_RANGE: "#fc8d59", MODEL_STALE: "#e6ab02",
  DEADLINE_EXCEEDED: "#e7298a", BREAKER_OPEN: "#b0408f", UNAVAILABLE: "#7a2a8c",
  MODEL_NOT_FOUND: "#8c6d31", MODEL_NOT_READY: "#bd9e39", CONTRACT_MISMATCH: "#a63603",
  INVALID_SIGNAL: "#7f2704", PROCESSOR_ERROR: "#67000d",
};
const LINES = ["#1d5fc4", "#a8480a", "#6a3d9a", "#00808a", "#b15928", "#5a7d1a", "#c2185b", "#455a64"];
const SYNCED = ["price", "versions", "probability", "outcomes", "latency", "shadow"];
const lineOf = (id) => LINES[session.strategies.indexOf(id) % LINES.length];
// What Plotly draws as text may hold tags; what a user wrote may not.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const whole = (value) => Number(value).toLocaleString("en");

let axis = "t";
let current = session.instruments[0];
let wanted = "";  // the strategy that is looked at; empty for all
let range = null; // what was dragged; null for the whole session
let moving = false;

const seen = () => current.strategies.filter((strategy) => !wanted || strategy.id === wanted);
const wholeRange = () => { const x = current.price[axis]; return x.length ? [x[0], x[x.length - 1]] : [0, 1]; };

function text(id, value) { byId(id).textContent = value; }

function element(name, content, className) {
  const made = document.createElement(name);
  if (content !== undefined) made.textContent = content;
  if (className) made.className = className;
  return made;
}

function layout(extra) {
  return {
    margin: { l: 72, r: 16, t: 8, b: 36 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("ink") },
    hovermode: "closest", legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    uirevision: axis,
    ...extra,
    xaxis: { type: axis === "t" ? "date" : "linear", gridcolor: colour("grid"), zeroline: false, autorange: false,
      range: [...(range || wholeRange())] },
    yaxis: { gridcolor: colour("grid"), zeroline: false, fixedrange: true, ...(extra.yaxis || {}) },
  };
}

function draw(id, traces, extra) {
  const box = byId(id);
  Plotly.react(box, traces, layout(extra), { displaylogo: false, responsive: true, displayModeBar: false });
  if (box.dataset.synced) return;
  box.dataset.synced = "yes";
  box.on("plotly_relayout", (change) => {
    if (moving) return;
    if ("xaxis.range[0]" in change) range = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    else if (change["xaxis.autorange"] || "xaxis.range" in change) range = null;
    else return;
    follow();
  });
}

async function follow() {
  moving = true;
  try {
    for (const id of SYNCED) {
      if (byId(id).closest("[hidden]") || !byId(id).dataset.synced) continue;
      await Plotly.relayout(byId(id), { "xaxis.range": [...(range || wholeRange())], "xaxis.autorange": false });
    }
  } finally { moving = false; }
}

function drawPrice() {
  const { price } = current;
  const traces = [{ type: "scatter", mode: "lines", name: "price", x: price[axis], y: price.y,
    line: { color: colour("quiet"), width: 1 }, hovertemplate: "%{y}<extra></extra>" }];
  let markers = 0, signals = 0;
  for (const strategy of seen()) {
    for (const side of ["BUY", "SELL"]) {
      const points = strategy.signals[side];
      if (!points.length) continue;
      markers += points.length;
      signals += points.reduce((sum, point) => sum + point.signals, 0);
      traces.push({ type: "scatter", mode: "markers", name: `${plain(strategy.id)} ${side}`,
        x: points.map((point) => point[axis]), y: points.map((point) => point.price),
        text: points.map((point) => `${plain(strategy.id)} ${side}: ${whole(point.signals)} signal${point.signals > 1 ? "s" : ""}`
          + (point.runs > 1 ? ` in ${whole(point.runs)} runs` : point.signals > 1 ? " one after the other" : "")),
        hovertemplate: "%{text}<br>%{x}<br>%{y}<extra></extra>",
        marker: { symbol: side === "BUY" ? "triangle-up" : "triangle-down", size: 8, opacity: 0.85,
          color: REASONS[side], line: { width: 0.75, color: lineOf(strategy.id) } } });
    }
  }
  text("price-note", signals
    ? `${whole(signals)} signals as ${whole(markers)} marks: those that follow one another are one. ▲ buy, ▼ sell; click a name to hide it.`
    : "No signal on this instrument.");
  draw("price", traces, {});
}

function drawVersions() {
  const learned = seen().filter((strategy) => strategy.bands.length);
  byId("versions-part").hidden = !learned.length;
  if (!learned.length) return;
  const names = [], traces = [];
  for (const strategy of learned) for (const band of strategy.bands) {
    const name = `${strategy.id}: ${band.model} v${band.version} ${band.digest}`;
    if (!names.includes(name)) names.push(name);
    traces.push({ type: "scatter", mode: "lines", x: band[axis], y: [plain(strategy.id), plain(strategy.id)],
      line: { width: 18, color: LINES[names.indexOf(name) % LINES.length] }, name: plain(name), legendgroup: name,
      showlegend: !traces.some((trace) => trace.legendgroup === name),
      hovertemplate: `${plain(name)}<br>${whole(band.answers)} answers<br>%{x}<extra></extra>` });
  }
  byId("versions").style.height = `${Math.max(7, 4.5 + 2.2 * learned.length)}rem`;
  draw("versions", traces, { yaxis: { type: "category", autorange: "reversed", showticklabels: false } });
}

function drawProbability() {
  const learned = seen().filter((strategy) => strategy.probability);
  byId("probability-part").hidden = !learned.length;
  if (!learned.length) return;
  const traces = [], shapes = [];
  for (const strategy of learned) {
    const points = strategy.probability;
    traces.push({ type: "scatter", mode: "markers", name: plain(strategy.id), x: points[axis], y: points.y,
      marker: { color: lineOf(strategy.id), size: 3, opacity: 0.7 }, hovertemplate: "%{y:.3f}<extra>%{fullData.name}</extra>" });
    if (strategy.threshold !== null) shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: strategy.threshold,
      y1: strategy.threshold, line: { color: lineOf(strategy.id), dash: "dash", width: 1.5 } });
  }
  draw("probability", traces, { shapes, showlegend: true });
}

function drawOutcomes() {
  const { outcomes } = current;
  const counts = {};
  for (const [id, reasons] of Object.entries(outcomes.counts)) {
    if (wanted && id !== wanted) continue;
    for (const [reason, values] of Object.entries(reasons)) {
      counts[reason] = (counts[reason] || values.map(() => 0)).map((sum, at) => sum + values[at]);
    }
  }
  const order = Object.keys(REASONS).filter((reason) => reason in counts);
  const totals = outcomes[axis].map((_, at) => order.reduce((sum, reason) => sum + counts[reason][at], 0));
  // A part reaches to the next one's begin, so that a pause in the ticks leaves no hole.
  const ends = outcomes[axis].map((_, at) => outcomes[axis][at + 1] ?? outcomes.end[axis][at]);
  const middles = outcomes[axis].map((from, at) => (from + ends[at]) / 2);
  const widths = outcomes[axis].map((from, at) => Math.max(ends[at] - from, 1e-9));
  const traces = order.map((reason) => ({ type: "bar", name: reason, x: middles, width: widths,
    y: counts[reason].map((count, at) => (totals[at] ? 100 * count / totals[at] : 0)), customdata: counts[reason],
    marker: { color: REASONS[reason] }, hovertemplate: `${reason}: %{customdata:,} (%{y:.1f} %)<extra></extra>` }));
  const shown = order.map((reason) => [reason, counts[reason].reduce((sum, count) => sum + count, 0)])
    .sort((one, other) => other[1] - one[1]).map(([reason, count]) => `${reason} ${whole(count)}`);
  text("outcomes-note", shown.join(" · "));
  draw("outcomes", traces, { barmode: "stack", bargap: 0, yaxis: { ticksuffix: " %", range: [0, 100] } });
}

function drawLatency() {
  const { latency } = current;
  byId("latency").hidden = !latency;
  text("latency-note", session.latency_note);
  if (!latency) return;
  const line = (name, values, extra) => ({ type: "scatter", mode: "lines", name, x: latency[axis],
    y: values.map((value) => (value === null ? null : value / 1000)), connectgaps: false,
    hovertemplate: "%{y:.3f} ms<extra>%{fullData.name}</extra>", ...extra });
  const traces = [
    line("longest", latency.longest, { mode: "markers", marker: { size: 4, color: colour("bad") } }),
    line("99th percentile", latency.p99, { line: { color: LINES[1], width: 1.5 } }),
    line("median", latency.p50, { line: { color: LINES[0], width: 1.5 } }),
  ];
  const shapes = [];
  if (session.deadline_ms) {
    traces.push({ type: "scatter", mode: "lines", name: `deadline ${session.deadline_ms} ms`, x: [latency[axis][0]], y: [session.deadline_ms],
      line: { dash: "dash", color: colour("ink") } });
    shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: session.deadline_ms, y1: session.deadline_ms,
      line: { color: colour("ink"), dash: "dash", width: 1.5 } });
  }
  draw("latency", traces, { shapes, yaxis: { type: "log", ticksuffix: " ms", dtick: 1 } });
}

function drawShadow() {
  const shadows = current.shadows.filter((shadow) => !wanted || shadow.id === wanted);
  byId("shadow-part").hidden = !shadows.length;
  if (!shadows.length) return;
  const traces = [];
  for (const shadow of shadows) {
    const name = shadow.model ? `${shadow.model.model} v${shadow.model.version}` : "shadow";
    traces.push({ type: "scatter", mode: "lines", name: `${plain(shadow.id)} live`, x: shadow[axis], y: shadow.live,
      line: { color: lineOf(shadow.id), width: 1 }, hovertemplate: "%{y:.3f}<extra>%{fullData.name}</extra>" });
    traces.push({ type: "scatter", mode: "lines", name: `${plain(shadow.id)} shadow (${plain(name)})`, x: shadow[axis], y: shadow.shadow,
      line: { color: lineOf(shadow.id), width: 1, dash: "dot" }, hovertemplate: "%{y:.3f}<extra>%{fullData.name}</extra>" });
  }
  draw("shadow", traces, { showlegend: true });
}

function drawAll() {
  for (const part of [drawPrice, drawVersions, drawProbability, drawOutcomes, drawLatency, drawShadow]) part();
}

function offerStrategies() {
  const select = byId("strategy");
  wanted = "";
  select.replaceChildren(new Option("all of them", ""), ...current.strategies.map((strategy) => new Option(strategy.id, strategy.id)));
}

function table({ title, note, columns, rows }) {
  const box = element("section");
  const scroll = element("div", undefined, "scroll");
  const made = element("table");
  made.append(element("caption", title));
  const head = element("tr");
  const numeric = columns.map((_, at) => rows.length > 0 && rows.every((row) => typeof row[at] === "number"));
  columns.forEach((name, at) => { const cell = element("th", name, numeric[at] ? "number" : ""); cell.scope = "col"; head.append(cell); });
  made.append(element("thead"));
  made.tHead.append(head);
  const body = element("tbody");
  for (const row of rows) {
    const line = element("tr");
    row.forEach((value, at) => line.append(element("td", typeof value === "number" ? whole(value) : value, numeric[at] ? "number" : "")));
    body.append(line);
  }
  made.append(body);
  scroll.append(made);
  box.append(scroll);
  if (note) box.append(element("p", note, "quiet"));
  return box;
}

function show() {
  document.title = session.title;
  text("title", session.title);
  text("span", session.span);
  text("made", session.made);
  byId("verdict").dataset.tone = session.verdict.tone;
  byId("verdict").querySelector("h2").textContent = session.verdict.text;
  byId("verdict").querySelector("ul").replaceChildren(...session.verdict.points.map((point) => element("li", point)));
  byId("tiles").replaceChildren(...session.tiles.map((tile) => {
    const box = element("div", tile.label, "tile");
    box.append(element("b", tile.value), element("span", tile.note, "quiet"));
    return box;
  }));
  byId("tables").replaceChildren(...session.tables.map(table));
  const instruments = byId("instrument");
  instruments.replaceChildren(...session.instruments.map((each, at) => new Option(`${each.token} (${whole(each.ticks)} ticks)`, at)));
  instruments.addEventListener("change", () => {
    current = session.instruments[Number(instruments.value)];
    range = null;
    offerStrategies();
    drawAll();
  });
  for (const choice of document.querySelectorAll("input[name=axis]")) choice.addEventListener("change", () => {
    axis = choice.value;
    range = null;
    drawAll();
  });
  byId("strategy").addEventListener("change", () => { wanted = byId("strategy").value; drawAll(); });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  if (current) {
    offerStrategies();
    drawAll();
  } else {
    for (const part of document.querySelectorAll(".chart, #controls")) part.hidden = true;
  }
  document.documentElement.dataset.drawn = "yes";
}

show();
