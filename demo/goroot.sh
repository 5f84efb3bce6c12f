#!/bin/sh
# The story of sdiff with real data and real processes: the Go sources loaded,
# followed, changed, damaged and repaired, then compared byte for byte. Takes
# half a minute; needs Go and nothing else. Options: go run ./demo/goroot -h
set -eu
cd "$(dirname "$0")/.."
exec go run ./demo/goroot "$@"
