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
// On dark paper a quiet reason is dark and a failure bright, as it is the other way round on white.
const REASONS_IN_THE_DARK = {
  ...REASONS, BUY: "#2fbf71", SELL: "#ff6a5c",
  HOLD: "#3a4554", BELOW_THRESHOLD: "#5b6878", WARMING_UP: "#3d6f92", DISABLED: "#6a5f80",
  BREAKER_OPEN: "#d173c8", UNAVAILABLE: "#a87bea", MODEL_NOT_FOUND: "#b8944a", CONTRACT_MISMATCH: "#e0671f",
  INVALID_SIGNAL: "#d98a5b", PROCESSOR_ERROR: "#ffc2c9",
};
const LINES_IN_THE_DARK = ["#6ea8ff", "#f0924f", "#b79cf0", "#33c2cc", "#d99a6c", "#a3cc52", "#ff7eb0", "#a9bac4"];
const darkness = matchMedia("(prefers-color-scheme: dark)");
const touch = matchMedia("(pointer: coarse)");
const reasonColour = (reason) => (darkness.matches ? REASONS_IN_THE_DARK : REASONS)[reason];
const line = (at) => (darkness.matches ? LINES_IN_THE_DARK : LINES)[at % LINES.length];
const SYNCED = ["price", "versions", "probability", "outcomes", "latency", "shadow"];
const lineOf = (id) => line(session.strategies.indexOf(id));
const LABEL_PX = 15, BAND_PX = 18, LANE_PX = 44, NAME_PX = 190;
// What Plotly draws as text may hold tags; what a user wrote may not.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const whole = (value) => Number(value).toLocaleString("en");

let axis = "t";
let current = session.instruments[0];
let wanted = "";  // the strategy that is looked at; empty for all
let range = null; // what was dragged; null for the whole session
let moving = false;

const seen = () => current.strategies.filter((strategy) => !wanted || strategy.id === wanted);
// A tick of the past may be the last one that came.
const wholeRange = () => current.price[axis].reduce(([from, to], x) => [Math.min(from, x), Math.max(to, x)], [Infinity, -Infinity]);
// What Plotly gives back of a time is a text without a zone, and means UTC.
const number = (x) => (typeof x === "string" ? +new Date(`${x.replace(" ", "T")}Z`) : x);

function text(id, value) { byId(id).textContent = value; }

function element(name, content, className) {
  const made = document.createElement(name);
  if (content !== undefined) made.textContent = content;
  if (className) made.className = className;
  return made;
}

// Nothing is known of a time without ticks, so nothing that reaches over it is shown.
function silences() {
  if (axis !== "t") return [];
  return current.silences.map(([from, to]) => ({ type: "rect", xref: "x", yref: "paper", x0: from, x1: to, y0: 0, y1: 1, layer: "above",
    fillcolor: colour("paper"), line: { color: colour("edge"), width: 1, dash: "dot" },
    label: { text: "no tick", textangle: -90, font: { size: 11, color: colour("quiet") } } }));
}

function layout(extra) {
  return {
    margin: { l: 80, r: 16, t: 8, b: 36 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: colour("ink") },
    hovermode: "closest", dragmode: touch.matches ? false : "zoom", legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, maxheight: 1 },
    uirevision: axis,
    ...extra,
    shapes: [...(extra.shapes || []), ...silences()],
    xaxis: { type: axis === "t" ? "date" : "linear", gridcolor: colour("grid"), zeroline: false, autorange: false,
      range: [...(range || wholeRange())], separatethousands: true, exponentformat: "none", tickangle: 0, ...(extra.xaxis || {}) },
    yaxis: { gridcolor: colour("grid"), zeroline: false, fixedrange: true, exponentformat: "none", separatethousands: true, ...(extra.yaxis || {}) },
  };
}

