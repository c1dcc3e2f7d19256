// The observer's page. It asks for a snapshot once a second while somebody looks at it, and shows what has changed. Everything that it is
// told may be a stranger's words: it is only ever put into the page as text.
"use strict";

const PERIOD = 1000; // ms between two snapshots
const PATIENCE = 5000; // ms until a snapshot is given up
const ROWS = 1000; // tasks in the table at once
const LANES = 40; // tasks in the timeline at once
const POINTS = 300; // of a plot, one per snapshot
const EVENTS = 500; // kept here
const COURSES = 1500; // tasks kept here, done ones first to go
const LOG = 1 << 20; // characters of a log that are shown
const GIB = 1 << 30; // bytes

const STAGES = [
  ["accepted", "waiting"], ["pulling", "pull"], ["creating", "create"], ["running", "run"], ["collecting", "collect"],
  ["uploading", "upload"], ["reporting", "report"], ["cleaning", "clean up"],
];

const $ = (id) => document.getElementById(id);
const element = (name, text, kind) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const svg = (name, attributes, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
};
// A page is touched only where it changes: selections stay, and a thousand rows cost little.
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const mark = (node, kind) => { if (node.className !== kind) node.className = kind; };

// What is not printable, or turns the direction of writing, is shown by its code.
const plain = (text) => String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
  (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

const span = (seconds) => {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return Math.round(seconds * 1000) + " ms";
  if (seconds < 60) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
  const [s, m, h, d] = [Math.floor(seconds) % 60, Math.floor(seconds / 60) % 60, Math.floor(seconds / 3600) % 24, Math.floor(seconds / 86400)];
  if (d) return d + " d " + h + " h";
  return h ? h + " h " + m + " min" : m + " min " + s + " s";
};
const amount = (n) => Number.isInteger(n) ? String(n) : n.toFixed(2).replace(/0+$/, "").replace(/\.$/, "");
const bytes = (n) => {
  if (n === null || n === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit++; }
  return n.toFixed(n < 10 && unit ? 1 : 0) + " " + units[unit];
};
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

const state = {
  number: 0, process: null, last: null, events: [], courses: new Map(), plots: new Map(), drift: 0, heard: 0, open: null,
  logged: 0,
};

// ---- asking

let asking = false;
async function look() {
  if (asking || document.hidden) return;
  asking = true;
  try {
    const answer = await fetch("api/v1/observer?process=" + (state.process || 0) + "&since=" + state.number, { signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
    take(await answer.json());
  } catch (error) {
    trouble(error);
  } finally {
    asking = false;
  }
}

function trouble(error) {
  const ago = state.last ? ", last heard " + span((Date.now() - state.heard) / 1000) + " ago" : "";
  put($("health"), "the worker does not answer" + ago + ": " + plain(error.message));
  mark($("health"), "bad");
}

function take(now) {
  if (state.process !== null && state.process !== now.process) {
    // What the former process held stands still; the new one tells of what it has found again.
    const end = state.heard + state.drift;
    for (const course of state.courses.values()) course.done = course.done || end;
  }
  state.process = now.process;
  state.number = now.number;
  state.last = now;
  state.heard = Date.now();
  state.drift = now.now - Date.now();
  state.events.push(...now.events);
  state.events.splice(0, Math.max(0, state.events.length - EVENTS));
  for (const course of now.courses) {
    state.courses.delete(course.task);
    state.courses.set(course.task, course);
  }
  for (const [task, course] of state.courses) {
    if (state.courses.size <= COURSES) break;
    if (course.done) state.courses.delete(task);
  }
  show(now);
}

// ---- showing

function show(now) {
  showHealth(now);
  showContacts(now);
  showPlots(now);
  showActors(now);
  showEvents(now);
  showTimeline();
  showTasks(now);
}

function showHealth(now) {
  document.title = (now.ready ? "" : "! ") + now.worker + " – worker-node";
  put($("worker"), plain(now.worker));
  put($("program"), "worker-node " + now.program + ", process " + now.process + ", up " + span(now.uptime_seconds));
  const reasons = now.reasons.map((reason) => plain(reason.what) + ": " + plain(reason.why));
  if (!now.supervisor_answers) reasons.push("supervisor: it does not answer");
  put($("health"), reasons.length ? "not ready – " + reasons.join("; ") : "healthy: new tasks are taken");
  mark($("health"), reasons.length ? "bad" : "good");
}

function showContacts(now) {
  const { master, engine } = now;
  const rows = [
    ["master", master.address + (master.registered_seconds === null ? ", not registered" : ", registered for " + span(master.registered_seconds))],
    ["heartbeat", master.heartbeat_age_seconds === null ? "none was taken yet"
      : span(master.heartbeat_age_seconds) + " ago, took " + span(master.heartbeat_round_trip_seconds)],
    ["engine", engine.address + (engine.version ? ", version " + engine.version : ", away for " + span(engine.away_seconds))],
    ["disk", bytes(now.disk_free_bytes) + " free"],
  ];
  if (master.failure) rows.splice(2, 0, ["", "failing for " + span(master.failing_seconds) + ": " + master.failure]);
  if (engine.failure) rows.push(["", engine.failure]);
  const list = $("contacts");
  while (list.children.length > rows.length * 2) list.lastChild.remove();
  rows.forEach(([name, value], i) => {
    if (list.children.length <= i * 2) list.append(element("dt"), element("dd"));
    put(list.children[i * 2], name);
    put(list.children[i * 2 + 1], plain(value));
  });
}

function plot(name, value, most, words) {
  let one = state.plots.get(name);
  if (!one) {
    const box = element("div", undefined, "plot");
    one = { points: [], words: element("span", "", "value"), line: svg("polyline", {}) };
    const picture = svg("svg", { viewBox: "0 0 " + (POINTS - 1) + " 100", preserveAspectRatio: "none", role: "img", "aria-label": name });
    picture.append(one.line);
    box.append(element("span", name, "name"), one.words, picture);
    $("plots").append(box);
    state.plots.set(name, one);
  }
  one.points.push(value);
  if (one.points.length > POINTS) one.points.shift();
  const top = Math.max(most || 0, ...one.points, 1e-9);
  const first = POINTS - one.points.length;
  const at = (v, i) => (first + i) + "," + (97 - 94 * v / top).toFixed(1);
  one.line.setAttribute("points", one.points.map(at).join(" "));
  put(one.words, words);
}

function showPlots(now) {
  const { held, room } = now;
  const of = (name) => amount(held[name]) + " of " + amount(room[name]);
  plot("tasks", held.tasks, room.tasks < 100 ? room.tasks : 0, of("tasks"));
  plot("cores reserved", held.cores, room.cores, of("cores"));
  plot("GiB reserved", held.memory_gib, room.memory_gib, of("memory_gib"));
  if (room.gpus) plot("GPUs reserved", held.gpus, room.gpus, of("gpus"));
  const took = now.master.heartbeat_round_trip_seconds || 0;
  plot("heartbeat round trip", took, 0, span(took));
}

// Rows of a table by key, in the given order; `fill` is called for each with its cells.
function rows(table, keys, columns, fill) {
  const body = table.tBodies[0];
  const kept = table.kept || (table.kept = new Map());
  const wanted = new Set(keys);
  for (const [key, row] of kept) if (!wanted.has(key)) { row.remove(); kept.delete(key); }
  keys.forEach((key, i) => {
    let row = kept.get(key);
    if (!row) {
      row = document.createElement("tr");
      for (const kind of columns) row.append(element("td", "", kind));
      row.dataset.key = key;
      kept.set(key, row);
    }
    if (body.children[i] !== row) body.insertBefore(row, body.children[i] || null);
    fill(key, row, row.cells);
  });
}

function showActors(now) {
  // Tasks have a table of their own: of their actors, those are here that have failed.
  const shown = now.actors.filter((actor) => !actor.is_task || actor.restarts || actor.state !== "RUNNING");
  const by = new Map(shown.slice(0, 200).map((actor) => [actor.name, actor]));
  rows($("actors"), [...by.keys()], ["name", "", "number", "number", "number", "", "number", "words"], (name, row, cells) => {
    const actor = by.get(name);
    const fresh = actor.last_restart_seconds !== null && actor.last_restart_seconds < 6;
    mark(row, [actor.state, actor.is_task ? "task" : "", fresh ? "fresh" : ""].join(" ").trim());
    put(cells[0], plain(name));
    cells[0].title = plain(actor.runs_on + (actor.last_message ? ", last message " + actor.last_message : ""));
    if (!cells[1].firstChild) cells[1].append(element("span", "", "dot"), element("span", ""));
    put(cells[1].lastChild, actor.state);
    put(cells[2], span(actor.uptime_seconds));
    put(cells[3], String(actor.restarts));
    put(cells[4], String(actor.mailbox));
    if (!cells[5].firstChild) cells[5].append(document.createElement("meter"));
    cells[5].firstChild.value = actor.busy;
    cells[5].title = (100 * actor.busy).toFixed(1) + " % of its life";
    put(cells[6], String(actor.handled));
    put(cells[7], actor.last_reason ? plain(actor.last_reason) : "");
  });
}

function showEvents(now) {
  const list = $("events");
  for (const event of now.events) {
    const cause = event.cause ? ": " + plain(event.cause) : "";
    const bad = event.failure || event.event === "hung" || event.event === "gave_up";
    list.prepend(element("li", clock(event.at) + "  " + plain(event.actor) + " " + event.event + " (" + event.generation + ")" + cause, bad ? "bad" : ""));
  }
  while (list.children.length > EVENTS) list.lastChild.remove();
}

function bars(course, from, to) {
  return course.stages.map(([stage, at], i) => {
    const end = i + 1 < course.stages.length ? course.stages[i + 1][1] : course.done || to;
    return { stage, at, from: Math.max(at, from), to: Math.min(end, to), took: end - at };
  }).filter((bar) => bar.to > bar.from || (bar.at >= from && bar.at <= to));
}

function showTimeline() {
  const picture = $("timeline");
  const width = Math.max(300, picture.clientWidth || 800);
  const to = Date.now() + state.drift;
  const from = to - 1000 * Number($("window").value);
  const [left, lane, top] = [Math.min(190, width * 0.28), 16, 34];
  const x = (at) => left + (width - left - 8) * (at - from) / (to - from);
  const recent = [...state.courses.values()].filter((course) => course.stages.length && (course.done || to) >= from).slice(-LANES);
  const parts = [];
  for (let i = 0; i <= 4; i++) {
    const at = from + (to - from) * i / 4;
    parts.push(svg("line", { x1: x(at), x2: x(at), y1: 14, y2: top + lane * recent.length }));
    parts.push(svg("text", { x: x(at), y: 10, "text-anchor": i === 4 ? "end" : i ? "middle" : "start" }, clock(at)));
  }
  parts.push(svg("text", { x: 0, y: 27 }, "actors"));
  for (const event of state.events) {
    if (event.at < from) continue;
    const bad = event.failure || event.event === "hung" || event.event === "gave_up";
    const tick = svg("line", { x1: x(event.at), x2: x(event.at), y1: bad ? 16 : 20, y2: bad ? 32 : 28, class: bad ? "tick bad" : "tick" });
    tick.append(svg("title", {}, clock(event.at) + " " + plain(event.actor) + " " + event.event + (event.cause ? ": " + plain(event.cause) : "")));
    parts.push(tick);
  }
  recent.reverse().forEach((course, i) => {
    const y = top + i * lane;
    const name = plain(course.task);
    parts.push(svg("text", { x: 0, y: y + 11 }, name.length > left / 6.5 ? name.slice(0, left / 6.5) + "…" : name));
    for (const bar of bars(course, from, to)) {
      const box = svg("rect", { x: x(bar.from), y: y + 2, width: Math.max(1.5, x(bar.to) - x(bar.from)), height: lane - 5, class: "s-" + bar.stage });
      box.append(svg("title", {}, name + ": " + bar.stage + " for " + span(bar.took / 1000)));
      parts.push(box);
    }
  });
  picture.setAttribute("height", top + lane * recent.length + 4);
  picture.setAttribute("viewBox", "0 0 " + width + " " + (top + lane * recent.length + 4));
  picture.replaceChildren(...parts);
}

function showTasks(now) {
  const live = new Map(now.tasks.map((task) => [task.task, task]));
  const words = $("filter").value.trim().toLowerCase();
  const withDone = $("with-done").checked;
  const names = [...new Set([...state.courses.keys(), ...live.keys()])].reverse();
  const matching = names.filter((name) => {
    const [course, task] = [state.courses.get(name), live.get(name)];
    if (!task && !withDone) return false;
    if (!words) return true;
    return [name, course && course.image, task ? task.stage : "done", course && course.outcome].some((text) => text && text.toLowerCase().includes(words));
  });
  put($("tasks-count"), "(" + live.size + " here, " + (names.length - live.size) + " done lately)");
  put($("tasks-more"), matching.length > ROWS ? (matching.length - ROWS) + " more: say which to show" : "");
  rows($("tasks"), matching.slice(0, ROWS), ["name", "name", "", "number", "number", "number", "number", ""], (name, row, cells) => {
    const [course, task] = [state.courses.get(name), live.get(name)];
    const stages = course ? course.stages : [];
    const since = stages.length ? stages[stages.length - 1][1] : null;
    if (!cells[0].firstChild) {
      const button = element("button", plain(name));
      button.type = "button";
      cells[0].append(button);
      cells[0].title = plain(name);
    }
    mark(row, state.open === name ? "open" : "");
    put(cells[1], course && course.image ? plain(course.image) : "");
    put(cells[2], task ? task.stage : course && course.done ? "done" : "–");
    put(cells[3], task && since ? span(Math.max(0, now.now - since) / 1000) : course && course.done && stages.length ? span((course.done - stages[0][1]) / 1000) : "–");
    const used = task && task.used;
    put(cells[4], task ? (used ? amount(used.cores) + " of " : "") + amount(task.cores) : "");
    put(cells[5], task ? (used ? amount(used.memory_bytes / GIB) + " of " : "") + amount(task.memory_gib) : "");
    put(cells[6], task ? amount(task.gpus) : "");
    put(cells[7], course && course.outcome ? course.outcome : "");
    mark(cells[7], course && course.outcome ? course.outcome : "");
  });
}

// ---- logs

let reading = null;

async function openLog(task) {
  closeLog();
  state.open = task;
  const mine = reading = new AbortController();
  put($("log-title"), "Log of " + plain(task));
  put($("log-state"), "reading …");
  $("log").textContent = "";
  state.logged = 0;
  $("log-section").hidden = false;
  $("log-section").scrollIntoView({ block: "nearest" });
  try {
    const answer = await fetch("api/v1/tasks/" + encodeURIComponent(task) + "/log", { signal: mine.signal });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    put($("log-state"), "live");
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      addLog(decoder.decode(value, { stream: true }));
    }
    put($("log-state"), "ended: the log is over, the worker stops, or others read");
  } catch (error) {
    if (mine.signal.aborted) return;
    put($("log-state"), plain(error.message));
  }
}

function addLog(text) {
  // Colours and movements of a terminal's cursor are left out; a progress bar's last state is what stays of its line.
  const clean = text.replace(/\u001b\[[0-?]*[ -/]*[@-~]/g, "").replace(/\r\n/g, "\n").replace(/[^\n]*\r(?=[^\n])/g, "");
  const log = $("log");
  const shown = clean.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
  log.append(shown);
  state.logged += shown.length;
  while (state.logged > LOG && log.childNodes.length > 1) {
    state.logged -= log.firstChild.length;
    log.firstChild.remove();
  }
  if ($("log-follow").checked) log.scrollTop = log.scrollHeight;
}

function closeLog() {
  if (reading) reading.abort();
  reading = null;
  state.open = null;
  $("log-section").hidden = true;
}

// ---- beginning

for (const [stage, words] of STAGES) {
  const one = element("span");
  one.append(element("i", "", "s-" + stage), words);
  $("legend").append(one);
}
$("tasks").addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-key]");
  if (row) openLog(row.dataset.key);
});
$("log-close").addEventListener("click", closeLog);
for (const id of ["filter", "with-done"]) $(id).addEventListener("input", () => state.last && showTasks(state.last));
$("window").addEventListener("input", showTimeline);
document.addEventListener("visibilitychange", look);
look();
setInterval(look, PERIOD);
