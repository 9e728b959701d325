/** The documents of a collection: by id, found by how it begins, one page at a time. */

import { api, ApiError } from '../lib/api.js';
import { ago, number, time } from '../lib/format.js';
import { button, confirm, el, errorBox, field, heading, pager, replace, table } from '../lib/ui.js';

// A phone shows each row as a card.
const ROWS = matchMedia('(max-width: 640px)').matches ? 8 : 25;
const TYPING_MS = 250;

/**
 * @param {{signal: AbortSignal, collection: () => string, isThere: (name: string) => Promise<boolean>, onChange: () => void}} page
 *   isThere: whether anything is stored in a collection, as far as that is known; onChange: a document was deleted
 * @returns {{node: HTMLElement, restart: () => Promise<void>, reload: () => Promise<void>}}
 */
export function documentList({ signal, collection, isThere: canAsk, onChange }) {
  const prefix = el('input', { type: 'search', autocomplete: 'off', spellcheck: 'false', dir: 'auto', placeholder: 'handbook/', name: 'prefix' });
  const totals = el('p', { class: 'muted', role: 'status' });
  const wrong = el('div', {});
  let isThere = true;
  const load = async (after) => {
    const query = { collection: collection(), prefix: prefix.value, after, limit: ROWS };
    // A collection begins with its first document.
    const nothing = () => {
      isThere = false;
      totals.textContent = '';
      return { data: [], has_more: false, last_id: null };
    };
    if (!(await canAsk(query.collection))) return nothing();
    try {
      const { data } = await api('/v1/documents', { query, signal });
      isThere = true;
      totals.textContent = describeTotals(data.totals);
      return data;
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
      return nothing();
    }
  };
  const remove = async (id) => {
    const text = `${id} leaves collection ${collection()} with all its passages. No search finds it afterwards.`;
    if (!(await confirm({ title: 'Delete this document?', text, action: 'Delete' }))) return;
    try {
      await api(`/v1/documents/${encodeURIComponent(id)}`, { method: 'DELETE', query: { collection: collection() }, signal });
      replace(wrong);
      await pages.reload();
      onChange();
    } catch (error) {
      if (!signal.aborted) replace(wrong, errorBox(error, { again: null }));
    }
  };
  const render = (rows) => rowsOf(rows, { collection: collection(), remove, empty: emptyWords(prefix.value, collection(), isThere) });
  const pages = pager({ load, render, label: 'Pages of documents' });
  let typed = 0;
  prefix.addEventListener('input', () => {
    clearTimeout(typed);
    typed = setTimeout(() => signal.aborted || pages.restart(), TYPING_MS);
  });
  const top = el('div', { class: 'row end apart' }, field('Id begins with', prefix), totals);
  return { node: el('section', { class: 'stack' }, heading('Documents'), top, wrong, pages.node), restart: pages.restart, reload: pages.reload };
}

function rowsOf(rows, { collection, remove, empty }) {
  const columns = [
    { name: 'id', label: 'Document', cell: ({ id }) => linkTo(id, collection) },
    { name: 'title', label: 'Title', cell: ({ title }) => el('span', { class: 'wrap', dir: 'auto', text: title || '–' }) },
    { name: 'passages', label: 'Passages', align: 'right', cell: ({ passages }) => number(passages) },
    { name: 'updated_at', label: 'Stored', cell: ({ updated_at: at }) => (at ? el('time', { datetime: at, title: time(at), text: ago(at) }) : 'unknown') },
    { name: 'delete', label: 'Actions', align: 'right', cell: ({ id }) => button('Delete', () => remove(id), { kind: 'quiet', name: `Delete ${id}` }) },
  ];
  return table({ caption: `Documents of collection ${collection}`, columns, rows, empty, cards: true });
}

function linkTo(id, collection) {
  return el('a', { class: 'wrap', dir: 'auto', href: `#/documents?${new URLSearchParams({ collection, document: id })}`, text: id });
}

function emptyWords(prefix, collection, isThere) {
  if (prefix) return `No document of collection ${collection} has an id that begins with "${prefix}".`;
  return isThere ? 'Nothing more is here.' : `Collection ${collection} holds no documents yet. Drop a file above.`;
}

function describeTotals(totals) {
  if (!totals) return '';
  const many = (count, word) => `${number(count)} ${count === 1 ? word : `${word}s`}`;
  return `${many(totals.documents, 'document')}, ${many(totals.passages, 'passage')}`;
}
