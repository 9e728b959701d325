/** What waits for a worker, and what it gave up: dead letters, with the reason, to try again or to forget. */

import { api } from '../lib/api.js';
import { ago, number, time } from '../lib/format.js';
import { button, confirm, el, errorBox, heading, notice, pager, replace, table } from '../lib/ui.js';

const ROWS = 20;
const LOOK_MS = 3000;

/**
 * @param {{signal: AbortSignal, onChange: () => void}} page onChange: a job ended, so that there may be other documents
 * @returns {{node: HTMLElement, reload: () => Promise<void>}}
 */
export function jobList({ signal, onChange }) {
  // No live region: during a long ingestion it is another number at each look.
  const line = el('p', { class: 'muted' });
  const wrong = el('div', {});
  const all = button('Retry all on this page', () => each(shown, retry), { kind: 'quiet' });
  const title = heading('Given up');
  const dead = el('div', { class: 'stack', hidden: true }, el('div', { class: 'row apart' }, title, all));
  const node = el('section', { class: 'stack', 'aria-label': 'Jobs', hidden: true }, line, wrong, dead);
  let shown = [];
  let timer = 0;
  let open = 0;
  let told = '';
  let isActing = false;

  const load = async (after) => {
    try {
      const { data } = await api('/v1/jobs', { query: { state: 'dead', after, limit: ROWS }, signal });
      note(data);
      return data;
    } catch (error) {
      // Shown by the pager, in a part that may have been empty so far.
      dead.hidden = node.hidden = false;
      throw error;
    }
  };
  const note = ({ counts, workers }) => {
    const left = counts.waiting + counts.running;
    const words = JSON.stringify([counts, workers]);
    if (words !== told) replace(line, describe(counts, workers));
    told = words;
    title.textContent = counts.dead === 1 ? '1 document was given up' : `${number(counts.dead)} documents were given up`;
    dead.hidden = !counts.dead;
    node.hidden = !counts.dead && !left;
    if (left < open) onChange();
    open = left;
    clearTimeout(timer);
    if (left) timer = setTimeout(look, LOOK_MS);
  };
  /** Only the numbers, unless there are other dead letters than those that are shown. */
  const look = async () => {
    if (signal.aborted) return;
    try {
      const { data } = await api('/v1/jobs', { query: { state: 'dead', limit: 1 }, signal });
      const isNew = data.data[0] && !shown.some(({ id }) => id === data.data[0].id);
      note(data);
      if (isNew) await pages.reload();
    } catch {
      // The shell says that the gateway is away.
      if (!signal.aborted) timer = setTimeout(look, LOOK_MS);
    }
  };
  const retry = (job) => api(`/v1/jobs/${encodeURIComponent(job.id)}/retry`, { method: 'POST', signal });
  const forget = async (job) => {
    const text = `The text of ${job.document_id} that waits in the queue is thrown away. What is stored of the document stays.`;
    if (await confirm({ title: 'Forget this job?', text, action: 'Forget' })) await each([job], forgetOne);
  };
  const forgetOne = (job) => api(`/v1/jobs/${encodeURIComponent(job.id)}`, { method: 'DELETE', signal });
  const each = async (jobs, act) => {
    // A second click would find jobs that are no longer dead, and call that a fault.
    if (isActing) return;
    isActing = true;
    replace(wrong);
    const faults = [];
    for (const job of jobs) await act(job).catch((error) => faults.push(error));
    isActing = false;
    // One that somebody else has tried again meanwhile keeps none of the others.
    if (faults.length && !signal.aborted) replace(wrong, errorBox(faults[0], { again: null }));
    await pages.reload();
  };
  const render = (rows) => {
    shown = rows;
    all.hidden = rows.length < 2;
    return tableOf(rows, { retry: (job) => each([job], retry), forget });
  };
  const pages = pager({ load, render, label: 'Pages of jobs that were given up' });
  dead.append(pages.node);
  signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
  return { node, reload: pages.reload };
}

function tableOf(rows, { retry, forget }) {
  const columns = [
    { name: 'document_id', label: 'Document', cell: (job) => el('span', { class: 'wrap', dir: 'auto', text: job.document_id }) },
    { name: 'error', label: 'Reason', cell: ({ error }) => el('span', { class: 'wrap', text: error ?? 'unknown' }) },
    { name: 'collection', label: 'Collection', cell: ({ collection }) => el('span', { class: 'wrap', dir: 'auto', text: collection }) },
    { name: 'attempts', label: 'Attempts', align: 'right' },
    { name: 'created_at', label: 'Sent', cell: ({ created_at: at }) => (at ? el('time', { datetime: at, title: time(at), text: ago(at) }) : 'unknown') },
    {
      name: 'acts',
      label: 'Actions',
      align: 'right',
      cell: (job) => [
        button('Retry', () => retry(job), { name: `Retry ${job.document_id}` }),
        ' ',
        button('Forget', () => forget(job), { kind: 'quiet', name: `Forget ${job.document_id}` }),
      ],
    },
  ];
  return table({ caption: 'Jobs that were given up', columns, rows, empty: 'None.', cards: true });
}

/** @returns {any} what waits; that nobody works is said aloud */
function describe({ waiting, running }, workers) {
  if (waiting + running === 0) return null;
  const said = `${number(waiting)} waiting, ${number(running)} being indexed, ${workers === 1 ? '1 worker' : `${number(workers)} workers`}`;
  if (workers || !waiting) return said;
  return notice('warning', `${number(waiting)} waiting, and no worker is alive: trireme worker starts one.`);
}
