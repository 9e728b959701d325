/** What was typed and not sent: it outlives its page, since that is shown anew when the gateway comes back. */

import { session } from './api.js';

const drafts = new Map();
let owner = '';

/**
 * Keep what is typed into a control, and give back what was typed there before by the same key.
 * @template {HTMLInputElement|HTMLTextAreaElement|HTMLSelectElement} T
 * @param {string} name of the draft
 * @param {T} control
 * @returns {T} the control
 */
export function draft(name, control) {
  if (owner !== session.key) drafts.clear();
  owner = session.key;
  if (drafts.has(name)) control.value = drafts.get(name);
  control.addEventListener('input', () => owner === session.key && drafts.set(name, control.value));
  return control;
}
