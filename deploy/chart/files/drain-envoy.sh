# Tells clients to go elsewhere and ends when no call runs: drain-envoy.sh LEAVE LONGEST ADMIN_PORT, times in seconds.
# In bash, which Envoy's image has; it has no curl.
ask() {
    exec 3<>"/dev/tcp/127.0.0.1/$3" || return 1
    printf '%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n' "$1" "$2" >&3
    cat <&3
    exec 3>&-
}
ask POST '/drain_listeners?graceful&skip_exit' "$3" >/dev/null || exit 0
sleep "$1"
end=$((SECONDS + $2))
while [ "$SECONDS" -lt "$end" ]; do
    said=$(ask GET '/stats?filter=^http.grpc.downstream_rq_active$' "$3") || exit 0
    case $said in *'downstream_rq_active: 0'*) exit 0 ;; esac
    sleep 1
done
