// What opens under a model: its versions, its contract, its calls.

import { Chart, bytes, count, duration, el, moment, rate } from "./charts.js";

function time(seconds) {
  return el("time", { datetime: new Date(seconds * 1000).toISOString() }, `${moment(seconds)} UTC`);
}

function facts(pairs) {
  const list = el("dl", { class: "facts" });
  for (const [name, value] of pairs) if (value) list.append(el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  return list;
}

export function grid(caption, headings, rows) {
  const head = el("tr", {}, ...headings.map(([text, style]) => el("th", { scope: "col", class: style }, text)));
  const body = rows.map((cells) =>
    el("tr", {}, ...cells.map((cell, place) => el(place ? "td" : "th", { scope: place ? null : "row", class: headings[place][1] }, cell))),
  );
  return el("div", { class: "scroll" }, el("table", { class: "grid" }, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, ...body)));
}

export function failures(failed) {
  const rows = failed.map((it) => [it.reason, it.status, count(it.calls)]);
  return grid("By reason", [["reason"], ["gRPC status"], ["calls", "number"]], rows);
}

function outputs(contract) {
  const rows = contract.outputs.map((output) => {
    const means = output.classes.map((it) => `${it.class} = ${it.meaning || "nothing"}`).join(", ");
    return [output.name, output.kind, means || "–"];
  });
  return grid("Outputs, and what the classes mean", [["name"], ["kind"], ["class = meaning"]], rows);
}

function features(contract) {
  const rows = contract.features.map((it, place) => [String(place + 1), it.name, plain(it.low), plain(it.high)]);
  return grid(
    "Features in order, with their range in the training data",
    [["#", "number"], ["name"], ["lowest", "number"], ["highest", "number"]],
    rows,
  );
}

function plain(value) {
  return String(Number(value.toPrecision(6)));
}

function version(it, copy, isDefault) {
  const { contract, vetting } = it;
  const word = it.refused ? "REFUSED" : it.state;
  const section = el("section", { class: "version", "data-refused": it.refused }, el("h4", {}, `Version ${it.version} · ${word}${isDefault ? " · default" : ""}`));
  section.append(
    facts([
      ["reason", it.reason],
      ["digest (SHA-256)", it.digest && copy(it.digest, it.digest)],
      ["answers since", it.available_since_s && time(it.available_since_s)],
      ["vetted", vetting && el("span", {}, time(vetting.at_s), `: ${vetting.text}`)],
      ["memory", vetting && bytes(vetting.memory_bytes)],
      ["warm-up run", it.warm_up_us && duration(it.warm_up_us)],
      ["inputs", it.inputs.join(", ")],
      ["outputs", it.outputs.join(", ")],
    ]),
  );
  if (contract) {
    const includes = contract.includes_current_tick ? "with the current tick" : "without the current tick";
    section.append(
      facts([
        ["contract", copy(contract.hash, contract.hash)],
        ["window", `${contract.window} ticks, ${includes}`],
        ["NaN", contract.nan_policy === "refuse" ? "refused" : "accepted"],
        ["estimator", contract.estimator],
        ["trained", contract.trained_at_s && time(contract.trained_at_s)],
        ["libraries", contract.libraries.join(", ")],
        ["golden rows", count(contract.golden_rows)],
      ]),
      el("div", { class: "pair-of-tables" }, features(contract), outputs(contract)),
    );
  } else if (it.state === "AVAILABLE") {
    section.append(el("p", { class: "quiet" }, "Without a contract: plain ONNX, served unverified."));
  }
  return section;
}

// The opened part of one model's row. It asks for the contract only when it is opened.
export class Details {
  constructor(name, copy) {
    Object.assign(this, { name, copy, shown: "" });
    this.rates = new Chart(`Calls of ${name} answered and not answered, per second`, [{ name: "answered", style: "answered" }, { name: "not answered", style: "failed" }], rate, { height: 72 });
    this.latency = new Chart(`Latency of ${name}`, [{ name: "p50", style: "p50" }, { name: "p99", style: "p99" }], duration, { height: 72 });
    this.calls = el("div");
    this.versions = el("div", {}, el("p", { class: "quiet" }, "Asking …"));
    const chart = (title, drawn) => el("figure", {}, el("figcaption", {}, title), drawn.node);
    this.charts = el("div", { class: "pair-of-charts" }, chart("Answered, and (dotted) not answered, per second", this.rates), chart("Latency: p50, and (dashed) p99", this.latency));
    this.node = el(
      "div",
      { class: "details" },
      this.charts,
      this.calls,
      this.versions,
    );
  }

  update(model, numbers, series, stepS) {
    this.charts.hidden = ![...series.answered_per_s, ...series.failed_per_s].some(Boolean);
    this.rates.update([series.answered_per_s, series.failed_per_s], stepS);
    this.latency.update([series.p50_us, series.p99_us], stepS);
    const told = JSON.stringify(numbers?.failed ?? []);
    if (this.calls.dataset.told !== told) {
      this.calls.dataset.told = told;
      this.calls.replaceChildren(...(numbers?.failed.length ? [el("h4", {}, "Calls not answered, since the start"), failures(numbers.failed)] : []));
    }
    const wanted = JSON.stringify([model.versions, model.default_version]);
    if (this.shown !== wanted) this.ask(model, wanted);
  }

  async ask(model, wanted) {
    this.shown = wanted;
    try {
      const answer = await fetch(`/status/${encodeURIComponent(this.name)}.json`, { cache: "no-store" });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      const { versions } = await answer.json();
      if (this.shown !== wanted) return;
      const made = versions.map((it) => version(it, this.copy, it.version === model.default_version));
      this.versions.replaceChildren(...(made.length ? made : [el("p", { class: "quiet" }, "No version is known.")]));
    } catch {
      if (this.shown === wanted) this.shown = ""; // the next look asks again
    }
  }
}
