// The status page: asks the sidecar each step, and shows what it says. All text goes in as text.

import { Chart, age, count, duration, el, moment, rate, say } from "./charts.js";
import { Details, failures } from "./details.js";

const FORMAT = 1;
const RETRY_MS = 1000;
const PATIENCE_MS = 5000;
const EVENTS_SHOWN = 8;
const EMPTY = { answered_per_s: 0, failed_per_s: 0, p50_us: null, p99_us: null };
const SIGNS = { good: "✓", warn: "!", bad: "✕", wait: "…" };

const $ = (id) => document.getElementById(id);
const state = { cursor: "", page: "", head: null, models: [], events: [], numbers: null, first: 1, last: 0, series: new Map(), skewS: 0, lostAt: null, heardAt: null, allEvents: false, placed: false };
const rows = new Map();

// Time, by the sidecar's clock.

function now() {
  return Date.now() / 1000 + state.skewS;
}

function today() {
  return new Date(now() * 1000).toISOString().slice(0, 10);
}

// A time that tells its age; `tick` keeps it.
function since(node, seconds, { before = "", after = " ago" } = {}) {
  if (seconds === null) {
    delete node.dataset.since;
    return say(node, "");
  }
  Object.assign(node.dataset, { since: seconds, before, after });
  node.title = `${moment(seconds)} UTC`;
  grow(node);
}

function grow(node) {
  say(node, `${node.dataset.before}${age(now() - Number(node.dataset.since))}${node.dataset.after}`);
}

function tick() {
  const lost = document.documentElement.dataset.link === "lost"; // what is shown then is from before
  for (const node of document.querySelectorAll(lost ? "#lost [data-since]" : "[data-since]")) grow(node);
}

