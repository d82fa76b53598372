"""What a controller written with the Python client does, against $KUBECONFIG."""

import queue
import threading
from datetime import datetime, timezone

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.informer import SharedInformer
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

NAMESPACE = "default"
PATIENCE = 20  # seconds until something that should happen counts as missing


def main():
    config.load_kube_config()
    services_with_an_informer()
    services_with_conflicts_and_patches()
    slices_with_a_watch_that_resumes()
    leases_keep_microseconds()
    pages_and_selectors()
    dynamic_client_applies()
    leader_election()


def service(name, port=80, **spec):
    ports = [client.V1ServicePort(name="http", port=port, target_port="web")]
    return client.V1Service(
        metadata=client.V1ObjectMeta(name=name, labels={"app": name}),
        spec=client.V1ServiceSpec(selector={"app": name}, ports=ports, **spec),
    )


def services_with_an_informer():
    core = client.CoreV1Api()
    core.create_namespaced_service(NAMESPACE, service("before"))
    seen = queue.Queue()
    informer = SharedInformer(core.list_namespaced_service, namespace=NAMESPACE)
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        informer.add_event_handler(
            kind, lambda obj, kind=kind: seen.put((kind, obj.metadata.name)))
    informer.add_event_handler("ERROR", lambda error: seen.put(("ERROR", error)))
    informer.start()

    initial = {seen.get(timeout=PATIENCE), seen.get(timeout=PATIENCE)}
    assert initial == {("ADDED", "before"), ("ADDED", "kubernetes")}, initial

    created = core.create_namespaced_service(NAMESPACE, service("web"))
    assert created.spec.cluster_ip and created.spec.type == "ClusterIP", created
    expect(seen, ("ADDED", "web"))
    core.patch_namespaced_service("web", NAMESPACE, {"metadata": {"labels": {"tier": "front"}}})
    expect(seen, ("MODIFIED", "web"))
    cached = informer.cache.get_by_key("default/web")
    assert cached.metadata.labels == {"app": "web", "tier": "front"}, cached
    deleted = core.delete_namespaced_service("web", NAMESPACE)
    assert deleted.metadata.name == "web", deleted
    expect(seen, ("DELETED", "web"))
    assert informer.cache.get_by_key("default/web") is None

    # Ends the watch: it waits for an event.
    stopping = threading.Thread(target=informer.stop)
    stopping.start()
    core.delete_namespaced_service("before", NAMESPACE)
    stopping.join(PATIENCE)
    assert not stopping.is_alive(), "the informer did not stop"


def services_with_conflicts_and_patches():
    core = client.CoreV1Api()
    first = core.create_namespaced_service(NAMESPACE, service("shared", type="NodePort"))
    second = core.read_namespaced_service("shared", NAMESPACE)
    node_port = first.spec.ports[0].node_port
    assert 30000 <= node_port <= 32767, first

    first.metadata.labels["round"] = "1"
    core.replace_namespaced_service("shared", NAMESPACE, first)
    second.metadata.labels["round"] = "2"
    error = refused(lambda: core.replace_namespaced_service("shared", NAMESPACE, second))
    assert (error.status, error.reason) == (409, "Conflict"), error
    error = refused(lambda: core.create_namespaced_service(NAMESPACE, service("shared")))
    assert (error.status, '"AlreadyExists"' in error.body) == (409, True), error
    error = refused(lambda: core.create_namespaced_service(NAMESPACE, service("bad", port=0)))
    assert (error.status, "spec.ports[0].port" in error.body) == (422, True), error

    # The client chooses the patch type by the body: a list is a JSON patch.
    operation = {"op": "replace", "path": "/spec/ports/0/port", "value": 8080}
    patched = core.patch_namespaced_service("shared", NAMESPACE, [operation])
    assert patched.spec.ports[0].port == 8080, patched
    assert patched.spec.ports[0].node_port == node_port, patched
    ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    # No controller of the server serves this class.
    balanced = {"spec": {"type": "LoadBalancer", "loadBalancerClass": "test.example/session"}}
    core.patch_namespaced_service("shared", NAMESPACE, balanced)
    status = core.patch_namespaced_service_status("shared", NAMESPACE, ingress)
    assert status.status.load_balancer.ingress[0].ip == "192.0.2.1", status
    core.delete_namespaced_service("shared", NAMESPACE)
    assert refused(lambda: core.read_namespaced_service("shared", NAMESPACE)).status == 404


