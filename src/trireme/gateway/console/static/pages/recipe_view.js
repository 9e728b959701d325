/** What was just done, as a command and as a program, to copy. */

import { asCurl, asPython } from '../lib/recipes.js';
import { code, el } from '../lib/ui.js';

/**
 * @param {import('../lib/recipes.js').Call} call
 * @param {string} [more] to say of it
 * @returns {HTMLElement}
 */
export function recipesOf(call, more = '') {
  const { origin } = location;
  return el(
    'div',
    { class: 'stack recipes' },
    more && el('p', { class: 'muted', text: more }),
    fold('As curl', asCurl(call, origin), 'export KEY=... first: a key is never part of a recipe.'),
    fold('As Python', asPython(call, origin), 'It needs the package openai, and KEY in the environment.'),
  );
}

function fold(label, text, hint) {
  return el('details', {}, el('summary', { text: label }), el('p', { class: 'hint', text: hint }), code(text, { label }));
}