function draw(id, traces, extra, height = 250) {
  const box = byId(id);
  // Each row of names above a chart has room of its own, so that a phone's many rows leave the chart as high as it is.
  const named = traces.filter((trace) => trace.showlegend !== false).length;
  const rows = named > 1 ? Math.ceil(named * NAME_PX / Math.max(box.clientWidth - 96, NAME_PX)) : 0;
  box.style.height = `${height + rows * 20}px`;
  const nticks = Math.max(2, Math.floor((box.clientWidth - 96) / 110));
  Plotly.react(box, traces, layout({ ...extra, xaxis: { nticks, ...(extra.xaxis || {}) } }), { displaylogo: false, responsive: true, displayModeBar: false });
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

function look(move) {
  const [first, last] = wholeRange();
  const [from, to] = (range || [first, last]).map(number);
  const width = to - from;
  if (move === "whole") range = null;
  else if (move === "closer") range = [from + width / 4, to - width / 4];
  else if (move === "wider") range = [Math.max(first, from - width / 2), Math.min(last, to + width / 2)];
  else {
    const by = move === "earlier" ? Math.max(-width / 2, first - from) : Math.min(width / 2, last - to);
    range = [from + by, to + by];
  }
  follow();
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

// Text inside of a chart, at its left edge.
const label = (words, y, more) => ({ text: words, xref: "paper", x: 0, xanchor: "left", y, yanchor: "top", align: "left",
  showarrow: false, font: { size: 11, color: colour("ink") }, ...more });

function drawPrice() {
  const { price } = current;
  const traces = [{ type: "scatter", mode: "lines", name: "price", x: price[axis], y: price.y,
    line: { color: colour("quiet"), width: 1.25, shape: "hv" }, hovertemplate: "%{x}<br>%{y}<extra>price</extra>" }];
  const signalling = seen().filter((strategy) => strategy.signals.BUY.length || strategy.signals.SELL.length);
  // One strategy's marks stand on the price; those of several would hide it and each other, so each has a lane below.
  const lanes = signalling.length > 1 ? signalling.length : 0;
  let marks = 0, signals = 0;
  signalling.forEach((strategy, at) => ["BUY", "SELL"].forEach((side, below) => {
    const points = strategy.signals[side];
    if (!points.length) return;
    marks += points.length;
    signals += points.reduce((sum, point) => sum + point.signals, 0);
    traces.push({ type: "scatter", mode: "markers", name: lanes ? side : `${plain(strategy.id)} ${side}`, legendgroup: side,
      x: points.map((point) => point[axis]), y: points.map((point) => (lanes ? at + 0.5 + 0.28 * below : point.price)),
      yaxis: lanes ? "y2" : "y", showlegend: !lanes || !traces.some((trace) => trace.legendgroup === side),
      text: points.map((point) => `${plain(strategy.id)} ${side} at ${point.price}: ${whole(point.signals)} signal${point.signals > 1 ? "s" : ""}`
        + (point.runs > 1 ? ` in ${whole(point.runs)} runs` : point.signals > 1 ? " one after the other" : "")),
      hovertemplate: "%{text}<br>%{x}<extra></extra>",
      marker: { symbol: side === "BUY" ? "triangle-up" : "triangle-down", size: lanes ? 7 : 8, opacity: lanes ? 0.7 : 0.85,
        color: reasonColour(side) } });
  }));
  text("price-note", signals
    ? `${whole(signals)} signals as ${whole(marks)} marks: those that follow one another, or lie too close to be told apart, are one. ▲ buy, ▼ sell.`
      + (lanes ? " Choose a strategy to see its marks on the price." : "")
    : "No signal on this instrument.");
  const height = 300 + lanes * LANE_PX;
  const share = lanes * LANE_PX / (height - 80);
  draw("price", traces, {
    yaxis: { title: { text: "price", standoff: 4 }, domain: [lanes ? share + 0.03 : 0, 1] },
    ...(lanes ? { xaxis: { anchor: "y2" } } : {}),
    yaxis2: { domain: [0, share], range: [Math.max(lanes, 1), 0], visible: false, fixedrange: true },
    annotations: lanes ? signalling.map((strategy, at) => label(plain(strategy.id), at, { yref: "y2" })) : [],
  }, height);
}

function drawVersions() {
  const learned = seen().filter((strategy) => strategy.bands.length);
  byId("versions-part").hidden = !learned.length;
  if (!learned.length) return;
  const names = [], traces = [], annotations = [];
  let y = 0;
  for (const strategy of learned) {
    const versions = new Map();
    for (const band of strategy.bands) {
      const name = `${band.model} v${band.version} ${band.digest}`;
      if (!versions.has(name)) versions.set(name, []);
      versions.get(name).push(band);
    }
    // In the order in which they first answered, so that nobody needs the colours to tell which is which.
    const keys = [...versions.keys()].map((name) => {
      if (!names.includes(name)) names.push(name);
      return `<span style="color:${line(names.indexOf(name))}">■</span> ${plain(name)}`;
    });
    const shown = [`<b>${plain(strategy.id)}</b>`, ...keys.slice(0, 4), ...(keys.length > 4 ? [`and ${keys.length - 4} more: see the table`] : [])];
    annotations.push(label(shown.join("<br>"), y));
    y += shown.length * LABEL_PX + 4;
    for (const [name, bands] of versions) traces.push({ type: "scatter", mode: "lines+markers", name: `${plain(strategy.id)}: ${plain(name)}`,
      x: bands.flatMap((band) => [...band[axis], null]), y: bands.flatMap(() => [y + BAND_PX / 2, y + BAND_PX / 2, null]), showlegend: false,
      text: bands.flatMap((band) => [`${whole(band.answers)} answers`, `${whole(band.answers)} answers`, ""]),
      line: { width: BAND_PX, color: line(names.indexOf(name)) }, connectgaps: false,
      // A band of a single answer would have no width.
      marker: { symbol: "line-ns", size: BAND_PX, line: { width: 1.5, color: line(names.indexOf(name)) } },
      hovertemplate: `${plain(strategy.id)}: ${plain(name)}<br>%{text}<br>%{x}<extra></extra>` });
    y += BAND_PX + 12;
  }
  draw("versions", traces, { margin: { l: 80, r: 16, t: 4, b: 44 }, annotations, yaxis: { range: [y, 0], visible: false } }, y + 48);
}

function drawProbability() {
  const learned = seen().filter((strategy) => strategy.probability);
  byId("probability-part").hidden = !learned.length;
  if (!learned.length) return;
  const traces = [], shapes = [];
  for (const strategy of learned) {
    const points = strategy.probability;
    traces.push({ type: "scatter", mode: "markers", name: plain(strategy.id), x: points[axis], y: points.y,
      marker: { color: lineOf(strategy.id), size: 4, opacity: 0.7 }, hovertemplate: "%{y:.3f}<extra>%{fullData.name}</extra>" });
    if (strategy.threshold !== null) shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: strategy.threshold,
      y1: strategy.threshold, line: { color: lineOf(strategy.id), dash: "dash", width: 1.5 } });
  }
  draw("probability", traces, { shapes, showlegend: true, yaxis: { title: { text: "probability", standoff: 4 } } });
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
    marker: { color: reasonColour(reason) }, hovertemplate: `${reason}: %{customdata:,} (%{y:.1f} %)<extra></extra>` }));
  const shown = order.map((reason) => [reason, counts[reason].reduce((sum, count) => sum + count, 0)])
    .sort((one, other) => other[1] - one[1]).map(([reason, count]) => `${reason} ${whole(count)}`);
  text("outcomes-note", shown.join(" · "));
  // One tick of a hundred thousand is too thin to be seen in its bar. Marks stand at a part's first tick: its middle may lie in a silence.
  const mark = (name, kinds, tone, symbol) => {
    const came = order.filter((reason) => kinds.includes(reason));
    const where = totals.map((_, at) => at).filter((at) => came.some((reason) => counts[reason][at]));
    if (!where.length) return;
    traces.push({ type: "scatter", mode: "markers", name, x: where.map((at) => outcomes[axis][at]), y: where.map(() => (tone === "bad" ? 110 : 104)),
      text: where.map((at) => came.filter((reason) => counts[reason][at]).map((reason) => `${reason}: ${whole(counts[reason][at])}`).join("<br>")),
      marker: { symbol, size: 7, color: colour(tone) }, hovertemplate: "%{text}<br>%{x}<extra></extra>" });
  };
  mark("without an answer", session.failures, "bad", "x");
  mark("could not be used", session.cautions, "warn", "diamond");
  draw("outcomes", traces, { barmode: "stack", bargap: 0,
    yaxis: { title: { text: "share of outcomes", standoff: 4 }, range: [0, 116], tickvals: [0, 25, 50, 75, 100], ticktext: ["0 %", "25 %", "50 %", "75 %", "100 %"] } });
}

