#!/bin/sh
# Builds deploy/Dockerfile on a stand-in for NVIDIA's Triton image, and runs in it what the chart's pods run.
#
#   sh build/try_image.sh FOLDER [OPTION OF BUILDAH BUILD ...]
#
# Needs root, buildah and debootstrap (Debian: apt-get install --no-install-recommends buildah debootstrap), no
# registry, no docker and no kernel module. FOLDER holds base, layers and containers; remove it afterwards. What it
# proves: every step of the Dockerfile, what pip installs of it, and that the commands start as its user. What it does
# not: Triton's own image with its Python and libraries, and tritonserver itself.
set -eu
if [ -z "${TRY_IMAGE_INSIDE-}" ]; then
    # In a mount namespace of its own, with devices of its own: whatever a step does as root, the machine keeps its.
    TRY_IMAGE_INSIDE=1 exec unshare --mount --propagation private sh "$0" "$@"
fi
folder=$1
shift
mkdir -p "$folder/dev"
mount -t tmpfs -o mode=755 tmpfs "$folder/dev"
minor=3
for device in null _ zero _ full random urandom; do
    [ "$device" = _ ] || mknod -m 666 "$folder/dev/$device" c 1 "$minor"
    minor=$((minor + 1))
done
mkdir "$folder/dev/pts" "$folder/dev/shm"
ln -s /proc/self/fd "$folder/dev/fd"
mount --move "$folder/dev" /dev
base=localhost/tritonserver:stand-in
made=localhost/trireme:tried
do_buildah() {
    buildah --root "$folder/layers" --runroot "$folder/run" --storage-driver vfs "$@"
}
if [ ! -d "$folder/base/opt/tritonserver" ]; then
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-dev bookworm "$folder/base" \
        "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
    chroot "$folder/base" useradd --create-home --uid 1000 triton-server
    mkdir -p "$folder/base/opt/tritonserver/backends"
fi
# Of the machine: whom pip and apt trust.
cp /etc/ssl/certs/ca-certificates.crt "$folder/base/etc/ssl/certs/"
container=$(do_buildah from scratch)
do_buildah copy --quiet "$container" "$folder/base" /
do_buildah commit --quiet "$container" "$base"
do_buildah rm "$container" >/dev/null
do_buildah build --format docker --isolation chroot --build-arg "TRITON_IMAGE=$base" "$@" --file deploy/Dockerfile --tag "$made" .

container=$(do_buildah from "$made")
trap 'do_buildah rm "$container" >/dev/null' EXIT
run() {
    echo "--- $*"
    do_buildah run --isolation chroot "$container" -- "$@"
}
do_buildah copy --quiet "$container" deploy/chart/values.yaml /tmp/values.yaml
run sh -c 'test "$(id -u)" = 1000'
for command in agent drain envoy gateway ready regions worker; do
    run sh -c "trireme $command --help >/dev/null"
done
run trireme envoy --values=/tmp/values.yaml --out=/tmp/envoy.json
# Started and asked, as probes do; without a server it is not ready, and says so.
run sh -c '
    trireme agent --port=18003 --http-port=18004 & agent=$!
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        curl -fsS http://127.0.0.1:18004/healthz && break
        sleep 0.5
    done
    curl -sS http://127.0.0.1:18004/ready | grep -q server_away
    kill "$agent"'
run sh -c 'HOME=/tmp trireme gateway 2>&1 | grep -q "^error:\|TRIREME_"'
run sh -c 'python3 -c "import openvino_genai, pypdf, redis, grpc_health, trireme.triton.backends"'
echo "The image is made, and its commands start."
