# Tells clients to go elsewhere and ends when no call runs: drain-envoy.sh LEAVE LONGEST ADMIN_PORT, times in seconds.
ask() {
    exec 3<>"/dev/tcp/127.0.0.1/$3" || exit 0
    printf '%s %s HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n' "$1" "$2" >&3
    cat <&3
    exec 3>&-
}
ask POST '/drain_listeners?graceful&skip_exit' "$3" >/dev/null
sleep "$1"
end=$((SECONDS + $2))
while [ "$SECONDS" -lt "$end" ]; do
    active=0
    while read -r _ value; do
        active=$((active + ${value%%[!0-9]*}))
    done < <(ask GET '/stats?filter=^http.grpc.downstream_rq_active$' "$3" | grep downstream_rq_active)
    [ "$active" = 0 ] && exit 0
    sleep 1
done