function drawLatency() {
  const { latency } = current;
  byId("latency").hidden = !latency;
  text("latency-note", session.latency_note);
  if (!latency) return;
  // A value is of its whole part, up to the next one's begin: a slope between two would be made up.
  const measured = (name, values, extra) => ({ type: "scatter", mode: "lines", name, x: latency[axis],
    y: values.map((value) => (value === null ? null : value / 1000)), connectgaps: false,
    hovertemplate: "%{y:.3f} ms<extra>%{fullData.name}</extra>", ...extra });
  const traces = [
    measured("longest", latency.longest, { mode: "markers", marker: { size: 4, color: colour("bad") } }),
    measured("99th percentile", latency.p99, { line: { color: line(1), width: 1.5, shape: "hv" } }),
    measured("median", latency.p50, { line: { color: line(0), width: 1.5, shape: "hv", dash: "dot" } }),
  ];
  const shapes = [];
  if (session.deadline_ms) {
    traces.push({ type: "scatter", mode: "lines", name: `deadline ${session.deadline_ms} ms`, x: [latency[axis][0]], y: [session.deadline_ms],
      line: { dash: "dash", color: colour("ink") } });
    shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: session.deadline_ms, y1: session.deadline_ms,
      line: { color: colour("ink"), dash: "dash", width: 1.5 } });
  }
  draw("latency", traces, { shapes, yaxis: { type: "log", ticksuffix: " ms", dtick: 1, title: { text: "latency, log scale", standoff: 4 } } });
}

