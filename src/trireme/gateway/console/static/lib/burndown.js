/** How much of a budget is used, beside how much of its window has passed. */

import { dollars, percent, time, tokens } from './format.js';
import { el, svg } from './ui.js';

const WINDOW_MS = { minute: 60_000, day: 86_400_000 };

/**
 * A bar: spent, held and a tick where the time is; and the same in words.
 * @param {any} budget as GET /v1/budgets has it
 * @param {number} [now] Unix milliseconds
 * @returns {HTMLElement}
 */
export function burndown(budget, now = Date.now()) {
  const part = used(budget);
  if (!part) return el('span', { class: 'muted', text: whyUnknown(budget) });
  const passed = passedOf(budget, now);
  const held = part.held ? `, ${percent(part.held)} held` : '';
  const words = `${percent(part.spent)} spent${held}; ${percent(passed)} of the ${budget.window} passed`;
  return el('div', { class: 'burndown' }, bar(part, passed), el('span', { class: 'muted', text: words }));
}

function bar({ spent, held }, passed) {
  const width = (share) => `${(100 * Math.min(1, share)).toFixed(2)}%`;
  const kind = spent >= 1 ? 'spent bad' : spent > passed ? 'spent warning' : 'spent';
  return svg(
    'svg',
    { class: 'bar', 'aria-hidden': 'true', focusable: 'false' },
    svg('rect', { class: 'whole', width: '100%', height: '100%' }),
    svg('rect', { class: 'held', width: width(spent + held), height: '100%' }),
    svg('rect', { class: kind, width: width(spent), height: '100%' }),
    svg('line', { class: 'now', x1: width(passed), x2: width(passed), y1: '0', y2: '100%' }),
  );
}

/**
 * Shares of the limit that is used up first; null where they are not known.
 * @param {any} budget
 * @returns {{spent: number, held: number}|null}
 */
export function used({ tokens: most, dollars: mostDollars, spent, held, forecast }) {
  if (!spent || !forecast) return null;
  const [limit, gone, waiting] =
    forecast.unit === 'dollars'
      ? [Number(mostDollars), Number(spent.dollars), Number(held?.dollars ?? 0)]
      : [most, spent.tokens, held?.tokens ?? 0];
  // Of a budget of 0 nothing is left.
  return limit > 0 ? { spent: gone / limit, held: waiting / limit } : { spent: 1, held: 0 };
}

/**
 * The share of the window that is over.
 * @param {any} budget @param {number} now Unix milliseconds
 * @returns {number} from 0 to 1
 */
export function passedOf({ window, forecast }, now) {
  const end = Date.parse(forecast.ends_at);
  const last = new Date(end - 1);
  const length = WINDOW_MS[window] ?? end - Date.UTC(last.getUTCFullYear(), last.getUTCMonth(), 1);
  return Math.min(1, Math.max(0, 1 - (end - now) / length));
}

/** @param {any} budget @returns {string} whether it lasts, by a straight line from the start of the window */
export function outlook({ forecast }) {
  if (!forecast) return 'unknown';
  if (forecast.used >= 1) return `used up until ${time(forecast.ends_at)}`;
  if (forecast.exhausted_at) return `runs out ${time(forecast.exhausted_at)}`;
  if (forecast.at_end === null) return 'too early to tell';
  const amount = forecast.unit === 'dollars' ? dollars(forecast.at_end) : `${tokens(forecast.at_end)} tokens`;
  return `lasts: ${amount} at the end`;
}

function whyUnknown({ tenant, user }) {
  if (tenant === '*' || user === '*') return 'each has its own';
  return 'unknown: no budget store answers';
}
