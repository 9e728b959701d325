/** Files to drop or choose, and what becomes of each. */

import { ApiError, api, upload } from '../lib/api.js';
import { bytes, number } from '../lib/format.js';
import { Uploads, choose, filesOf } from '../lib/uploads.js';
import { badge, button, el, newId, replace } from '../lib/ui.js';

// Jobs that one question may list, and that are asked after one by one.
const MOST_LISTED = 200;
const MOST_ALONE = 3;
const LOST = { state: 'failed', error: 'its job is no longer known: was its document deleted?' };
// Rows that are shown; the line above them counts all.
const MOST_ROWS = 50;
const WORDS = {
  queued: ['plain', 'queued'],
  sending: ['plain', 'sending'],
  waiting: ['plain', 'waits for a worker'],
  running: ['plain', 'is indexed'],
  done: ['good', 'stored'],
  dead: ['bad', 'given up'],
  failed: ['bad', 'refused'],
  cancelled: ['warning', 'withdrawn'],
};

/**
 * @param {{me: any, signal: AbortSignal, collection: () => string, onStored: () => void}} page collection: where files go now
 * @returns {HTMLElement}
 */
export function uploadView({ me, signal, collection, onStored }) {
  const status = el('p', { role: 'status', class: 'muted' });
  const rows = el('ul', { class: 'uploads', tabindex: 0, 'aria-label': 'Files', hidden: true });
  const stop = button('Stop sending', () => uploads.stop());
  const clear = button('Clear the list', () => uploads.clear(), { kind: 'quiet' });
  const bar = el('div', { class: 'row', hidden: true }, status, stop, clear);
  let stored = 0;
  let drawing = 0;
  const draw = () => {
    drawing = 0;
    const counts = uploads.counts();
    bar.hidden = rows.hidden = !uploads.items.length;
    stop.hidden = !uploads.canStop();
    clear.hidden = counts.done + counts.dead + counts.failed + counts.cancelled === 0;
    const said = describe(counts, uploads.items.length);
    if (status.textContent !== said) status.textContent = said;
    replace(rows, choose(uploads.items, MOST_ROWS).map(row), more(uploads.items.length));
    if (counts.done > stored) onStored();
    stored = counts.done;
  };
  // Many files report at once: one drawing a frame is enough.
  const onChange = () => (drawing ||= requestAnimationFrame(draw));
  const uploads = new Uploads({ limits: me.limits ?? {}, suffixes: me.suffixes ?? [], signal, onChange, send: sender(signal), look: looker(signal) });
  const warn = (event) => uploads.counts().queued + uploads.counts().sending > 0 && event.preventDefault();
  window.addEventListener('beforeunload', warn, { signal });
  const add = (files) => uploads.add(files, collection());
  return el('section', { class: 'stack', 'aria-label': 'Upload' }, dropZone(me, add, signal), bar, rows);
}

function dropZone(me, add, signal) {
  const hint = newId('hint');
  const accept = (me.suffixes ?? []).join(',');
  const input = el('input', { type: 'file', multiple: true, accept, 'aria-describedby': hint, name: 'file' });
  input.addEventListener('change', () => {
    add(Array.from(input.files, (file) => ({ file, name: file.webkitRelativePath || file.name })));
    // The same file may be chosen again.
    input.value = '';
  });
  const words = [me.suffixes?.length && me.suffixes.join(', '), me.limits?.upload_bytes && `up to ${bytes(me.limits.upload_bytes)}`].filter(Boolean);
  const zone = el(
    'div',
    { class: 'drop' },
    el('p', { class: 'strong', text: 'Drop files or folders here' }),
    el('p', {}, 'or ', el('label', { class: 'button choose' }, 'Choose files', input)),
    el('p', { class: 'hint', id: hint, text: words.join(', ') }),
  );
  let depth = 0;
  const mark = (by) => zone.classList.toggle('over', (depth = Math.max(0, depth + by)) > 0);
  const listen = (type, act) => zone.addEventListener(type, act, { signal });
  listen('dragenter', (event) => (event.preventDefault(), mark(1)));
  listen('dragleave', () => mark(-1));
  listen('dragover', (event) => event.preventDefault());
  listen('drop', async (event) => {
    event.preventDefault();
    mark(-depth);
    add(await filesOf(event.dataTransfer));
  });
  // A file that misses the zone would be opened in place of the page.
  for (const type of ['dragover', 'drop']) window.addEventListener(type, (event) => event.preventDefault(), { signal });
  return zone;
}

function sender(signal) {
  return async (item, onProgress) => {
    const form = new FormData();
    form.append('collection', item.collection);
    if (item.name !== item.file.name) {
      // Of a folder: its path tells it apart from files of the same name.
      form.append('document_id', item.name);
      form.append('metadata', JSON.stringify({ source: item.name }));
    }
    form.append('file', item.file, item.file.name);
    const { data } = await upload('/v1/documents', form, { onProgress, signal });
    return data.data[0].job_id;
  };
}

/** What became of jobs: many by one list of the newest ones, what is not in it one by one, the oldest first. Does not raise. */
function looker(signal) {
  return async (items) => {
    const found = new Map();
    const note = (job) => found.set(job.id, job);
    try {
      if (items.length > MOST_ALONE) {
        const collection = items[0].collection;
        (await api('/v1/jobs', { query: { collection, limit: MOST_LISTED }, signal })).data.data.forEach(note);
      }
      const rest = items.filter(({ job }) => !found.has(job)).slice(0, MOST_ALONE);
      for (const { job } of rest) note({ id: job, ...(await lookAlone(job, signal)) });
    } catch {
      // A gateway that is away or full is asked again in the next round.
    }
    return found;
  };
}

async function lookAlone(job, signal) {
  try {
    return (await api(`/v1/jobs/${encodeURIComponent(job)}`, { signal })).data;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return LOST;
    throw error;
  }
}

/** @param {Object<string, number>} counts @param {number} all @returns {string} */
export function describe(counts, all) {
  const parts = [
    `${number(counts.done)} of ${number(all)} stored`,
    counts.queued + counts.sending > 0 && `${number(counts.queued + counts.sending)} to send: stay on this page`,
    counts.waiting + counts.running > 0 && `${number(counts.waiting + counts.running)} with the worker`,
    counts.failed + counts.dead > 0 && `${number(counts.failed + counts.dead)} not taken`,
    counts.cancelled > 0 && `${number(counts.cancelled)} withdrawn`,
  ];
  return parts.filter(Boolean).join(', ');
}

function row(item) {
  const [kind, words] = WORDS[item.state] ?? ['plain', item.state];
  const isSending = item.state === 'sending' && item.sent < item.file.size;
  const progress = isSending && el('progress', { max: item.file.size, value: item.sent, 'aria-label': `Bytes sent of ${item.name}` });
  const size = isSending && item.sent ? `${bytes(item.sent)} of ${bytes(item.file.size)}` : bytes(item.file.size);
  return el(
    'li',
    {},
    el('span', { class: 'name wrap', dir: 'auto', text: item.name }),
    el('span', { class: 'muted', text: size }),
    badge(kind, item.state === 'sending' && !isSending ? 'is read' : words),
    progress,
    item.reason && el('span', { class: `reason wrap ${item.state === 'dead' || item.state === 'failed' ? 'bad' : 'muted'}`, text: item.reason }),
  );
}

function more(all) {
  return all > MOST_ROWS && el('li', { class: 'muted', text: `and ${number(all - MOST_ROWS)} more` });
}
