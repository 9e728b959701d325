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
const top = document.getElementById('top');
const main = document.getElementById('main');
const banner = document.getElementById('banner');
let shown = new AbortController();
let probe = null;

function start() {
  session.key = takeKey() || sessionStorage.getItem(STORE) || '';
  calls.addEventListener('unauthorized', () => session.me && logOut('This key is no longer in force.'));
  calls.addEventListener('down', ({ detail }) => session.me && isDown(detail));
  window.addEventListener('hashchange', route);
  route();
}

/** The key of `#key=...`, which leaves the address before anything is loaded. */
function takeKey() {
  const found = /^#key=([^&]+)/.exec(location.hash);
  if (!found) return '';
  history.replaceState(null, '', location.pathname + location.search);
  return decodeURIComponent(found[1]);
}

async function route() {
  const key = takeKey();
  if (key) [session.key, session.me] = [key, null];
  shown.abort();
  shown = new AbortController();
  const { signal } = shown;
  if (!session.key) return showLogIn();
  if (!session.me && !(await logIn(signal))) return;
  const name = location.hash.replace(/^#\//, '').split(/[/?]/)[0] || first();
  const page = PAGES.find((one) => one.name === name);
  showTop(name);
  if (!page) return stop('There is no such page.');
  if (!isAllowed(page)) return stop(`This page needs a key with the endpoint ${page.needs.join(' or ')}.`);
  await showPage(page, signal);
}

async function showPage(page, signal) {
  const place = el('div', { class: 'page' });
  replace(main, el('h1', { text: page.label }), place);
  document.title = `${page.label} · Trireme`;
  const waiting = loading();
  place.append(waiting);
  try {
    const module = await import(`./pages/${page.name}.js`);
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
      isDown(error);
    }
    return false;
  }
}

function showLogIn(reason = '') {
  isUp();
  replace(top);
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
    el('h1', { text: 'Trireme' }),
    reason && notice('error', reason),
    field('Key', key, { hint: 'As trireme keys create printed it. This tab keeps it until it is closed.' }),
    el('button', { type: 'submit', class: 'primary', text: 'Log in' }),
  );
  replace(main, form);
  key.focus();
}

function logOut(reason) {
  shown.abort();
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

function showTop(current) {
  const links = PAGES.filter(isAllowed).map(({ name, label }) =>
    el('a', { href: `#/${name}`, 'aria-current': name === current && 'page', text: label }),
  );
  const { tenant, user, is_admin: isAdmin, release } = session.me;
  replace(
    top,
    el('a', { class: 'brand', href: '#/live', text: 'Trireme' }),
    el('nav', { 'aria-label': 'Pages' }, links),
    el(
      'div',
      { class: 'who' },
      el('span', { title: 'tenant and user of the key', text: user ? `${tenant} / ${user}` : tenant }),
      isAdmin && el('span', { class: 'badge plain', text: 'admin' }),
      release && el('span', { class: 'muted', title: 'release of the gateway', text: release }),
      button('Log out', () => logOut('')),
    ),
  );
}

function stop(text) {
  replace(main, el('h1', { text: 'Not here' }), notice('warning', text));
}

/** The gateway gives no answer, or says that it cannot: say so, and look until it can. */
function isDown(error) {
  banner.hidden = false;
  if (!banner.textContent) banner.textContent = `${error.message}. Trying again …`;
  probe ??= setTimeout(look, PROBE_MS);
}

async function look() {
  probe = null;
  const reasons = await whyNotReady();
  if (!reasons) {
    isUp();
    if (!session.me || main.querySelector('[data-passes]')) route();
    return;
  }
  banner.textContent = `${reasons.join('; ')}. Trying again …`;
  probe = setTimeout(look, PROBE_MS);
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
  banner.hidden = true;
  banner.textContent = '';
}

start();
