"use strict";
// Follows /events, and says so when it cannot. All texts go in by textContent: none is markup.
(() => {
  const SILENCE = 5000; // no event for so long (ms): the server hangs, or the way to it
  const AGAIN = 1000; // between two tries to reach it
  const LIVED = 5000; // a stream that lived so long and breaks is followed by the next at once
  const LONGEST = 10000; // else from AGAIN on, twice as long each time, up to this
  const GLYPHS = { init: "○", connecting: "◐", ready: "✓", failed: "✕", stopped: "■" };
  const MOST_NAMED = 5;
  const DEPTH = Number(document.body.dataset.depth);

  const get = (id) => document.getElementById(id);
  const table = document.querySelector("main > table");
  const rows = new Map(); // by connection: its status, and its element
  // Wherever it is mounted, and whatever a proxy takes away: beside this page.
  const url = location.pathname.replace(/\/?$/, "/") + "events";

  let source = null;
  let ahead = 0; // how much this clock is ahead of the server's, in seconds
  let silence = 0;
  let retry = 0;
  let patience = AGAIN;
  let heardAt = null;
  let goneSince = null;

  const now = () => Date.now() / 1000 - ahead;

  function moment(seconds) {
    const date = new Date(seconds * 1000);
    const style = { hourCycle: "h23" }; // logs have no afternoon either
    const today = new Date().toDateString() === date.toDateString();
    return today ? date.toLocaleTimeString([], style) : date.toLocaleString([], style);
  }

  function duration(seconds) {
    if (seconds < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
    const whole = Math.round(seconds);
    const units = [[86400, "d", 3600, "h"], [3600, "h", 60, "m"], [60, "m", 1, "s"]];
    for (const [unit, name, below, part] of units) {
      if (whole >= unit) {
        return `${Math.floor(whole / unit)} ${name} ${Math.floor((whole % unit) / below)} ${part}`;
      }
    }
    return `${whole} s`;
  }

  function set(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  // -- a connection

  function fill(body, field, text) {
    for (const element of body.querySelectorAll(`[data-field="${field}"]`)) set(element, text);
  }

  function upcoming(status) {
    if (status.next_attempt_at !== null) {
      return `in ${duration(Math.max(status.next_attempt_at - now(), 0))}`;
    }
    return status.attempt ? `attempt ${status.attempt}` : "–";
  }

  function tick({ status, body }) {
    fill(body, "since", duration(now() - status.since));
    fill(body, "next", upcoming(status));
  }

  function show(row) {
    const { status, body } = row;
    const ping = status.last_ping_seconds;
    body.dataset.name = status.name;
    body.dataset.state = status.state;
    fill(body, "name", status.name);
    fill(body, "kind", `${status.backend}, ${status.required ? "required" : "optional"}`);
    fill(body, "glyph", GLYPHS[status.state] || "?");
    fill(body, "state", status.state);
    fill(body, "ping", ping === null ? "–" : `${(ping * 1000).toFixed(1)} ms`);
    fill(body, "generation", String(status.generation));
    fill(body, "reason", status.reason || "");
    fill(body, "error", status.error || "");
    body.querySelector(".trouble").hidden = !(status.reason || status.error);
    tick(row);
  }

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.textContent = text;
    return made;
  }

  function addSteps(body, steps) {
    const list = body.querySelector("ol");
    for (const step of steps) {
      const item = document.createElement("li");
      const at = element("time", "", moment(step.at));
      at.dateTime = new Date(step.at * 1000).toISOString();
      const why = [step.reason, step.error].filter(Boolean).join(": ");
      const taken = element("span", "step", `${step.source} → ${step.target}`);
      const event = element("span", "", `(${step.event.replace("_", " ")})`);
      item.append(at, " ", taken, " ", event, element("span", "why", why));
      list.prepend(item);
    }
    while (list.children.length > DEPTH) list.lastElementChild.remove();
    body.querySelector("details").hidden = !list.children.length;
    fill(body, "count", String(list.children.length));
  }

  function bodyFor(name) {
    const made = get("row").content.querySelector("tbody").cloneNode(true);
    made.dataset.name = name;
    return made;
  }

  // -- what the server says

  function snapshot(message) {
    // In the server's order; elements stay what they are, with what is open and in focus.
    const served = new Map();
    for (const body of table.tBodies) served.set(body.dataset.name, body);
    rows.clear();
    for (const { steps, ...status } of message.connections) {
      const body = served.get(status.name) || bodyFor(status.name);
      served.delete(status.name);
      const row = { status, body };
      rows.set(status.name, row);
      body.querySelector("ol").replaceChildren();
      addSteps(body, steps);
      show(row);
    }
    for (const body of served.values()) body.remove();
    [...rows.values()].forEach(({ body }, index) => {
      if (table.tBodies[index] !== body) table.insertBefore(body, table.tBodies[index] || null);
    });
    set(get("runtime"), message.runtime);
  }

  function update(message) {
    const told = [];
    for (const { steps, ...status } of message.connections) {
      const row = rows.get(status.name);
      if (row.status.state !== status.state) {
        told.push(`${status.name} is ${status.state}${status.reason ? `: ${status.reason}` : ""}`);
      }
      row.status = status;
      addSteps(row.body, steps);
      show(row);
    }
    if (told.length > MOST_NAMED) announce(`${told.length} connections have changed`);
    else if (told.length) announce(told.join("; "));
  }

  function readiness({ status, checks, reasons }) {
    const all = [...rows.values()];
    const ready = all.filter((row) => row.status.state === "ready").length;
    const parts = [`${ready} of ${all.length} connections ready.`];
    const failed = Object.keys(reasons).filter((name) => (checks[name] || "fail") === "fail");
    const optional = Object.keys(reasons).filter((name) => !failed.includes(name));
    for (const [label, names] of [["Failing", failed], ["Optional", optional]]) {
      const shown = names.slice(0, MOST_NAMED).map((name) => `${name} (${reasons[name]})`);
      if (names.length > MOST_NAMED) shown.push(`${names.length - MOST_NAMED} more`);
      if (names.length) parts.push(`${label}: ${shown.join(", ")}.`);
    }
    get("readiness").dataset.healthy = String(status === "healthy");
    set(get("verdict"), status === "healthy" ? "Ready" : "Not ready");
    set(get("why"), parts.join(" "));
  }

  function announce(text) {
    get("news").textContent = text;
  }

  function title() {
    const verdict = goneSince === null ? get("verdict").textContent : "No answer";
    const text = `${verdict} – ${get("runtime").textContent}`;
    if (document.title !== text) document.title = text;
  }

  let lastReadiness = null;

  function heard(event, apply) {
    const message = JSON.parse(event.data);
    ahead = Date.now() / 1000 - message.now;
    heardAt = Date.now();
    if (apply) apply(message);
    if (message.readiness) lastReadiness = message.readiness;
    if (lastReadiness && apply) readiness(lastReadiness);
    back();
    listen();
    title();
  }

  // -- the way to it

  function link(state, text) {
    get("link").dataset.link = state;
    set(get("link-text"), text);
  }

  function back() {
    if (goneSince !== null) {
      goneSince = null;
      get("gone").hidden = true;
      delete document.body.dataset.stale;
      announce("The program answers again.");
    }
    link("live", "Live");
  }

  function gone(why) {
    if (goneSince === null) {
      goneSince = Date.now();
      const since = heardAt === null ? "" : ` It was last heard at ${moment(heardAt / 1000)}.`;
      document.body.dataset.stale = "";
      set(get("gone"), `${why}${since} What you see is what was known then; this page keeps trying.`);
      get("gone").hidden = false;
      title();
    }
    link("gone", "No answer");
  }

  function listen() {
    clearTimeout(silence);
    silence = setTimeout(() => { gone("The program does not answer."); reopen(AGAIN); }, SILENCE);
  }

  function close() {
    clearTimeout(silence);
    clearTimeout(retry);
    if (source) source.close();
    source = null;
  }

  function reopen(milliseconds) {
    close();
    retry = setTimeout(open, milliseconds);
  }

  function ended(event) {
    const { why, retry: seconds } = JSON.parse(event.data);
    patience = AGAIN;
    if (why === "busy") link("live", `Every ${seconds} s (too many readers for more)`);
    else if (why !== "renewed") gone("The program has stopped.");
    reopen(seconds * 1000);
  }

  // In the middle: it may be a proxy's bound, and the next try tells. Not at once where it lived
  // briefly: something on the way that cuts each of them off would make a busy loop of it.
  function brokeOff(lived) {
    const wait = lived < LIVED ? patience : 0;
    patience = wait ? Math.min(patience * 2, LONGEST) : AGAIN;
    link("none", wait ? `Again in ${wait / 1000} s (it was cut off)` : "Reconnecting…");
    reopen(wait);
  }

  function open() {
    close();
    source = new EventSource(url);
    let first = true;
    const began = performance.now();
    source.addEventListener("snapshot", (event) => { first = false; heard(event, snapshot); });
    source.addEventListener("update", (event) => heard(event, update));
    source.addEventListener("heartbeat", (event) => heard(event, null));
    source.addEventListener("end", ended);
    source.onerror = () => {
      if (first) {
        gone("The program does not answer.");
        reopen(AGAIN);
      } else {
        brokeOff(performance.now() - began);
      }
    };
    listen();
  }

  // A browser has six connections for each server: pages that nobody sees keep none of them.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { close(); link("none", "Paused"); } else open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  setInterval(() => { if (goneSince === null) for (const row of rows.values()) tick(row); }, 1000);
  if (!document.hidden) open();
})();
