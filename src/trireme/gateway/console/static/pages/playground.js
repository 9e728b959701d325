/** The playground: ask, search, compare. Each part keeps what was typed while another one is shown. */

import { el, newId } from '../lib/ui.js';
import { ask } from './ask.js';
import { embed } from './embed.js';
import { search } from './search.js';

export const title = 'Playground';

const PARTS = [
  { name: 'ask', label: 'Ask', needs: 'chat', make: ask },
  { name: 'search', label: 'Search', needs: 'search', make: search },
  { name: 'compare', label: 'Compare', needs: 'embeddings', make: embed },
];

/**
 * @param {HTMLElement} main
 * @param {{me: any, route: string, signal: AbortSignal}} page route: "/search" opens that part
 */
export function show(main, { me, route, signal }) {
  const parts = PARTS.filter(({ needs }) => me.endpoints.includes(needs)).map((part) => ({ ...part, id: newId(part.name) }));
  const tabs = parts.map(({ label, id }) =>
    el('button', { type: 'button', role: 'tab', id: `${id}-tab`, 'aria-controls': id, text: label, on: { click: () => choose(tabs.findIndex((one) => one.id === `${id}-tab`)) } }),
  );
  const panels = parts.map(({ id }) => el('div', { role: 'tabpanel', id, 'aria-labelledby': `${id}-tab`, hidden: true }));
  const choose = (at) => {
    tabs.forEach((tab, place) => {
      tab.setAttribute('aria-selected', String(place === at));
      // One stop of the tab key; arrows go from part to part.
      tab.tabIndex = place === at ? 0 : -1;
      panels[place].hidden = place !== at;
    });
    if (!panels[at].childNodes.length) panels[at].append(parts[at].make({ me, signal }));
    history.replaceState(null, '', `#/playground/${parts[at].name}`);
  };
  const step = (event) => {
    const now = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (now < 0 || to === undefined) return;
    event.preventDefault();
    const at = (to + tabs.length) % tabs.length;
    choose(at);
    tabs[at].focus();
  };
  main.append(el('div', { class: 'segmented', role: 'tablist', 'aria-label': 'What to try', on: { keydown: step } }, tabs), ...panels);
  choose(Math.max(0, parts.findIndex(({ name }) => route.startsWith(`/${name}`))));
}
