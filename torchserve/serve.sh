#!/bin/sh
# Run TorchServe in the foreground, and stop it in good order, which its own launcher does not.
# After SIGTERM it answers for DRAIN_SECONDS more, so that whoever balances the load can take it out, then it stops;
# TorchServe alone would cut off the requests it is working on.
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
trap 'sleep "${DRAIN_SECONDS:-5}"; kill -TERM $server' TERM
trap 'kill -TERM $server' INT
wait $server && exit 0
wait $server  # a signal ended the first
