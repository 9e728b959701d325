/** The shell: who is logged in, which page is shown, and whether the gateway answers. */

import { ApiError, api, calls, session } from './lib/api.js';
import { button, el, errorBox, field, loading, notice, replace } from './lib/ui.js';

/** name: of the route. needs: endpoints of which the key must have one; [] for any key. */
const PAGES = [
  { name: 'live', label: 'Live', needs: ['usage'] },
  { name: 'playground', label: 'Playground', needs: ['chat', 'search', 'embeddings'] },
  { name: 'documents', label: 'Documents', needs: ['documents', 'search'] },
  { name: 'models', label: 'Models', needs: ['models'] },
  { name: 'cost', label: 'Cost', needs: ['usage'] },
  { name: 'releases', label: 'Releases', needs: ['admin'] },
  { name: 'budgets', label: 'Budgets', needs: ['usage'] },
  { name: 'keys', label: 'Keys', needs: ['admin'] },
  { name: 'tenants', label: 'Tenants', needs: ['admin'] },
];
const STORE = 'trireme.key';
const PROBE_MS = 3000;
/** A database that is away is seen by GET /readyz some seconds after the first call fails. */
const DOUBT_MS = 10_000;
const top = document.getElementById('top');
const main = document.getElementById('main');
const banner = document.getElementById('banner');
let shown = new AbortController();
let probe = null;
let failedAt = 0;
/** What GET /readyz said last that is away; before it was asked, what a call found. */
let said = [];
let wasAway = false;

function start() {
  session.key = takeKey() || sessionStorage.getItem(STORE) || '';
  calls.addEventListener('unauthorized', () => session.me && logOut('This key is no longer in force.'));
  calls.addEventListener('down', ({ detail }) => isDown(detail));
  window.addEventListener('hashchange', () => {
    const isByLink = document.activeElement !== document.body;
    route();
    // The next Tab goes into the page that was asked for.
    if (isByLink && session.key) main.focus({ preventScroll: true });
  });
  route();
}

/** The key of `#key=...`, which leaves the address before anything is loaded. */
function takeKey() {
  const found = /^#key=([^&]+)/.exec(location.hash);
  if (!found) return '';
  history.replaceState(null, '', location.pathname + location.search);
  return found[1];
}

