/** Live: what happens now and what happened in the last hour, from one stream of events. */

import { stream } from '../lib/api.js';
import { time } from '../lib/format.js';
import { pause } from '../lib/pause.js';
import { badge, el, loading, notice, replace } from '../lib/ui.js';
import { gaugesFor } from './live_gauges.js';
import { partsFor } from './live_parts.js';

export const title = 'Live';

const AGAIN_MS = 2000;
/** Of a gateway that is away for longer is asked less often, and not by all tabs at once. */
const MOST_AGAIN_MS = 15_000;
/** A stream that says nothing for so long is taken for dead: it speaks each second. */
const SILENT_MS = 8000;

/**
 * @param {HTMLElement} main
 * @param {{me: any, route: string, signal: AbortSignal}} page
 */
export function show(main, { me, signal }) {
  const waiting = loading('Waiting for the first figures');
  const state = el('span', { role: 'status' });
  const about = el('span', { class: 'muted' });
  const faults = el('div', { class: 'stack' });
  const gauges = gaugesFor(me);
  const parts = partsFor(me);
  const body = el('div', { class: 'page', hidden: true }, gauges.node, parts.node);
  main.append(el('p', { class: 'row' }, state, about), faults, waiting, body);

  const listeners = {
    hello(data) {
      setState(state, 'good', 'live');
      const whose = data.tenant ? `tenant ${data.tenant}` : 'all tenants';
      about.textContent = [whose, data.gateway && `gateway ${data.gateway}`, data.release && `release ${data.release}`, `up since ${time(data.started)}`].filter(Boolean).join(' · ');
      parts.hello(data);
    },
    history(data) {
      gauges.history(data);
    },
    point(data) {
      gauges.point(data);
    },
    now(data) {
      waiting.remove();
      body.hidden = false;
      gauges.now(data);
      parts.now(data);
      showFaults(faults, data);
    },
    end(data) {
      throw new Error(data?.reason ?? 'the stream ended');
    },
    error(data) {
      throw new Error(data?.error?.message ?? 'the stream was ended');
    },
  };
  return keepWatching(listeners, { state, body, signal });
}

/**
 * Read the stream, and open it again whenever it ends, until the page is left. The figures stay, and are said to be old.
 * A tab that nobody sees holds no stream: a browser opens six connections to a host, for all its tabs together.
 */
async function keepWatching(listeners, { state, body, signal }) {
  let failures = 0;
  let said = '';
  /** When the last event came, in Unix seconds; 0: none did. */
  let since = 0;
  while (!signal.aborted) {
    await seen(signal);
    if (signal.aborted) return;
    let reason = 'the stream ended';
    let wait = waitAfter(failures);
    const silence = new AbortController();
    const timer = watchdog(() => silence.abort());
    const sight = untilHidden();
    const both = AbortSignal.any([signal, silence.signal, sight.signal]);
    try {
      for await (const { event, data } of stream('/v1/live', { signal: both })) {
        timer.touch();
        body.classList.remove('stale');
        failures = 0;
        said = '';
        since = Date.now() / 1000;
        listeners[event]?.(data);
      }
    } catch (error) {
      reason = silence.signal.aborted ? 'the stream is silent' : error.message;
      if (document.hidden) {
        body.classList.add('stale');
        setState(state, 'plain', 'connecting');
        continue;
      }
      wait = Math.max(wait, (error.retryAfter ?? 0) * 1000);
      if ([401, 403, 404].includes(error.status)) throw error;
    } finally {
      timer.stop();
      sight.stop();
    }
    if (signal.aborted) return;
    body.classList.add('stale');
    failures += 1;
    // Said once for each reason, however often it is tried again.
    if (said !== reason) setState(state, 'bad', since ? `not live since ${time(since).slice(11)}: ${reason}` : `not live: ${reason}`);
    said = reason;
    await pause(wait, signal);
  }
}

/**
 * @param {number} failures one after the other, before this one
 * @returns {number} ms until the next try: twice as long each time, and spread, since all tabs lose their streams at once
 */
export function waitAfter(failures) {
  return Math.min(MOST_AGAIN_MS, AGAIN_MS * 2 ** Math.min(failures, 10)) * (0.75 + Math.random() / 2);
}

/** Until the tab can be seen, or the page is left. */
function seen(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    document.addEventListener('visibilitychange', () => resolve(), { once: true, signal });
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** A signal that aborts when the tab is hidden; `stop` ends the looking. */
function untilHidden() {
  const hidden = new AbortController();
  const listen = () => document.hidden && hidden.abort();
  document.addEventListener('visibilitychange', listen);
  return { signal: hidden.signal, stop: () => document.removeEventListener('visibilitychange', listen) };
}

function setState(node, kind, text) {
  replace(node, badge(kind, text));
}

function showFaults(node, { database, store }) {
  const said = [
    database && database !== 'ok' && `Database: ${database}. Documents, keys and cost cannot be read until it is back.`,
    store && store !== 'ok' && `Budget store: ${store}. What is spent of budgets is unknown; spend today is the ledger’s.`,
  ].filter(Boolean);
  const text = said.join('\n');
  if (node.dataset.said === text) return;
  node.dataset.said = text;
  replace(node, said.map((one) => notice('error', one)));
}

function watchdog(bite) {
  let timer = setTimeout(bite, SILENT_MS);
  return {
    touch() {
      clearTimeout(timer);
      timer = setTimeout(bite, SILENT_MS);
    },
    stop: () => clearTimeout(timer),
  };
}