def slices_with_a_watch_that_resumes():
    api = client.DiscoveryV1Api()
    start = api.list_namespaced_endpoint_slice(NAMESPACE).metadata.resource_version
    for name in ("one", "two", "three"):
        endpoint = client.V1Endpoint(
            addresses=["192.0.2.9"], conditions=client.V1EndpointConditions(ready=True))
        port = client.DiscoveryV1EndpointPort(name="http", port=80, protocol="TCP")
        labels = {"kubernetes.io/service-name": "none"}
        api.create_namespaced_endpoint_slice(NAMESPACE, client.V1EndpointSlice(
            metadata=client.V1ObjectMeta(name=name, labels=labels),
            address_type="IPv4", endpoints=[endpoint], ports=[port]))

    def watched(version, count):
        stream = watch.Watch()
        names, version_seen = [], version
        for event in stream.stream(
                api.list_namespaced_endpoint_slice, NAMESPACE, resource_version=version,
                label_selector="kubernetes.io/service-name=none", timeout_seconds=PATIENCE):
            names.append((event["type"], event["object"].metadata.name))
            version_seen = event["object"].metadata.resource_version
            if len(names) == count:
                stream.stop()
        return names, version_seen

    names, version = watched(start, 2)
    assert names == [("ADDED", "one"), ("ADDED", "two")], names
    api.delete_namespaced_endpoint_slice("one", NAMESPACE)
    names, _ = watched(version, 2)
    assert names == [("ADDED", "three"), ("DELETED", "one")], names


def leases_keep_microseconds():
    api = client.CoordinationV1Api()
    now = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
    spec = client.V1LeaseSpec(holder_identity="a", lease_duration_seconds=15, renew_time=now)
    lease = client.V1Lease(metadata=client.V1ObjectMeta(name="clock"), spec=spec)
    api.create_namespaced_lease(NAMESPACE, lease)
    held = api.read_namespaced_lease("clock", NAMESPACE)
    assert held.spec.renew_time == now, held
    held.spec.holder_identity = "b"
    held = api.replace_namespaced_lease("clock", NAMESPACE, held)
    stolen = api.patch_namespaced_lease("clock", NAMESPACE, {"spec": {"holderIdentity": "c"}})
    assert stolen.spec.holder_identity == "c", stolen
    error = refused(lambda: api.replace_namespaced_lease("clock", NAMESPACE, held))
    assert error.status == 409, error


def pages_and_selectors():
    core = client.CoreV1Api()
    for number in range(5):
        core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(
            metadata=client.V1ObjectMeta(name=f"page-{number}", labels={"set": "pages"})))
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(
            NAMESPACE, label_selector="set=pages", limit=2, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"page-{number}" for number in range(5)], names
    one = core.list_namespaced_config_map(NAMESPACE, field_selector="metadata.name=page-3")
    assert [item.metadata.name for item in one.items] == ["page-3"], one
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="set=pages")
    left = core.list_namespaced_config_map(NAMESPACE, label_selector="set=pages").items
    assert left == [], left


def dynamic_client_applies():
    api = dynamic.DynamicClient(client.ApiClient())
    services = api.resources.get(api_version="v1", kind="Service")
    manifest = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "applied"},
        "spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "protocol": "TCP"}]},
    }
    applied = services.server_side_apply(
        body=manifest, namespace=NAMESPACE, field_manager="first")
    assert applied.metadata.managedFields[0].operation == "Apply", applied
    manifest["spec"]["selector"] = {"a": "c"}
    try:
        services.server_side_apply(body=manifest, namespace=NAMESPACE, field_manager="second")
    except dynamic.exceptions.ConflictError as error:
        assert "first" in str(error.body), error
    else:
        raise AssertionError("applied over another manager")
    services.server_side_apply(
        body=manifest, namespace=NAMESPACE, field_manager="second", force_conflicts=True)
    services.delete(name="applied", namespace=NAMESPACE)


def leader_election():
    led, stand_down = threading.Event(), threading.Event()

    def elector(identity, on_start):
        lock = LeaseLock("leader", NAMESPACE, identity)
        return leaderelection.LeaderElection(electionconfig.Config(
            lock, lease_duration=3, renew_deadline=2, retry_period=1,
            onstarted_leading=on_start, onstopped_leading=None))

    def lead():
        led.set()
        stand_down.wait()
        # What ends a term; a thread that still speaks TLS when Python exits can abort it.
        raise InterruptedError("the term is over")

    first = threading.Thread(target=elector("first", lead).run, daemon=True)
    first.start()
    assert led.wait(PATIENCE), "nobody leads"
    lease = client.CoordinationV1Api().read_namespaced_lease("leader", NAMESPACE)
    assert lease.spec.holder_identity == "first", lease
    second = elector("second", lambda: None)
    assert not second.try_acquire_or_renew(), "two lead at once"
    stand_down.set()
    first.join(PATIENCE)
    assert not first.is_alive(), "the leader did not stand down"


def expect(seen, wanted):
    got = seen.get(timeout=PATIENCE)
    assert got == wanted, f"got {got}, wanted {wanted}"


def refused(call):
    try:
        answer = call()
    except ApiException as error:
        return error
    raise AssertionError(f"not refused: {answer}")


main()
