/** Calls of the gateway's API: one JSON answer, an upload, or a stream of events. Knows nothing of pages. */

const FALLBACK = { 401: 'the key is not in force', 503: 'the gateway cannot answer now' };

/** What the session knows. key: as the user gave it, "" without one. me: what GET /v1/me says of it. */
export const session = { key: '', me: null };

/**
 * What happened to calls, for the shell: `unauthorized`, `down` (no answer, or 503) and `up` (an answer came).
 * The event's `detail` is the ApiError, or null.
 */
export const calls = new EventTarget();

/** An answer that is an error, or none at all. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, code?: string, param?: string|null, requestId?: string, retryAfter?: number|null}} [facts]
   *   status: 0 where no answer came. retryAfter: in seconds.
   */
  constructor(message, { status = 0, code = '', param = null, requestId = '', retryAfter = null } = {}) {
    super(message);
    this.name = 'ApiError';
    Object.assign(this, { status, code, param, requestId, retryAfter });
  }
}

/**
 * One call. Raises ApiError, or an AbortError where `signal` ends it.
 * @param {string} path from the root on, such as /v1/me
 * @param {{method?: string, body?: any, query?: Object<string, any>, signal?: AbortSignal, headers?: Object<string, string>}} [options]
 *   body: sent as JSON. query: what is null, undefined or "" is left out.
 * @returns {Promise<{data: any, headers: Headers}>} data: null where the answer has no body
 */
export async function api(path, options = {}) {
  const answer = await ask(path, options);
  const text = await reading(answer.text());
  note('up', null);
  return { data: text === '' ? null : parse(text, answer), headers: answer.headers };
}

/**
 * Send a form with progress. Raises as `api`.
 * @param {string} path
 * @param {FormData} form
 * @param {{onProgress?: (sent: number, total: number) => void, signal?: AbortSignal}} [options] bytes
 * @returns {Promise<{data: any, headers: Headers}>}
 */
export function upload(path, form, { onProgress, signal } = {}) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    const { key } = session;
    request.open('POST', path);
    request.setRequestHeader('authorization', `Bearer ${key}`);
    request.upload.onprogress = (event) => onProgress?.(event.loaded, event.total);
    request.onabort = () => reject(signal?.reason ?? new DOMException('aborted', 'AbortError'));
    request.onerror = () => reject(fail(new ApiError('the gateway does not answer', { code: 'network' })));
    request.onload = () => {
      const headers = readHeaders(request.getAllResponseHeaders());
      const error = errorOf(request.status, request.responseText, headers);
      if (error) reject(fail(error, key));
      else resolve({ data: request.responseText ? JSON.parse(request.responseText) : null, headers });
    };
    request.onloadend = () => signal?.removeEventListener('abort', abort);
    signal?.addEventListener('abort', abort);
    request.send(form);
  });
}

/**
 * Server-sent events of a call. Ends with the stream; raises as `api`. The generator's `return` ends the call.
 * @param {string} path
 * @param {{method?: string, body?: any, query?: Object<string, any>, signal?: AbortSignal, headers?: Object<string, string>,
 *   onOpen?: (headers: Headers) => void}} [options] onOpen: is told the headers before the first event
 * @returns {AsyncGenerator<{event: string, data: any}>} data: parsed JSON, or the text where it is none
 */
export async function* stream(path, options = {}) {
  const ended = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, ended.signal]) : ended.signal;
  try {
    const answer = await ask(path, { ...options, signal });
    options.onOpen?.(answer.headers);
    note('up', null);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = eventParser();
    for (;;) {
      const { done, value } = await reading(reader.read());
      if (done) return;
      yield* parser(value);
    }
  } finally {
    ended.abort();
  }
}

/**
 * A parser of text/event-stream: takes the text as it comes, gives the events that are whole.
 * @returns {(text: string) => {event: string, data: any}[]}
 */
export function eventParser() {
  let rest = '';
  let event = '';
  let data = [];
  return (text) => {
    const events = [];
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
      if (line === '') {
        if (data.length) events.push({ event: event || 'message', data: jsonOr(data.join('\n')) });
        event = '';
        data = [];
      } else if (!line.startsWith(':')) {
        const [name, value] = split(line);
        if (name === 'event') event = value;
        if (name === 'data') data.push(value);
      }
    }
    return events;
  };
}

function split(line) {
  const colon = line.indexOf(':');
  if (colon < 0) return [line, ''];
  const value = line.slice(colon + 1);
  return [line.slice(0, colon), value.startsWith(' ') ? value.slice(1) : value];
}

function jsonOr(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

async function ask(path, { method = 'GET', body, query, signal, headers } = {}) {
  const sent = { ...headers };
  const { key } = session;
  if (key) sent.authorization = `Bearer ${key}`;
  if (body !== undefined) sent['content-type'] = 'application/json';
  const answer = await reading(
    fetch(withQuery(path, query), {
      method,
      signal,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      // no-store would send Cache-Control: no-cache, at which the gateway's own caches are passed by.
      cache: method === 'GET' ? 'no-store' : 'default',
      credentials: 'omit',
      redirect: 'error',
    }),
  );
  if (answer.ok) return answer;
  throw fail(errorOf(answer.status, await reading(answer.text()), answer.headers), key);
}

function withQuery(path, query) {
  const pairs = Object.entries(query ?? {}).filter(([, value]) => value !== null && value !== undefined && value !== '');
  return pairs.length ? `${path}?${new URLSearchParams(pairs)}` : path;
}

/** What a promise of the network gives; its failure as an ApiError, but for an abort. */
async function reading(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error?.name === 'AbortError' || error?.name === 'TimeoutError') throw error;
    throw fail(new ApiError('the gateway does not answer', { code: 'network' }));
  }
}

function parse(text, answer) {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError('the answer is no JSON', { status: answer.status, requestId: answer.headers.get('x-request-id') ?? '' });
  }
}

function errorOf(status, text, headers) {
  if (status >= 200 && status < 300) return null;
  const said = jsonOr(text)?.error ?? {};
  const after = Number(headers.get('retry-after'));
  return new ApiError(said.message || FALLBACK[status] || `the gateway answered ${status}`, {
    status,
    code: said.code || said.type || '',
    param: said.param ?? null,
    requestId: headers.get('x-request-id') ?? '',
    retryAfter: after > 0 ? after : null,
  });
}

function readHeaders(text) {
  const pairs = text.trim().split(/\r?\n/).map((line) => split(line));
  return new Headers(pairs.filter(([name]) => name));
}

/** Tell the shell of a failure that is more than this call's, and give the error back. A key of before says nothing of the one in use. */
function fail(error, key = session.key) {
  if (error.status === 401 && key === session.key) note('unauthorized', error);
  if (error.status === 0 || error.status === 503) note('down', error);
  return error;
}

function note(type, detail) {
  calls.dispatchEvent(new CustomEvent(type, { detail }));
}