// Copying.

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Where the page is not on loopback and not under TLS, browsers have no clipboard but this one.
    const area = el("textarea", { class: "hidden", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function copyable(text, shown) {
  const word = el("span", { class: "word" }, "Copy");
  const button = el("button", { type: "button", class: "copy", "aria-label": `Copy ${text}` }, word);
  button.addEventListener("click", async () => {
    const focused = document.activeElement;
    const done = await copyText(text);
    focused?.focus?.();
    say(word, done ? "Copied" : "Not copied");
    say($("said"), done ? "Copied" : "The browser did not let it be copied");
    setTimeout(() => say(word, "Copy"), 1500);
  });
  return el("span", { class: "digest" }, el("code", { title: text }, shown), " ", button);
}

// What a model is, in one word.

function standing(model) {
  const answers = model.versions.find((it) => it.version === model.default_version && it.state === "AVAILABLE");
  const loading = model.versions.some((it) => it.state === "START" || it.state === "LOADING");
  if (!answers && loading && !model.refused) return { answers, rank: 2, tone: "wait", word: "Loading" };
  if (!answers) return { answers, rank: 0, tone: "bad", word: model.refused ? "Refused, no answers" : "Not answering" };
  if (model.problem) return { answers, rank: 1, tone: "warn", word: model.refused ? "New file refused" : "Behind" };
  if (model.behind_since_s !== null) return { answers, rank: 3, tone: "wait", word: "Loading a new one" };
  return { answers, rank: 4, tone: "good", word: "Answers" };
}

function why(model) {
  if (model.problem) return model.problem;
  return model.versions.map((it) => it.reason && `version ${it.version}: ${it.reason}`).filter(Boolean).join("; ");
}

// One model's row: made once and then kept up, so that focus, selection and what is open stay.

class Row {
  constructor(name) {
    this.name = name;
    this.open = false;
    this.details = null;
    const id = `model-${name}`;
    this.button = el("button", { type: "button", class: "name", id, "aria-expanded": "false", "aria-controls": `details-${name}` }, el("span", { class: "turn", "aria-hidden": "true" }, "›"), el("span", {}, name));
    this.button.addEventListener("click", () => this.toggle(!this.open));
    this.chips = el("span", { class: "chips" });
    this.sign = el("span", { class: "sign", "aria-hidden": "true" });
    this.word = el("span");
    this.behind = el("span", { class: "quiet" });
    this.answers = el("div");
    this.since = el("span");
    this.sinceUtc = el("span", { class: "quiet" });
    this.contract = el("span", { class: "contract" });
    this.rate = el("span", { class: "now" });
    this.rates = new Chart(`${name}: calls answered per second`, [{ name: "", style: "answered" }], rate, { height: 30, explore: false });
    this.failedRate = el("span");
    this.failed = el("span", { class: "failed-now", title: "not answered", hidden: true }, " ✕ ", this.failedRate, el("span", { class: "hidden" }, " not answered"));
    this.quantiles = el("span", { class: "now" });
    this.latency = new Chart(`${name}: latency`, [{ name: "p50", style: "p50" }, { name: "p99", style: "p99" }], duration, { height: 30, explore: false });
    const cell = (label, ...children) => el("td", { role: "cell", "data-label": label }, ...children);
    this.main = el(
      "tr",
      { role: "row", class: "main" },
      el("th", { role: "rowheader", scope: "row" }, this.button, this.chips),
      cell("State", el("span", { class: "state" }, this.sign, this.word), this.behind),
      cell("Answers now", this.answers),
      cell("Since", this.since, this.sinceUtc),
      cell("Contract", this.contract),
      cell("Answered", el("div", { class: "spark" }, el("span", { class: "values" }, this.rate, this.failed), this.rates.node)),
      cell("Latency, p50 · p99", el("div", { class: "spark" }, this.quantiles, this.latency.node)),
    );
    this.reason = el("p", { class: "reason" });
    this.reasonRow = el("tr", { role: "row", class: "why", hidden: true }, el("td", { role: "cell", colspan: "7" }, this.reason));
    this.inside = el("td", { role: "cell", colspan: "7", id: `details-${name}` });
    this.insideRow = el("tr", { role: "row", class: "inside", hidden: true }, this.inside);
    this.node = el("tbody", { role: "rowgroup", class: "model" }, this.main, this.reasonRow, this.insideRow);
  }

  toggle(open) {
    this.open = open;
    this.button.setAttribute("aria-expanded", String(open));
    this.insideRow.hidden = !open;
    this.node.classList.toggle("open", open);
    if (open && !this.details) {
      this.details = new Details(this.name, copyable);
      this.inside.append(this.details.node);
    }
    history.replaceState(null, "", open ? `#model-${this.name}` : location.pathname);
    this.draw();
  }

  describe(model) {
    this.model = model;
    const { answers, tone, word, rank } = standing(model);
    Object.assign(this, { rank, tone });
    this.node.dataset.tone = tone;
    say(this.sign, SIGNS[tone]);
    say(this.word, word);
    since(this.behind, rank < 4 ? model.behind_since_s : null, { before: "behind for ", after: "" });
    const chips = [
      model.pinned_version && ["pinned", `pinned to ${model.pinned_version} by a rollback`],
      model.required && !answers && ["required", "required"],
      ...Object.entries(model.labels).map(([label, version]) => ["label", `${label} → ${version}`]),
    ].filter(Boolean);
    this.chips.replaceChildren(...chips.map(([style, text]) => el("span", { class: `chip ${style}` }, text)));
    const others = model.versions.filter((it) => it.state === "AVAILABLE" && it !== answers).map((it) => it.version);
    const told = JSON.stringify([answers?.version, answers?.digest, others]);
    if (this.answers.dataset.told !== told) {
      this.answers.dataset.told = told;
      this.answers.replaceChildren(
        ...(answers ? [el("span", { class: "version" }, `version ${answers.version} `), copyable(answers.digest, answers.digest.slice(0, 12))] : ["nothing"]),
        ...(others.length ? [el("span", { class: "quiet also" }, `also ${others.join(", ")}`)] : []),
      );
    }
    since(this.since, answers?.available_since_s ?? null);
    say(this.sinceUtc, answers?.available_since_s ? `${moment(answers.available_since_s, today())} UTC` : "");
    say(this.contract, answers ? answers.contract_hash.slice(0, 12) || "unverified" : "");
    this.contract.classList.toggle("unverified", Boolean(answers && !answers.contract_hash));
    const last = model.last_problem;
    const over = last?.until_s ? `Over since ${moment(last.until_s, today())} UTC: ${last.text}` : "";
    const reason = rank < 2 ? why(model) || "Nothing is known of it yet." : "";
    say(this.reason, reason || over);
    this.reasonRow.hidden = !(reason || over);
    this.reasonRow.classList.toggle("over", !reason);
    this.found = [model.name, ...Object.keys(model.labels), ...model.versions.map((it) => it.digest), word, model.pinned_version ? "pinned" : "", answers && !answers.contract_hash ? "unverified" : ""].join("\n").toLowerCase();
  }

  draw() {
    if (!this.model || !state.head) return;
    const { step_s: stepS } = state.head;
    const series = seriesOf(this.name);
    const numbers = state.numbers?.models[this.name];
    const last = (key) => series[key].at(-1) ?? null;
    say(this.rate, `${rate(last("answered_per_s") ?? 0)}/s`);
    const failed = last("failed_per_s") ?? 0;
    this.failed.hidden = !failed;
    say(this.failedRate, `${rate(failed)}/s`);
    const [p50, p99] = [last("p50_us"), last("p99_us")];
    if (p50 === null) {
      since(this.quantiles, numbers?.last_answered_s ?? null, { before: "last " });
      if (!numbers?.last_answered_s) say(this.quantiles, "no calls yet");
    } else {
      delete this.quantiles.dataset.since;
      say(this.quantiles, `${duration(p50)} · ${duration(p99)}`);
    }
    this.rates.update([series.answered_per_s], stepS);
    this.latency.update([series.p50_us, series.p99_us], stepS);
    if (this.open) this.details.update(this.model, numbers, series, stepS);
  }
}

// Series: what the server sends only of what happened is filled up with what did not.

function seriesOf(name) {
  const length = state.last ? state.last - state.first + 1 : 0;
  const held = state.series.get(name);
  if (held) return held;
  return Object.fromEntries(Object.entries(EMPTY).map(([key, value]) => [key, Array(length).fill(value)]));
}

function append(history, steps) {
  if (history.first !== state.last + 1) {
    state.series.clear();
    state.first = history.first;
    state.last = history.first - 1;
  }
  const before = state.last - state.first + 1;
  const more = history.last - history.first + 1;
  if (more <= 0) return;
  for (const name of new Set([...state.series.keys(), ...Object.keys(history.series)])) {
    const held = state.series.get(name);
    const came = history.series[name];
    const joined = {};
    for (const [key, value] of Object.entries(EMPTY)) {
      joined[key] = [...(held?.[key] ?? Array(before).fill(value)), ...(came?.[key] ?? Array(more).fill(value))].slice(-steps);
    }
    state.series.set(name, joined);
  }
  state.last = history.last;
  state.first = Math.max(state.first, state.last - steps + 1);
}

// Drawing.

const charts = {
  answered: new Chart("Calls answered per second", [{ name: "", style: "answered" }], (value) => `${rate(value)}/s`),
  failed: new Chart("Calls not answered per second", [{ name: "", style: "failed" }], (value) => `${rate(value)}/s`),
  latency: new Chart("Latency of answered calls", [{ name: "p50", style: "p50" }, { name: "p99", style: "p99" }], duration),
};
for (const [name, chart] of Object.entries(charts)) $(`${name}-chart`).append(chart.node);

function drawVerdict() {
  const { head, models } = state;
  const ranks = models.map((model) => standing(model).rank);
  const tally = (wanted) => ranks.filter((rank) => wanted.includes(rank)).length;
  const [silent, behind, loading] = [tally([0]), tally([1]), tally([2, 3])];
  const answering = models.filter((model) => standing(model).answers).length;
  const parts = [
    `${answering} of ${models.length} ${models.length === 1 ? "model answers" : "models answer"}`,
    behind && `${behind} behind`,
    silent && `${silent} not answering`,
    loading && `${loading} loading`,
  ].filter(Boolean);
  let [tone, word, text] = ["good", "Ready", `${parts.join(", ")}.`];
  if (head.stopping) [tone, word, text] = ["bad", "Stopping", "Calls in flight are answered, new ones are not."];
  else if (!head.ready && head.missing.length) {
    const named = head.missing.slice(0, 5).join(", ") + (head.missing.length > 5 ? ` and ${head.missing.length - 5} more` : "");
    [tone, word, text] = ["bad", "Not ready", `Required and not answering: ${named}. ${text}`];
  } else if (!head.ready) [tone, word, text] = ["bad", "Not ready", models.length ? text : "There are no models."];
  else if (silent || behind) [tone, word] = ["warn", "Ready, with problems"];
  $("verdict").dataset.tone = tone;
  say($("verdict-sign"), SIGNS[tone]);
  say($("verdict-word"), word);
  say($("verdict-text"), text);
  since($("up"), head.started_at_s, { before: "up for ", after: "" });
  document.title = `${SIGNS[tone]} ${word} · ${location.host} · tickserve`;
  say($("count-all"), count(models.length));
  say($("count-attention"), count(silent + behind + loading));
}

function drawTiles() {
  const { step_s: stepS, rpcs_in_flight: inFlight } = state.head;
  const series = seriesOf("*");
  charts.answered.update([series.answered_per_s], stepS);
  charts.failed.update([series.failed_per_s], stepS);
  charts.latency.update([series.p50_us, series.p99_us], stepS);
  const last = (key) => series[key].at(-1) ?? null;
  say($("answered-now"), rate(last("answered_per_s") ?? 0));
  say($("failed-now"), rate(last("failed_per_s") ?? 0));
  say($("p50-now"), last("p50_us") === null ? "–" : duration(last("p50_us")));
  say($("p99-now"), last("p99_us") === null ? "–" : duration(last("p99_us")));
  const { total, no_model: unknown } = state.numbers;
  const failed = total.failed.reduce((sum, it) => sum + it.calls, 0);
  const worst = total.failed[0];
  say($("answered-total"), `${count(total.answered)} since the start, ${count(total.rows)} rows`);
  say($("failed-total"), failed ? `${count(failed)} since the start, most: ${worst.reason}` : "none since the start");
  say($("in-flight"), `${count(inFlight)} RPCs and streams open`);
  $("failed-tile").dataset.tone = last("failed_per_s") > 0 ? "warn" : "none";
  $("tiles").hidden = false;
  const told = JSON.stringify(total.failed);
  if ($("failures").dataset.told !== told) {
    $("failures").dataset.told = told;
    const lost = unknown.failed.reduce((sum, it) => sum + it.calls, 0);
    const note = lost ? el("p", { class: "quiet" }, `${count(lost)} of them named no model that is known here.`) : "";
    $("failures").replaceChildren(failures(total.failed), note);
  }
  $("failures-section").hidden = !failed;
}

function drawModels() {
  const names = new Set(state.models.map((model) => model.name));
  for (const [name, row] of rows) {
    if (names.has(name)) continue;
    row.node.remove();
    rows.delete(name);
  }
  for (const model of state.models) {
    if (!rows.has(model.name)) rows.set(model.name, new Row(model.name));
    rows.get(model.name).describe(model);
  }
  // Problems first, then by name. Only what is out of place moves, so that focus stays.
  const order = [...rows.values()].sort((a, b) => a.rank - b.rank || (a.name < b.name ? -1 : 1));
  let before = $("table").tHead;
  for (const row of order) {
    if (before.nextElementSibling !== row.node) {
      const focused = row.node.contains(document.activeElement) ? document.activeElement : null;
      before.after(row.node);
      focused?.focus({ preventScroll: true });
    }
    before = row.node;
  }
  filter();
}

function filter() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const which = new FormData($("filter")).get("which");
  let shown = 0;
  for (const row of rows.values()) {
    const wanted = words.every((word) => row.found.includes(word)) && (which === "all" || row.rank < 4);
    const appears = wanted && row.node.hidden;
    row.node.hidden = !wanted;
    if (appears) row.draw();
    shown += wanted;
  }
  $("table").hidden = !shown;
  $("filter").hidden = !rows.size;
  $("none").hidden = Boolean(shown);
  say($("shown"), rows.size ? `${shown} of ${rows.size} models shown` : "");
  if (shown) return;
  const hint = ["Put a file NAME.onnx, or NAME/VERSION/model.onnx, into the folder that ", el("code", {}, "inference-server serve --models"), " names; it is taken up by itself. With ", el("code", {}, "--control explicit"), ", load one by ", el("code", {}, "inference-server load NAME"), "."];
  const text = rows.size ? [which === "all" ? "No model fits what you look for." : "No model needs attention."] : [el("strong", {}, "No models yet. "), ...hint];
  $("none").replaceChildren(...text);
}

const TOLD = {
  ready: ["good", () => "ready"],
  not_ready: ["bad", () => "not ready"],
  answers: ["good", (it) => `version ${it.version} (${it.digest.slice(0, 12)}) answers`],
  silent: ["bad", (it) => `does not answer${it.text ? `: ${it.text}` : ""}`],
  problem: ["warn", (it) => it.text],
  mended: ["good", (it) => `over: ${it.text}`],
};

function drawEvents() {
  const shown = state.allEvents ? state.events : state.events.slice(0, EVENTS_SHOWN);
  const day = today();
  $("events").replaceChildren(
    ...shown.map((it) => {
      const [tone, tell] = TOLD[it.kind] ?? ["wait", () => it.kind];
      const ago = el("span", { class: "quiet" });
      since(ago, it.at_s);
      const when = el("time", { datetime: new Date(it.at_s * 1000).toISOString() }, moment(it.at_s, day));
      return el("li", { "data-tone": tone }, el("span", { class: "sign", "aria-hidden": "true" }, SIGNS[tone]), el("p", { class: "when" }, when, " ", ago), el("p", { class: "what" }, el("strong", {}, it.model || "The sidecar"), " ", tell(it)));
    }),
  );
  $("events-section").hidden = !state.events.length;
  $("more-events").hidden = state.events.length <= EVENTS_SHOWN;
  say($("more-events"), state.allEvents ? "Show fewer" : `Show all ${state.events.length}`);
}

// Asking.

function take(document_) {
  if (document_.format !== FORMAT || (state.page && state.page !== document_.page)) {
    location.reload(); // another release answers at this address: its page goes with it
    return;
  }
  const { models, events, numbers, history, ...head } = document_;
  Object.assign(state, { head, cursor: head.cursor, page: head.page, skewS: head.now_s - Date.now() / 1000, heardAt: head.now_s, lostAt: null });
  if (history) append(history, head.steps);
  if (numbers) state.numbers = numbers;
  if (models) state.models = models;
  if (events) state.events = events;
  if (models) {
    drawModels();
    drawEvents();
  }
  drawVerdict();
  if (numbers || models) {
    drawTiles();
    for (const row of rows.values()) if (!row.node.hidden) row.draw();
  }
  if (!state.placed) openNamed();
  state.placed = true;
  say($("release"), `tickserve ${head.release}`);
  say($("live-text"), `Live · ${moment(head.now_s, today())} UTC`);
  $("lost").hidden = true;
  document.documentElement.dataset.link = "live";
}

function lose(error) {
  if (state.lostAt === null) {
    state.lostAt = now();
    const ago = el("span");
    since(ago, state.heardAt ?? state.lostAt, { before: "", after: " ago" });
    const text = state.heardAt
      ? [el("strong", {}, "Connection lost. "), `The last answer came at ${moment(state.heardAt, today())} UTC, `, ago, ". What is below is from then."]
      : [el("strong", {}, "No answer yet. ")];
    $("lost").replaceChildren(...text, el("span", { class: "quiet" }, ` (${error}) `), "Asking again each second.");
    $("lost").hidden = false;
    document.title = `✕ Connection lost · ${location.host} · tickserve`;
  }
  say($("live-text"), "Not connected");
  document.documentElement.dataset.link = "lost";
}

let timer = 0;
let asking = false;

async function ask() {
  clearTimeout(timer);
  if (document.hidden || asking) return; // nobody looks, or one is on its way
  asking = true;
  let wait = RETRY_MS;
  try {
    const answer = await fetch(`/status.json?cursor=${encodeURIComponent(state.cursor)}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    take(await answer.json());
    wait = state.head.step_s * 1000;
  } catch (error) {
    lose(error.name === "TimeoutError" ? `no answer within ${PATIENCE_MS / 1000} s` : error.message);
  } finally {
    asking = false;
    timer = setTimeout(ask, wait);
  }
}

// Open the model that the address names after its #.
function openNamed() {
  const name = location.hash.replace(/^#model-/, ""); // no name has a character that a browser would encode
  const row = rows.get(name);
  if (!row) return;
  if (!row.open) row.toggle(true);
  row.node.scrollIntoView({ block: "start" });
}

say($("host"), location.host);
$("search").addEventListener("input", filter);
$("filter").addEventListener("change", filter);
$("filter").addEventListener("submit", (event) => event.preventDefault());
$("more-events").addEventListener("click", () => {
  state.allEvents = !state.allEvents;
  drawEvents();
});
document.addEventListener("visibilitychange", ask);
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
  event.preventDefault();
  $("search").focus();
});
addEventListener("hashchange", openNamed);
addEventListener("online", ask);
setInterval(tick, 1000);
await ask();
