"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const now = { seed: data.seeds[0], arm: data.arms[0], dose: 0, side: "before", time: 0, playing: false };
  const traced = Object.values(data.takes).some((take) => take.monitor);
  const icons = {
    play: '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 4v16l13-8z"/></svg>',
    pause: '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 4h4v16H6zM14 4h4v16h-4z"/></svg>',
  };

  // What is shown -----------------------------------------------------------------------------------------------

  const number = (x) => String(+x.toFixed(6));
  const amount = (dose) => (number(dose) + " " + data.unit).trim();
  const single = data.arms.every((arm) => data.doses[arm].length === 1);
  const doses = () => [...new Set([...(single ? [] : [0]), ...data.doses[now.arm]])].sort((a, b) => a - b);
  const dose = () => doses()[now.dose];
  const unsteered = () => find(data.unsteered, 0);

  function find(arm, dose) {
    // doses of unsteered takes are not asked for; there is one a seed
    const start = arm + "|", end = "|" + now.seed;
    const key = Object.keys(data.takes).find((one) => {
      if (!one.startsWith(start) || !one.endsWith(end)) return false;
      return arm === data.unsteered || Number(one.slice(start.length, one.length - end.length)) === dose;
    });
    return data.takes[key];
  }

  // dose 0 of an arm is the unsteered music, unless the arm has no doses at all
  const own = () => find(now.arm, dose());
  const takeOf = (side) => (side === "before" ? unsteered() : own() || unsteered());
  const nameOf = (side) => (side === "before" ? "Unsteered" : !own() ? now.arm + ", dose 0: unsteered"
    : dose() === 0 ? now.arm : now.arm + ", " + amount(dose()));
  const length = () => Math.max(takeOf("before").seconds, takeOf("after").seconds);

  // Sound: one element a take, so that a change of dose goes on at the same moment ----------------------------------

  const pool = new Map();
  let sounding = null;

  function sound(take) {
    if (!pool.has(take)) {
      const one = new Audio();
      one.preload = "auto";
      one.src = take.sound;
      one.addEventListener("ended", () => one === sounding && ended());
      one.addEventListener("error", () => one === sounding && stop("This sound cannot be played: " + one.src));
      pool.set(take, one);
    }
    return pool.get(take);
  }

  function follow() {
    // the element of the chosen side, at the common position
    const next = sound(takeOf(now.side));
    if (next === sounding) return;
    if (sounding && now.playing) now.time = sounding.currentTime;
    if (sounding) sounding.pause();
    sounding = next;
    sounding.currentTime = now.time;
    if (now.playing) start();
  }

  function start() {
    sounding.play().catch((error) => error.name !== "AbortError" && stop("The browser does not play: " + error.message));
  }

  function ended() {
    now.time = 0;
    sounding.currentTime = 0;
    if (at("loop").checked) start();
    else { now.playing = false; paint(); }
  }

  function stop(words) {
    now.playing = false;
    paint();
    at("keys").textContent = words;
  }

  function play(side) {
    if (now.playing && now.side === side) {
      now.playing = false;
      now.time = sounding.currentTime;
      sounding.pause();
    } else {
      if (sounding && now.playing) now.time = sounding.currentTime;
      now.side = side;
      const was = sounding;
      follow();
      now.playing = true;
      if (was === sounding) sounding.currentTime = now.time;
      start();
      requestAnimationFrame(tick);
    }
    paint();
  }

  function seek(seconds) {
    now.time = Math.min(Math.max(seconds, 0), length());
    if (sounding) sounding.currentTime = now.time;
    moved();
  }

  function tick() {
    if (!now.playing) return;
    now.time = sounding.currentTime;
    moved();
    requestAnimationFrame(tick);
  }

  // Pictures --------------------------------------------------------------------------------------------------------

  const left = 42, right = 8, top = 6, high = 170, gap = 30, low = 96, foot = 36;
  const total = top + high + (traced ? gap + low : 0) + foot;
  const scale = {};

  function node(name, attributes, words) {
    const one = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
    if (words !== undefined) one.textContent = words;
    return one;
  }

  function draw(side) {
    const svg = at(side).querySelector(".view");
    const take = takeOf(side);
    const wide = Math.max(svg.clientWidth, 200), inner = wide - left - right;
    const x = (seconds) => left + (inner * seconds) / length();
    scale[side] = { x, seconds: (px) => ((px - left) / inner) * length() };
    svg.setAttribute("viewBox", `0 0 ${wide} ${total}`);
    svg.setAttribute("height", total);
    const parts = [node("image", { href: take.picture, x: left, y: top, width: x(take.seconds) - left, height: high,
      preserveAspectRatio: "none" })];
    for (const [height, name] of data.frequencies)
      parts.push(node("text", { x: left - 6, y: top + high * (1 - height) + 4, "text-anchor": "end" }, name));
    if (data.start !== null) {
      parts.push(node("line", { class: "mark", x1: x(data.start), x2: x(data.start), y1: top, y2: top + high }));
      parts.push(node("text", { class: "marked", x: x(data.start) + 5, y: top + 14 }, "generated"));
    }
    let bottom = top + high;
    if (traced) {
      const y0 = top + high + gap;
      bottom = y0 + low;
      parts.push(...monitor(take.monitor, x, y0));
    }
    const step = length() > 20 ? 5 : length() > 8 ? 2 : 1;
    for (let t = 0; t <= length() + 1e-6; t += step) {
      parts.push(node("line", { class: "axis", x1: x(t), x2: x(t), y1: bottom, y2: bottom + 4 }));
      parts.push(node("text", { x: x(t), y: bottom + 17, "text-anchor": t ? "middle" : "start" }, t + (t ? "" : " s")));
    }
    parts.push(node("line", { class: "halo moves", y1: top, y2: top + high }));
    parts.push(node("line", { class: "cursor moves", y1: top, y2: top + high }));
    if (traced) parts.push(node("line", { class: "cursor-below moves", y1: top + high, y2: bottom }));
    svg.replaceChildren(...parts);
    svg.setAttribute("aria-label", `Mel spectrogram (kHz over seconds) of ${nameOf(side)}` +
      (take.monitor ? ", below it what the monitor hears" : ""));
  }

  function monitor(trace, x, y0) {
    const y = (p) => y0 + low * (1 - p), end = x(length());
    const parts = [];
    for (const p of [0, 0.5, 1]) {
      parts.push(node("line", { class: "axis", x1: left, x2: end, y1: y(p), y2: y(p) }));
      parts.push(node("text", { x: left - 6, y: y(p) + 4, "text-anchor": "end" }, p));
    }
    const what = data.monitored || "the trait";
    const title = trace ? (end < 360 ? "Probability of " : "Monitor: probability of ") + what : "not monitored";
    parts.push(node("text", { x: left, y: y0 - 9 }, title));
    if (!trace) return parts;
    const legend = node("text", { x: end, y: y0 - 9, "text-anchor": "end" });
    if (trace.tau !== null) {
      parts.push(node("line", { class: "limit", x1: left, x2: end, y1: y(trace.tau), y2: y(trace.tau) }));
      legend.append(node("tspan", { class: "limit-name" }, "dashed: threshold " + trace.tau.toFixed(2)));
    }
    if (trace.acted.length) legend.append(node("tspan", {}, (trace.tau !== null ? ", " : "") + "ticks: pushed"));
    parts.push(legend);
    const points = trace.t.map((t, i) => `${x(t).toFixed(1)} ${y(trace.p[i]).toFixed(1)}`);
    if (points.length) parts.push(node("path", { class: "trace", d: "M" + points.join("L") }));
    for (const t of trace.acted)
      parts.push(node("line", { class: "acted", x1: x(t), x2: x(t), y1: y0 + low - 7, y2: y0 + low }));
    return parts;
  }

  function moved() {
    for (const side of ["before", "after"]) {
      const px = scale[side].x(Math.min(now.time, length()));
      for (const line of at(side).querySelectorAll(".moves")) {
        line.setAttribute("x1", px);
        line.setAttribute("x2", px);
      }
    }
    const words = now.time.toFixed(2) + " s of " + length().toFixed(1) + " s";
    at("time").value = now.time;
    at("time").setAttribute("aria-valuetext", words);
    at("time-now").textContent = words;
  }

  // The page ----------------------------------------------------------------------------------------------------------

  function paint() {
    const list = doses();
    at("dose").max = list.length - 1;
    at("dose").value = now.dose;
    at("dose").setAttribute("aria-valuetext", amount(dose()));
    at("dose-now").textContent = amount(dose());
    at("ticks").replaceChildren(...list.map((one, i) => {
      const mark = document.createElement("span");
      mark.textContent = number(one);
      mark.style.left = (100 * i) / Math.max(list.length - 1, 1) + "%";
      mark.className = i === now.dose ? "on" : "";
      return mark;
    }));
    at("time").max = length();
    for (const side of ["before", "after"]) {
      const on = now.playing && now.side === side;
      const box = at(side), button = box.querySelector(".play");
      box.querySelector("h2").textContent = nameOf(side);
      const notes = Object.entries(takeOf(side).notes).map(([name, value]) => `${name}: ${value}`);
      box.querySelector(".note").textContent = notes.join(" · ");
      button.setAttribute("aria-pressed", on);
      button.setAttribute("aria-label", (on ? "Pause " : "Play ") + nameOf(side));
      button.innerHTML = on ? icons.pause : icons.play;
      box.dataset.sound = takeOf(side).sound.slice(0, 200);
      draw(side);
    }
    moved();
  }

  function change(values) {
    const before = dose();
    Object.assign(now, values);
    if ("arm" in values) now.dose = nearest(before);
    for (const one of data.doses[now.arm]) sound(find(now.arm, one));
    sound(unsteered());
    follow();
    paint();
  }

  function nearest(wanted) {
    const list = doses();
    return list.reduce((best, one, i) => (Math.abs(one - wanted) < Math.abs(list[best] - wanted) ? i : best), 0);
  }

  for (const [id, values] of [["seed", data.seeds], ["arm", data.arms]])
    at(id).replaceChildren(...values.map((value) => new Option(value, value)));
  for (const side of ["before", "after"]) {
    at(side).innerHTML = `<header><button type="button" class="play"></button>` +
      `<div><h2 id="${side}-name"></h2><p class="note"></p></div></header><svg class="view" role="img"></svg>`;
    at(side).querySelector(".play").addEventListener("click", () => play(side));
    at(side).querySelector(".view").addEventListener("click", (event) => {
      seek(scale[side].seconds(event.clientX - event.currentTarget.getBoundingClientRect().left));
    });
  }
  at("after").querySelector("h2").setAttribute("aria-live", "polite");
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("seed").addEventListener("change", () => change({ seed: Number(at("seed").value) }));
  at("arm").addEventListener("change", () => change({ arm: at("arm").value }));
  at("dose").addEventListener("input", () => change({ dose: Number(at("dose").value), side: "after" }));
  at("time").addEventListener("input", () => seek(Number(at("time").value)));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, summary, a")) return;
    const own = event.target.closest("input, button"); // what these do with the arrows and with Space stays theirs
    const keys = {
      " ": () => (own && own.type !== "range" ? null : () => play(now.side)),
      b: () => () => (now.playing ? play(other()) : change({ side: other() })),
      Home: () => (own && own.type === "range" ? null : () => seek(0)),
      ArrowLeft: () => (own && own.type === "range" ? null : () => step(-1)),
      ArrowRight: () => (own && own.type === "range" ? null : () => step(1)),
    };
    const action = (keys[event.key] || keys[event.key.toLowerCase()] || (() => null))();
    if (!action) return;
    event.preventDefault();
    action();
  });
  const other = () => (now.side === "before" ? "after" : "before");
  const step = (by) => change({ dose: Math.min(Math.max(now.dose + by, 0), doses().length - 1), side: "after" });

  for (const id of ["controls", "pair", "transport", "keys"]) at(id).hidden = false;
  for (const one of document.querySelectorAll(".dose, .dose-keys")) one.hidden = single; // one dose needs no slider
  now.dose = doses().length - 1;
  at("seed").value = now.seed;
  at("arm").value = now.arm;
  change({});
  new ResizeObserver(() => { draw("before"); draw("after"); moved(); }).observe(at("pair"));
})();
