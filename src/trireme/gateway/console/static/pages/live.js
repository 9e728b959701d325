/** A stub: the page comes. */

import { el } from '../lib/ui.js';

export const title = 'Live';

/**
 * @param {HTMLElement} main
 * @param {{me: any, route: string, signal: AbortSignal}} page
 */
export function show(main, { me, route, signal }) {
  main.append(el('p', { text: 'This page is not there yet.' }));
}