function drawShadow() {
  const shadows = current.shadows.filter((shadow) => !wanted || shadow.id === wanted);
  byId("shadow-part").hidden = !shadows.length;
  if (!shadows.length) return;
  const traces = [], told = [];
  shadows.forEach((shadow, at) => {
    const name = shadow.model ? `${shadow.model.model} v${shadow.model.version}` : "shadow";
    // Points: a line between two ticks' answers would show what no model ever said.
    const points = (words, y, index, symbol) => ({ type: "scatter", mode: "markers", name: `${plain(shadow.id)} ${words}`, x: shadow[axis], y,
      marker: { color: line(index), size: 5, opacity: 0.7, symbol }, hovertemplate: "%{x}<br>%{y:.3f}<extra>%{fullData.name}</extra>" });
    traces.push(points("live", shadow.live, 2 * at, "circle"), points(`shadow (${plain(name)})`, shadow.shadow, 2 * at + 1, "x-thin-open"));
    const ticks = shadow.apart.reduce((sum, point) => sum + point.ticks, 0);
    told.push(ticks ? `${shadow.id}: on ${whole(ticks)} of ${whole(shadow.ticks)} ticks they wanted otherwise, which are circled.`
      : `${shadow.id}: they wanted the same on all of ${whole(shadow.ticks)} ticks.`);
    if (ticks) traces.push({ type: "scatter", mode: "markers", name: `${plain(shadow.id)}: wanted otherwise`,
      x: shadow.apart.map((point) => point[axis]), y: shadow.apart.map((point) => point.y),
      text: shadow.apart.map((point) => `live ${point.live}, shadow ${point.shadow}` + (point.ticks > 1 ? `; the first of ${whole(point.ticks)} such ticks here` : "")),
      marker: { symbol: "circle-open", size: 11, color: colour("bad"), line: { width: 2 } }, hovertemplate: "%{text}<br>%{x}<extra></extra>" });
  });
  text("shadow-note", told.join(" "));
  draw("shadow", traces, { showlegend: true, yaxis: { title: { text: "probability", standoff: 4 } } });
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
  scroll.tabIndex = 0;  // so that the keys scroll what is wider than a phone
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", title);
  const made = element("table");
  made.append(element("caption", title));
  const head = element("tr");
  const numeric = columns.map((_, at) => rows.length > 0 && rows.every((row) => typeof row[at] === "number"));
  columns.forEach((name, at) => {
    const cell = element("th", undefined, numeric[at] ? "number" : "");
    cell.scope = "col";
    // A reason's name is broken between its words where the table would be wider than the page.
    name.split("_").forEach((word, part) => cell.append(...(part ? ["_", element("wbr"), word] : [word])));
    head.append(cell);
  });
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
  for (const button of document.querySelectorAll("button[data-look]")) button.addEventListener("click", () => look(button.dataset.look));
  for (const chart of document.querySelectorAll(".chart")) chart.setAttribute("aria-label", chart.querySelector("h2").textContent);
  byId("drag-note").hidden = touch.matches;
  darkness.addEventListener("change", drawAll);
  if (current) {
    offerStrategies();
    drawAll();
  } else {
    for (const part of document.querySelectorAll(".chart, #controls")) part.hidden = true;
  }
  document.documentElement.dataset.drawn = "yes";
}

show();
