// What a controller written with the JavaScript client does, against $KUBECONFIG.

import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';

const k8s = await import(pathToFileURL(process.argv[2]));
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const namespace = 'default';
const patience = 20_000; // milliseconds until something that should happen counts as missing

const service = (name, port = 80) => ({
  metadata: { name, labels: { app: name } },
  spec: { selector: { app: name }, ports: [{ name: 'http', port, targetPort: 'web' }] },
});

/** Values in the order in which they come; `next` waits. */
function queue() {
  const values = [];
  let waiting = null;
  return {
    put(value) {
      values.push(value);
      waiting?.();
    },
    async next() {
      const timer = setTimeout(() => { throw new Error('nothing came'); }, patience);
      while (values.length === 0) await new Promise((resolve) => { waiting = resolve; });
      clearTimeout(timer);
      return values.shift();
    },
  };
}

async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  assert.fail('not refused');
}

async function informer() {
  await core.createNamespacedService({ namespace, body: service('before') });
  const path = `/api/v1/namespaces/${namespace}/services`;
  const informer = k8s.makeInformer(config, path, () => core.listNamespacedService({ namespace }));
  const seen = queue();
  for (const verb of ['add', 'update', 'delete']) {
    informer.on(verb, (object) => seen.put([verb, object.metadata.name]));
  }
  informer.on('error', (error) => seen.put(['error', error]));
  const connected = new Promise((resolve) => informer.on('connect', resolve));
  await informer.start();
  await connected;
  assert.deepEqual([await seen.next(), await seen.next()].sort(),
    [['add', 'before'], ['add', 'kubernetes']]);

  const created = await core.createNamespacedService({ namespace, body: service('web') });
  assert.equal(created.spec.type, 'ClusterIP');
  assert.equal(created.spec.ports[0].protocol, 'TCP');
  assert.ok(created.metadata.creationTimestamp instanceof Date);
  assert.deepEqual(await seen.next(), ['add', 'web']);
  await core.patchNamespacedService(
    { name: 'web', namespace, body: { metadata: { labels: { tier: 'front' } } } },
    k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch));
  assert.deepEqual(await seen.next(), ['update', 'web']);
  assert.equal(informer.get('web', namespace).metadata.labels.tier, 'front');
  await core.deleteNamespacedService({ name: 'web', namespace });
  assert.deepEqual(await seen.next(), ['delete', 'web']);
  await informer.stop();
}

async function conflictsAndPatches() {
  const first = await core.createNamespacedService({ namespace, body: service('shared') });
  const second = await core.readNamespacedService({ name: 'shared', namespace });
  first.metadata.labels.round = '1';
  await core.replaceNamespacedService({ name: 'shared', namespace, body: first });
  second.metadata.labels.round = '2';
  const conflict = await refused(
    core.replaceNamespacedService({ name: 'shared', namespace, body: second }));
  assert.equal(conflict.code, 409);
  assert.equal(JSON.parse(conflict.body).reason, 'Conflict');
  const invalid = await refused(
    core.createNamespacedService({ namespace, body: service('bad', 0) }));
  assert.equal(invalid.code, 422);
  assert.equal(JSON.parse(invalid.body).details.causes[0].field, 'spec.ports[0].port');

  const patch = (body, type, options = {}) => core.patchNamespacedService(
    { name: 'shared', namespace, body, ...options },
    k8s.setHeaderOptions('Content-Type', type));
  const { PatchStrategy } = k8s;
  let patched = await patch(
    [{ op: 'replace', path: '/spec/ports/0/port', value: 8080 }], PatchStrategy.JsonPatch);
  assert.equal(patched.spec.ports[0].port, 8080);
  patched = await patch(
    { spec: { ports: [{ port: 8443, name: 'https' }] } }, PatchStrategy.StrategicMergePatch);
  assert.deepEqual(patched.spec.ports.map((port) => port.port).sort(), [8080, 8443]);
  patched = await patch(
    { apiVersion: 'v1', kind: 'Service', metadata: { labels: { by: 'apply' } } },
    PatchStrategy.ServerSideApply, { fieldManager: 'session' });
  assert.equal(patched.metadata.name, 'shared');
  assert.ok(patched.metadata.managedFields.some((entry) => entry.operation === 'Apply'));
}

async function resumingWatch() {
  const discovery = config.makeApiClient(k8s.DiscoveryV1Api);
  const path = `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`;
  const labelSelector = 'kubernetes.io/service-name=none';
  const start = (await discovery.listNamespacedEndpointSlice({ namespace })).metadata.resourceVersion;
  for (const name of ['one', 'two']) {
    const metadata = { name, labels: { 'kubernetes.io/service-name': 'none' } };
    const endpoints = [{ addresses: ['192.0.2.9'], conditions: { ready: true } }];
    await discovery.createNamespacedEndpointSlice({
      namespace, body: { metadata, addressType: 'IPv4', endpoints, ports: [{ port: 80 }] },
    });
  }
  const events = queue();
  const watch = new k8s.Watch(config);
  const follow = async (resourceVersion) => {
    const query = { resourceVersion, labelSelector, allowWatchBookmarks: true };
    return watch.watch(path, query, (type, object) => events.put([type, object]), () => {});
  };
  let request = await follow(start);
  const [type, one] = await events.next();
  assert.deepEqual([type, one.metadata.name], ['ADDED', 'one']);
  assert.equal((await events.next())[1].metadata.name, 'two');
  request.abort();
  await discovery.deleteNamespacedEndpointSlice({ name: 'one', namespace });
  request = await follow(one.metadata.resourceVersion);
  const resumed = [await events.next(), await events.next()];
  assert.deepEqual(resumed.map(([type, object]) => [type, object.metadata.name]),
    [['ADDED', 'two'], ['DELETED', 'one']]);
  request.abort();
}

async function leases() {
  const coordination = config.makeApiClient(k8s.CoordinationV1Api);
  const renewTime = new k8s.V1MicroTime('2026-01-02T03:04:05.678Z');
  const body = { metadata: { name: 'clock' }, spec: { holderIdentity: 'a', renewTime } };
  await coordination.createNamespacedLease({ namespace, body });
  const lease = await coordination.readNamespacedLease({ name: 'clock', namespace });
  assert.equal(new Date(lease.spec.renewTime).getTime(), renewTime.getTime());
  lease.spec.holderIdentity = 'b';
  await coordination.replaceNamespacedLease({ name: 'clock', namespace, body: lease });
  const stale = await refused(
    coordination.replaceNamespacedLease({ name: 'clock', namespace, body: lease }));
  assert.equal(stale.code, 409);
}

async function anyObject() {
  const client = k8s.KubernetesObjectApi.makeApiClient(config);
  const object = {
    apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'any', namespace }, data: { a: '1' },
  };
  await client.create(object);
  await client.patch({ ...object, data: { b: '2' } });
  const read = await client.read(object);
  assert.deepEqual(read.data, { a: '1', b: '2' });
  const list = await client.list('v1', 'ConfigMap', namespace);
  assert.ok(list.items.some((item) => item.metadata.name === 'any'));
  await client.delete(object);
  assert.equal((await refused(client.read(object))).code, 404);
}

await informer();
await conflictsAndPatches();
await resumingWatch();
await leases();
await anyObject();
