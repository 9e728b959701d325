/** Models and collections to choose from, as far as the key may know them. */

import { api, session } from '../lib/api.js';
import { el, field, newId, replace } from '../lib/ui.js';

// Of collections in the list below the field; any other can be typed.
const MOST_COLLECTIONS = 100;
const NO_CHAT = ['embed', 'rerank', 'classify', 'search'];

/** @param {{name: string, ability: string|null}} model @returns {boolean} whether it may answer a chat */
export function chatModels({ ability }) {
  return !NO_CHAT.includes(ability);
}

/** @param {string} wanted @returns {(model: {ability: string|null}) => boolean} whether it has that ability, or nobody knows */
export function modelsThat(wanted) {
  return ({ ability }) => ability === wanted;
}

/**
 * A field of models; one to type in where the key may not list them.
 * @param {string} label
 * @param {(model: {name: string, ability: string|null}) => boolean} fits
 * @param {{signal: AbortSignal, usual: string}} options usual: the one that is chosen first
 * @returns {{node: HTMLElement, value: () => string, isAnswerer: () => boolean}} isAnswerer: whether it reads passages
 */
export function modelField(label, fits, { signal, usual }) {
  const input = el('input', { value: usual, required: true, autocomplete: 'off', spellcheck: 'false' });
  const choice = el('select', { hidden: true });
  const node = field(label, input);
  const known = new Map();
  readModels(signal).then((models) => {
    const fitting = models.filter(fits);
    fitting.forEach((model) => known.set(model.name, model));
    if (!fitting.length) return;
    const typed = input.value.trim();
    // Somebody was faster than the list: what was typed stays, and can be typed on.
    if (typed !== usual && !known.has(typed)) return;
    replace(choice, fitting.map(({ name }) => el('option', { value: name, text: name })));
    choice.value = known.has(typed) ? typed : fitting[0].name;
    choice.id = input.id;
    const isFocused = document.activeElement === input;
    input.replaceWith(choice);
    choice.hidden = false;
    if (isFocused) choice.focus({ preventScroll: true });
  });
  const value = () => (input.isConnected ? input.value.trim() : choice.value);
  // A name that we know nothing of, such as a cascade, may well be one that reads passages.
  const isAnswerer = () => [undefined, null, 'answer'].includes(known.get(value())?.ability);
  return { node, value, isAnswerer };
}

/** Every model that the key may call, with its ability where that is known. Does not raise. */
async function readModels(signal) {
  if (!session.me?.endpoints.includes('models')) return [];
  const [named, cards] = await Promise.allSettled([api('/v1/models', { signal }), api('/v1/model_cards', { signal })]);
  const abilities = new Map((cards.value?.data.data ?? []).map(({ name, ability }) => [name, ability]));
  return (named.value?.data.data ?? []).map(({ id }) => ({ name: id, ability: abilities.get(id) ?? null }));
}

/**
 * A field of collections: those that are known to choose, any other to type.
 * @param {{me: any, signal: AbortSignal, value?: string, onChange?: (name: string) => void}} options
 * @returns {{node: HTMLElement, input: HTMLInputElement, value: () => string, isThere: (name: string) => Promise<boolean>,
 *   forget: (name: string) => void}} isThere: false where nothing is stored under a name, so that nobody asks for it in
 *   vain; true where that is not known. forget: it was deleted
 */
export function collectionField({ me, signal, value = me.default_collection, onChange }) {
  const list = el('datalist', { id: newId('collections') });
  const input = el('input', { value, list: list.id, autocomplete: 'off', spellcheck: 'false', dir: 'auto', name: 'collection' });
  if (onChange) input.addEventListener('change', () => onChange(input.value.trim()));
  const node = field('Collection', input);
  node.append(list);
  let known;
  const read = () => {
    known = readCollections(me, signal);
    known.then(({ names }) => replace(list, names.map((name) => el('option', { value: name }))));
    return known;
  };
  const isThere = async (name) => {
    if ((await known).names.includes(name)) return true;
    const { names, isAll } = await read();
    return names.includes(name) || !isAll;
  };
  const forget = (name) => {
    known = known.then(({ names, isAll }) => ({ names: names.filter((one) => one !== name), isAll }));
  };
  read();
  return { node, input, value: () => input.value.trim(), isThere, forget };
}

/** Names of collections, the first hundred; isAll: whether there are no others. Does not raise. */
async function readCollections(me, signal) {
  const unknown = { names: me.collections, isAll: false };
  if (!me.endpoints.includes('search')) return unknown;
  try {
    const { data } = await api('/v1/vector_stores', { query: { limit: MOST_COLLECTIONS }, signal });
    return { names: data.data.map(({ id }) => id), isAll: !data.has_more };
  } catch {
    return unknown;
  }
}
