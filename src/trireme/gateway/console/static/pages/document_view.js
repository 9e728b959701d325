/** One document: its passages in their order, from one of them on where a link names it. */

import { api } from '../lib/api.js';
import { ago, number, time } from '../lib/format.js';
import { button, confirm, el, errorBox, loading, replace } from '../lib/ui.js';

const ROWS = 20;

/**
 * @param {{signal: AbortSignal, collection: string, id: string, passage: string}} page passage: the one to begin near; "": the first
 * @returns {HTMLElement}
 */
export function documentView({ signal, collection, id, passage }) {
  const path = `/v1/documents/${encodeURIComponent(id)}`;
  const head = el('div', { class: 'stack' });
  const wrong = el('div', {});
  const rows = el('ol', { class: 'passages' });
  const first = button('From the beginning', () => begin({}), { kind: 'quiet' });
  const more = button('More passages', () => add());
  first.hidden = more.hidden = true;
  let last = null;

  const read = async (query) => (await api(path, { query: { collection, limit: ROWS, ...query }, signal })).data;
  const begin = async (query) => {
    replace(rows, el('li', {}, loading()));
    try {
      const data = await read(query);
      replace(head, headOf(data, remove));
      replace(rows);
      show(data);
      first.hidden = !data.has_earlier;
      rows.querySelector('.here')?.scrollIntoView({ block: 'center' });
    } catch (error) {
      if (!signal.aborted) replace(rows, el('li', {}, errorBox(error)));
    }
  };
  const add = async () => {
    more.disabled = true;
    try {
      show(await read({ after: last }));
    } catch (error) {
      if (!signal.aborted) replace(wrong, errorBox(error));
    }
    more.disabled = false;
  };
  const show = (data) => {
    last = data.last_id;
    more.hidden = !data.has_more;
    rows.append(...data.passages.map((one) => passageRow(one, one.id === passage)));
  };
  const remove = async () => {
    const text = `${id} leaves collection ${collection} with all its passages. No search finds it afterwards.`;
    if (!(await confirm({ title: 'Delete this document?', text, action: 'Delete' }))) return;
    try {
      await api(path, { method: 'DELETE', query: { collection }, signal });
      location.hash = `#/documents?${new URLSearchParams({ collection })}`;
    } catch (error) {
      if (!signal.aborted) replace(wrong, errorBox(error));
    }
  };
  begin(passage ? { around: passage } : {});
  const back = el('a', { href: `#/documents?${new URLSearchParams({ collection })}`, text: 'All documents' });
  return el('article', { class: 'stack' }, el('p', {}, back), head, wrong, first, rows, el('div', {}, more));
}

function headOf({ id, title, source, collection, passage_count: count, updated_at: at }, remove) {
  const facts = [
    `collection ${collection}`,
    source && source !== id && `source ${source}`,
    count !== undefined && (count === 1 ? '1 passage' : `${number(count)} passages`),
  ].filter(Boolean);
  return el(
    'div',
    { class: 'row apart' },
    el(
      'div',
      {},
      el('h2', { class: 'wrap', dir: 'auto', text: title || id }),
      title && title !== id && el('p', { class: 'muted wrap', dir: 'auto', text: id }),
      el('p', { class: 'muted wrap' }, facts.join(' · '), at && [' · stored ', el('time', { datetime: at, title: time(at), text: ago(at) })]),
    ),
    button('Delete', remove, { kind: 'danger', name: `Delete ${id}` }),
  );
}

/** Title and headings, which each passage repeats, stand apart from its own text. */
function passageRow({ id, text, metadata }, isHere) {
  const letters = Array.from(text);
  const lead = Math.min(Number(metadata?.trireme_lead ?? 0), letters.length);
  const own = letters.slice(lead).join('').trim();
  return el(
    'li',
    { class: isHere ? 'here' : null, 'aria-current': isHere ? 'location' : null },
    el('p', { class: 'muted mono wrap', text: id }),
    lead > 0 && own && el('p', { class: 'muted wrap', dir: 'auto', text: letters.slice(0, lead).join('').trim() }),
    el('p', { class: 'text', dir: 'auto', text: own || text }),
  );
}
