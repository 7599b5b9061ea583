#!/bin/sh
# Run TorchServe in the foreground, and stop it in good order, which its own launcher does not.
# After SIGTERM readiness ends at once, so that whoever balances the load takes the service out; it answers for
# DRAIN_SECONDS more, then up to as long again while somebody is still connected, and stops.
# TorchServe alone would cut off the requests it is working on, and call itself healthy until then.
# usage: serve.sh          settings: config.properties, or TS_... in the environment
set -eu
cd "$(dirname "$0")"
python=$(command -v python) || { echo "serve: no python on PATH" >&2; exit 2; }
version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p') || version=
if [ "${version:-0}" -lt 17 ]; then
    echo "serve: found Java ${version:-none}; TorchServe needs Java 17 (Debian: apt-get install openjdk-17-jre-headless)" >&2
    exit 2
fi
[ -f model-store/kws.mar ] || { echo "serve: no model-store/kws.mar; \`make mar\` makes it" >&2; exit 2; }
home=$("$python" -c 'import os, ts; print(os.path.dirname(os.path.dirname(ts.__file__)))')
java -Djava.io.tmpdir="${TMPDIR:-/tmp}" -Xmx256m -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError -Dmodel_server_home="$home" \
    -Dlog4j.configurationFile="file://$PWD/log4j2.xml" -cp "$home/ts/frontend/*" \
    org.pytorch.serve.ModelServer --python "$python" --ts-config config.properties --model-store model-store -ncs &
server=$!
"$python" readiness.py &
readiness=$!

address=${TS_INFERENCE_ADDRESS:-$(sed -n 's/^inference_address=//p' config.properties)}
port=$(printf '%04X' "$(expr "$address" : '.*:\([0-9]*\)' || true)")
connected() { grep -qs "^ *[0-9]*: [0-9A-F]*:$port [0-9A-F:]* 01 " /proc/net/tcp /proc/net/tcp6; }

drain() {
    trap '' TERM
    kill $readiness 2>/dev/null || true
    sleep "${DRAIN_SECONDS:-5}"
    more=${DRAIN_SECONDS:-5}
    while [ "$more" -gt 0 ] && connected; do
        sleep 1
        more=$((more - 1))
    done
    kill -TERM $server
}
trap drain TERM
trap 'kill -TERM $server' INT
code=0
wait $server || wait $server || code=$?  # a signal ends the first
kill $readiness 2>/dev/null || true
exit $code
