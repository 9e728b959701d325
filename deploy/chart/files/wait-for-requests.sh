# Ends when the gateway has no requests left: wait-for-requests.sh LEAVE LONGEST METRICS_URL, times in seconds.
# The first seconds are for balancers to leave; new requests that still come are answered meanwhile.
sleep "$1"
end=$(($(date +%s) + $2))
while [ "$(date +%s)" -lt "$end" ]; do
    page=$(curl -fsS --max-time 5 "$3") || exit 0
    # This very question is one of those that run.
    running=$(printf '%s\n' "$page" | awk '/^trireme_gateway_requests_running\{/ && !/endpoint="(metrics|healthz|readyz)"/ { n += $NF } END { print n + 0 }')
    [ "$running" = 0 ] && exit 0
    sleep 1
done
