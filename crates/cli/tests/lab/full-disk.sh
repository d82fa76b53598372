# Runs in mount and user namespaces of its own, in an empty folder with web.yaml: a lab on a small
# disk that fills up.
set -eu
mkdir disk
mount -t tmpfs -o size=24m tmpfs disk
export PORTOLAN_STATE=$PWD/disk/state
"$PORTOLAN" up --detach --nodes 1 -f web.yaml
trap '"$PORTOLAN" down' EXIT
kubectl() { "$KUBECTL" --kubeconfig disk/state/kubeconfig --cache-dir cache "$@"; }
kubectl create configmap before

# Whatever room the store has left inside its own file is used up by these.
head -c 900000 /dev/zero | tr '\0' x > large
dd if=/dev/zero of=disk/ballast bs=64k 2>/dev/null || true
refused=
for number in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    if ! kubectl create configmap "large-$number" --from-file=large 2> said; then
        refused=$number
        break
    fi
done
cat said
[ -n "$refused" ] || { echo "no write was refused"; exit 1; }
grep -qi 'space\|disk\|storage' said

# Reads go on, what was acknowledged is there, and traffic goes on.
kubectl get configmap before
kubectl get nodes,pods,services
number=1
while [ "$number" -lt "$refused" ]; do
    kubectl get configmap "large-$number" > /dev/null
    number=$((number + 1))
done
"$PORTOLAN" exec client -- curl -s -m 2 http://node1:30007 | grep pod=

# With room again, writes are taken again, without a restart.
rm disk/ballast
for _ in $(seq 50); do
    if kubectl create configmap after 2> said; then
        exit 0
    fi
    sleep 0.1
done
cat said
exit 1