async function route() {
  const key = takeKey();
  if (key) [session.key, session.me] = [key, null];
  leave();
  shown = new AbortController();
  const { signal } = shown;
  if (!session.key) return showLogIn();
  const asked = location.hash.replace(/^#\//, '').split(/[/?]/)[0];
  // The page's file comes while the gateway is asked who the key is.
  if (!session.me) loadPage(asked || PAGES[0].name).catch(() => {});
  if (!session.me && !(await logIn(signal))) return;
  if (signal.aborted) return;
  const name = asked || first();
  const page = PAGES.find((one) => one.name === name);
  showTop(name);
  if (!page) return stop('There is no such page.');
  if (!isAllowed(page)) return stop(`This page needs a key with the endpoint ${page.needs.join(' or ')}.`);
  await showPage(page, signal);
}

/** End what the page started, a question that waits for an answer too: below an open dialog nothing can be used. */
function leave() {
  shown.abort();
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close('');
}

/** The module of a page; of a name that is none nothing is asked for. */
async function loadPage(name) {
  const page = PAGES.find((one) => one.name === name);
  try {
    return page ? await import(`./pages/${page.name}.js`) : null;
  } catch (error) {
    // A file that could not be had is a gateway that is away, and may be had later.
    if (!(error instanceof TypeError)) throw error;
    const away = new ApiError('the gateway does not answer', { code: 'network' });
    isDown(away);
    throw away;
  }
}

async function showPage(page, signal) {
  const place = el('div', { class: 'page' });
  replace(main, el('h1', { text: page.label }), place);
  document.title = `${page.label} · Trireme`;
  const waiting = loading();
  place.append(waiting);
  try {
    const module = await loadPage(page.name);
    if (signal.aborted) return;
    waiting.remove();
    await module.show(place, { me: session.me, route: location.hash.slice(2 + page.name.length), signal });
  } catch (error) {
    if (!signal.aborted) replace(place, errorBox(error));
  }
}

/** Ask who the key is. Shows the log-in, or the error, where that is not known. */
async function logIn(signal) {
  replace(main, loading('Asking the gateway'));
  try {
    const { data } = await api('/v1/me', { signal });
    session.me = data;
    sessionStorage.setItem(STORE, session.key);
    return true;
  } catch (error) {
    if (signal.aborted) return false;
    if (error instanceof ApiError && error.status === 401) {
      forget();
      showLogIn('This key is not in force. Was it revoked, or is a character missing?');
    } else {
      replace(main, el('h1', { text: 'Trireme' }), errorBox(error));
    }
    return false;
  }
}

function showLogIn(reason = '') {
  isUp();
  replace(top);
  delete top.dataset.key;
  document.title = 'Log in · Trireme';
  const key = el('input', { type: 'password', autocomplete: 'off', spellcheck: 'false', required: true, name: 'key' });
  const submit = (event) => {
    event.preventDefault();
    session.key = key.value.trim();
    if (session.key) route();
  };
  const form = el(
    'form',
    { class: 'log-in', on: { submit } },
    el('img', { src: 'favicon.svg', alt: '', width: '36', height: '36' }),
    el('h1', { text: 'Trireme' }),
    reason && notice('error', reason),
    field('Key', key, { hint: 'As trireme keys create printed it. This tab keeps it until it is closed.' }),
    el('button', { type: 'submit', class: 'primary', text: 'Log in' }),
  );
  replace(main, form);
  key.focus();
}

function logOut(reason) {
  leave();
  forget();
  showLogIn(reason);
}

function forget() {
  sessionStorage.removeItem(STORE);
  [session.key, session.me] = ['', null];
}

function isAllowed({ needs }) {
  return !needs.length || needs.some((name) => session.me.endpoints.includes(name));
}

function first() {
  return (PAGES.find(isAllowed) ?? PAGES[0]).name;
}

/** The side, made once for a key; later only the current page changes. */
function showTop(current) {
  if (top.dataset.key !== session.me.id) {
    top.dataset.key = session.me.id;
    replace(top, ...topParts(session.me));
  }
  for (const link of top.querySelectorAll('nav a')) {
    const isCurrent = link.getAttribute('href') === `#/${current}`;
    if (isCurrent) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
    if (isCurrent) link.scrollIntoView({ block: 'nearest', inline: 'center' });
  }
}

function topParts({ tenant, user, is_admin: isAdmin, release }) {
  const links = PAGES.filter(isAllowed).map(({ name, label }) => el('a', { href: `#/${name}`, text: label }));
  return [
    el('a', { class: 'brand', href: `#/${first()}` }, el('img', { src: 'favicon.svg', alt: '', width: '20', height: '20' }), 'Trireme'),
    el('nav', { 'aria-label': 'Pages' }, links),
    el(
      'div',
      { class: 'who' },
      el('span', { title: 'tenant and user of the key', text: user ? `${tenant} / ${user}` : tenant }),
      isAdmin && el('span', { class: 'badge plain', text: 'admin' }),
      release && el('span', { class: 'muted', title: 'release of the gateway', text: release }),
      button('Log out', () => logOut('')),
    ),
  ];
}

function stop(text) {
  replace(main, el('h1', { text: 'Not here' }), notice('warning', text));
}

/** A call got no answer, or 503. That may be the call's alone: GET /readyz says whether it is the gateway's. */
function isDown(error) {
  failedAt = Date.now();
  if (error.status === 0) {
    if (!said.length) said = [error.message];
    say([error.message]);
  }
  probe ??= setTimeout(look, error.status === 0 ? PROBE_MS : 0);
}

function say(reasons) {
  wasAway = true;
  const words = `${reasons.join('; ')}. Trying again …`;
  const text = words[0].toUpperCase() + words.slice(1);
  banner.hidden = false;
  if (banner.textContent !== text) banner.textContent = text;
}

async function look() {
  const reasons = await whyNotReady();
  probe = null;
  if (reasons) {
    // One of several is back: what waited for it need not wait for the others.
    const isLess = said.some((one) => !reasons.includes(one));
    said = reasons;
    say(reasons);
    if (isLess) showAgain();
  } else if (wasAway || Date.now() - failedAt > DOUBT_MS) return isBack();
  probe = setTimeout(look, PROBE_MS);
}

function isBack() {
  isUp();
  showAgain();
}

/** Show the page again where all of it failed, and nobody has typed anything into it; else the parts that failed. */
function showAgain() {
  if (!session.key) return;
  const isTyped = [...main.querySelectorAll('input, textarea')].some((one) => one.value !== one.defaultValue || one.checked !== one.defaultChecked);
  if (!session.me || (main.querySelector('[data-passes="page"]') && !isTyped)) route();
  else main.querySelectorAll('[data-passes="part"] button').forEach((one) => one.click());
}

/** What GET /readyz says; null where the gateway is ready. */
async function whyNotReady() {
  try {
    const answer = await fetch('/readyz', { cache: 'no-store', signal: AbortSignal.timeout(PROBE_MS) });
    if (answer.ok) return null;
    return (await answer.json()).reasons ?? ['the gateway is not ready'];
  } catch {
    return ['the gateway does not answer'];
  }
}

function isUp() {
  clearTimeout(probe);
  probe = null;
  wasAway = false;
  said = [];
  banner.hidden = true;
  banner.textContent = '';
}

start();
