/** A passage in its document, the cited sentence marked, in a dialog. */

import { ApiError, api, session } from '../lib/api.js';
import { documentOf, splitSpan } from '../lib/passages.js';
import { button, el, errorBox, loading, newId, notice, replace } from '../lib/ui.js';

/**
 * @typedef {{id: string, document?: string, source: string, collection: string, start?: number, end?: number, text?: string,
 *   metadata?: any}} Place a passage; start, end: of a sentence in it, in characters; text: of that sentence, or of the passage
 *   where there are no start and end
 */

/**
 * Show it. The focus is kept in the dialog, and given back after it.
 * @param {Place} place
 * @param {{signal: AbortSignal}} page
 */
export function openPassage(place, { signal }) {
  const before = document.activeElement;
  const id = newId('passage');
  const ended = new AbortController();
  const body = el('div', { class: 'passage-body', tabindex: '0', role: 'region', 'aria-label': 'Passage' }, loading());
  const close = button('Close', () => dialog.close());
  const dialog = el(
    'dialog',
    { class: 'passage', 'aria-labelledby': id },
    el('h2', { id, dir: 'auto', text: place.source }),
    el('p', { class: 'muted', text: `Passage ${place.id} of collection ${place.collection}` }),
    body,
    el('div', { class: 'row' }, close, session.me?.endpoints.includes('documents') && linkTo(place, () => dialog.close())),
  );
  dialog.addEventListener('close', () => {
    ended.abort();
    dialog.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus();
  });
  // A click beside the dialog is one on the dialog itself.
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  signal.addEventListener('abort', () => dialog.close(), { once: true, signal: ended.signal });
  document.body.append(dialog);
  dialog.showModal();
  fill(body, place, AbortSignal.any([signal, ended.signal]));
}

async function fill(body, place, signal) {
  try {
    replace(body, await show(place, signal));
    body.querySelector('mark')?.scrollIntoView({ block: 'center' });
  } catch (error) {
    if (!signal.aborted) replace(body, errorBox(error, { again: () => fill(body, place, signal) }), place.text && textOf(place.text));
  }
}

async function show(place, signal) {
  if (place.start === undefined) return textOf(place.text);
  if (!session.me?.endpoints.includes('documents')) {
    return [notice('info', 'This key may not read documents: the sentence alone is shown.'), textOf(place.text)];
  }
  const found = await findPassage(place, signal);
  if (!found) {
    return [notice('warning', 'The document has changed since: this passage is no longer in it.'), textOf(place.text)];
  }
  return marked(found.text, place);
}

/** The passage, where its document still has it. */
async function findPassage(place, signal) {
  const query = { collection: place.collection, around: place.id, limit: 1 };
  // A document that was stored uncut is one passage of its own name.
  for (const name of new Set([documentOf(place), place.id])) {
    try {
      const { data } = await api(`/v1/documents/${encodeURIComponent(name)}`, { query, signal });
      return data.passages.find(({ id }) => id === place.id);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
    }
  }
  return undefined;
}

/** The text with the sentence marked; a sentence that stands elsewhere by now is looked for. */
function marked(text, { start, end, text: sentence }) {
  const parts = splitSpan(text, start, end);
  if (sentence && parts[1] !== sentence && text.includes(sentence)) {
    const at = text.indexOf(sentence);
    parts.splice(0, 3, text.slice(0, at), sentence, text.slice(at + sentence.length));
  }
  return el('p', { class: 'text', dir: 'auto' }, parts[0], parts[1] && el('mark', { text: parts[1] }), parts[2]);
}

function textOf(text) {
  return el('p', { class: 'text', dir: 'auto', text: text ?? '' });
}

function linkTo(place, onClick) {
  const query = new URLSearchParams({ collection: place.collection, document: documentOf(place), passage: place.id });
  return el('a', { class: 'button', href: `#/documents?${query}`, text: 'Open the document', on: { click: onClick } });
}
