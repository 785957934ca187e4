"use strict";
const at = id => document.getElementById(id);

class Trouble extends Error {
  constructor(message, hint) { super(hint ? `${message}\n${hint}` : message); }
}

const say = error => { at("trouble").textContent = error ? error.message : ""; at("trouble").hidden = !error; };
const pause = ms => new Promise(done => setTimeout(done, ms));

async function ask(path, how = {}) {
  let response;
  try {
    response = await fetch(path, how);
  } catch {
    throw new Trouble("The program does not answer.", "Is it still running?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  const upper = (told.error || `The program says ${response.status}.`).replace(/^./, one => one.toUpperCase());
  throw Object.assign(new Trouble(upper, response.status === 401 ? "Open the address that was printed." : told.hint), { status: response.status });
}
