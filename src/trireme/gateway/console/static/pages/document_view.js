/** One document: its passages in their order, from one of them on where a link names it. */

import { api } from '../lib/api.js';
import { ago, number, time } from '../lib/format.js';
import { splitLead } from '../lib/passages.js';
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
  const rows = el('ol', { class: 'passages', tabindex: '-1' });
  const first = button('From the beginning', () => begin({}), { kind: 'quiet' });
  const more = button('More passages', () => add());
  first.hidden = more.hidden = true;
  let last = null;
  let asked = 0;

  const read = async (query) => (await api(path, { query: { collection, limit: ROWS, ...query }, signal })).data;
  const begin = async (query) => {
    const mine = (asked += 1);
    more.hidden = true;
    replace(rows, el('li', {}, loading()));
    try {
      const data = await read(query);
      if (mine !== asked) return;
      replace(head, headOf(data, remove));
      replace(rows);
      show(data);
      if (document.activeElement === first) rows.focus({ preventScroll: true });
      first.hidden = !data.has_earlier;
      rows.querySelector('.here')?.scrollIntoView({ block: 'center' });
    } catch (error) {
      if (!signal.aborted && mine === asked) replace(rows, el('li', {}, errorBox(error, { again: () => begin(query), comesBack: true })));
    }
  };
  const add = async () => {
    // A click while the one before waits, or while another part is read, adds nothing twice.
    const mine = (asked += 1);
    try {
      const data = await read({ after: last });
      if (mine !== asked) return;
      const isAtEnd = !data.has_more && document.activeElement === more;
      const from = rows.childElementCount;
      show(data);
      replace(wrong);
      if (isAtEnd) focusOn(rows.children[from] ?? rows);
    } catch (error) {
      if (!signal.aborted && mine === asked) replace(wrong, errorBox(error, { again: null }));
    }
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
      if (!signal.aborted) replace(wrong, errorBox(error, { again: null }));
    }
  };
  begin(passage ? { around: passage } : {});
  const back = el('a', { href: `#/documents?${new URLSearchParams({ collection })}`, text: 'All documents' });
  return el('article', { class: 'stack' }, el('p', {}, back), head, wrong, first, rows, el('div', {}, more));
}

/** The button that was pressed is gone: who pressed it reads on where it led. */
function focusOn(node) {
  node.tabIndex = -1;
  node.focus({ preventScroll: true });
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

function passageRow(passage, isHere) {
  const [lead, own] = splitLead(passage);
  return el(
    'li',
    { class: isHere ? 'here' : null, 'aria-current': isHere ? 'location' : null },
    el('p', { class: 'muted mono wrap', text: passage.id }),
    lead && el('p', { class: 'muted wrap', dir: 'auto', text: lead }),
    el('p', { class: 'text', dir: 'auto', text: own }),
  );
}
