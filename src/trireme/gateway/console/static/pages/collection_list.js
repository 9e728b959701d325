/** The collections of the tenant: what is in each, what waits for it; one can be opened, or deleted after a question. */

import { api } from '../lib/api.js';
import { number } from '../lib/format.js';
import { button, confirm, el, errorBox, heading, notice, pager, replace, table } from '../lib/ui.js';

const ROWS = 10;

/**
 * @param {{me: any, signal: AbortSignal, choose: ((name: string) => void)|null, onChange: (name: string) => void}} page
 *   choose: show the documents of a collection, null where nobody may; onChange: it was deleted
 * @returns {{node: HTMLElement, reload: () => Promise<void>}}
 */
export function collectionList({ me, signal, choose, onChange }) {
  const wrong = el('div', {});
  const canDelete = me.endpoints.includes('documents');
  const load = async (after) => (await api('/v1/vector_stores', { query: { after, limit: ROWS }, signal })).data;
  const remove = async ({ id, passages }) => {
    const text = `Collection ${id} is deleted with its ${number(passages)} passages and with what waits for it. This cannot be undone.`;
    if (!(await confirm({ title: 'Delete this collection?', text, action: 'Delete the collection' }))) return;
    try {
      // Of a large one this takes a minute.
      replace(wrong, notice('info', `Collection ${id} is being deleted …`));
      await api(`/v1/vector_stores/${encodeURIComponent(id)}`, { method: 'DELETE', signal });
      replace(wrong);
      onChange(id);
      await pages.restart();
    } catch (error) {
      if (!signal.aborted) replace(wrong, errorBox(error, { again: null }));
    }
  };
  const columns = [
    { name: 'id', label: 'Collection', cell: ({ id }) => (choose ? button(id, () => choose(id), { kind: 'link', name: `Show the documents of ${id}` }) : id) },
    { name: 'passages', label: 'Passages', align: 'right', cell: ({ passages }) => number(passages) },
    { name: 'waiting', label: 'Waiting', align: 'right', cell: ({ file_counts: counts }) => number(counts.in_progress) },
    { name: 'failed', label: 'Given up', align: 'right', cell: ({ file_counts: counts }) => number(counts.failed) },
    canDelete && { name: 'delete', label: 'Actions', align: 'right', cell: (row) => button('Delete', () => remove(row), { kind: 'quiet', name: `Delete collection ${row.id}` }) },
  ].filter(Boolean);
  const render = (rows) => table({ caption: 'Collections', columns, rows, empty: 'There is no collection yet: the first document makes one.', cards: true });
  const pages = pager({ load, render, label: 'Pages of collections' });
  return { node: el('section', { class: 'stack' }, heading('Collections'), wrong, pages.node), reload: pages.reload };
}
