/** Documents: send them, follow them, mend what failed, read and delete them. */

import { notice } from '../lib/ui.js';
import { collectionField } from './choices.js';
import { collectionList } from './collection_list.js';
import { documentList } from './document_list.js';
import { documentView } from './document_view.js';
import { jobList } from './job_list.js';
import { uploadView } from './upload_view.js';

export const title = 'Documents';

const AGAIN_MS = 1000;

/**
 * @param {HTMLElement} main
 * @param {{me: any, route: string, signal: AbortSignal}} page route: "?collection=NAME", and "&document=ID&passage=ID" for one document
 */
export function show(main, { me, route, signal }) {
  const asked = new URLSearchParams(route.replace(/^[^?]*\??/, ''));
  const collection = asked.get('collection') || me.default_collection;
  const id = asked.get('document');
  const canRead = me.endpoints.includes('documents');
  if (id && canRead) main.append(documentView({ signal, collection, id, passage: asked.get('passage') ?? '' }));
  else if (canRead) showAll(main, { me, signal, collection });
  else {
    main.append(notice('info', 'This key may not read or send documents (endpoint documents). Its collections are these.'));
    const collections = collectionList({ me, signal, choose: null, onChange: () => {} });
    main.append(collections.node);
    collections.reload();
  }
}

function showAll(main, { me, signal, collection }) {
  const field = collectionField({ me, signal, value: collection, onChange: (name) => choose(name) });
  const current = () => field.value() || me.default_collection;
  const choose = (name) => {
    field.input.value = name || me.default_collection;
    history.replaceState(null, '', `#/documents?${new URLSearchParams({ collection: current() })}`);
    documents.restart();
  };
  const refresh = later(signal, () => {
    documents.reload();
    collections?.reload();
  });
  const documents = documentList({ signal, collection: current, isThere: field.isThere, onChange: refresh });
  const jobs = jobList({ signal, onChange: refresh });
  const collections =
    me.endpoints.includes('search') &&
    collectionList({
      me,
      signal,
      choose: (name) => {
        choose(name);
        documents.node.scrollIntoView({ block: 'start' });
      },
      onChange: (name) => {
        field.forget(name);
        if (name === current()) documents.restart();
      },
    });
  const uploads = uploadView({ me, signal, collection: current, onStored: refresh });
  main.append(field.node, uploads, jobs.node, documents.node, ...(collections ? [collections.node] : []));
  documents.restart();
  jobs.reload();
  if (collections) collections.reload();
}

/** Call `act` soon, once for many wishes: hundreds of files may be stored in a second. */
function later(signal, act) {
  let timer = 0;
  return () => {
    timer ||= setTimeout(() => {
      timer = 0;
      if (!signal.aborted) act();
    }, AGAIN_MS);
  };
}
