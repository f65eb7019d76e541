#!/usr/bin/env bash
# Side by side with other senders, on this machine: benches/compare.sh [RUNS]
#
# 1. At the cap: 200 requests at 20 a second to a server that takes 20 in any second, strictly, and answers after 30 ms
#    (the built-in simulator). How many a second are accepted, and how many are refused?
# 2. Uncapped: how many rows a second, with signing, JSON, report and outside log, beside the bare requests a second of
#    oha, against nginx. Needs oha and nginx.
#
# Peers that are not installed are left out. Each figure is the median of RUNS runs, taken in turns.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-3}
cargo build --release --quiet
bin=$PWD/target/release/zim-batch
work=$(mktemp -d)
trap 'rm -rf "$work"; [ -z "${server:-}" ] || kill "$server" 2>/dev/null || true' EXIT

export ZIM_APP_ID=12345 ZIM_SERVER_SECRET=9193cc662a4c0ec135ec71fb57194b38
have() { command -v "$1" >/dev/null; }
median() { sort -n | awk '{v[NR]=$1} END {print NR ? (NR%2 ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2) : "-"}'; }

rows() { # COUNT
  echo user,conv,type
  awk -v n="$1" 'BEGIN {for (i = 0; i < n; i++) printf "user%06d,conv%07d,%d\n", i % 5000, i, i % 2 * 2}'
}

signed_url() { # a URL that the simulator accepts for ten minutes
  local time nonce=4fd24687296dd9f3
  time=$(date +%s)
  echo "http://127.0.0.1:$port/?Action=ClearConversationUnread&FromUserId=user1&ConvId=user2&ConvType=0&AppId=$ZIM_APP_ID&SignatureNonce=$nonce&Timestamp=$time&SignatureVersion=2.0&Signature=$(printf %s "$ZIM_APP_ID$nonce$ZIM_SERVER_SECRET$time" | md5sum | cut -c1-32)"
}

start_simulator() { # FLAGS…
  rm -f "$work/said"
  "$bin" simulate "$@" >"$work/tally" 2>"$work/said" &
  server=$!
  until port=$(grep -so "127.0.0.1:[0-9]*" "$work/said" | head -1 | cut -d: -f2) && [ -n "$port" ]; do sleep 0.05; done
}

stop_simulator() {
  kill "$server"
  wait "$server" || true
  server=
}

field() { grep -o "\"$1\":[0-9.]*" | head -1 | cut -d: -f2; }

at_the_cap() { # PEER: runs it against a fresh server, prints "accepted-a-second refused-percent"
  local begun ended
  start_simulator --cap 20 --latency 30ms "${network[@]}"
  begun=$(date +%s.%N)
  case $1 in
    zim-batch) ZIM_ENDPOINT=http://127.0.0.1:$port "$bin" clear "$work/200.csv" --report "$work/out.csv" --overwrite -q >/dev/null ;;
    oha) oha -n 200 -c 10 -q 20 --no-tui "$(signed_url)" >/dev/null ;;
    curl) for _ in $(seq 200); do echo "url=\"$(signed_url)\""; echo 'output=/dev/null'; done | curl -s --rate 20/s -K - ;;
    parallel) seq 200 | parallel -j 10 --delay 0.05 curl -s -o /dev/null "'$(signed_url)'" >/dev/null 2>&1 ;;
    aiometer) python3 - "$(signed_url)" <<'PY' ;;
import asyncio, functools, sys, aiometer, httpx
async def main():
    async with httpx.AsyncClient() as client:
        await aiometer.run_on_each(client.get, [sys.argv[1]] * 200, max_per_second=20, max_at_once=10)
asyncio.run(main())
PY
  esac
  ended=$(date +%s.%N)
  stop_simulator
  awk -v b="$begun" -v e="$ended" -v sent="$(field requests <"$work/tally")" -v refused="$(field limited <"$work/tally")" \
    'BEGIN {printf "%.2f %.2f\n", (sent - refused) / (e - b), sent ? 100 * refused / sent : 0}'
}

peers=(zim-batch)
for peer in oha curl parallel; do if have "$peer"; then peers+=("$peer"); fi; done
if have python3 && python3 -c 'import aiometer, httpx' 2>/dev/null; then peers+=(aiometer); fi

rows 200 >"$work/200.csv"
for network in "steady" "20 ms of jitter"; do
  title=$network
  network=(); [ "$title" = steady ] || network=(--arrival-jitter 20ms)
  printf '\nat the cap, 200 requests, network: %s\n%-12s %12s %10s\n' "$title" "" "accepted/s" "refused %"
  for ((run = 0; run < runs; run++)); do
    for peer in "${peers[@]}"; do at_the_cap "$peer" >>"$work/cap-$title-$peer"; done
  done
  for peer in "${peers[@]}"; do
    printf '%-12s %12s %10s\n' "$peer" "$(cut -d' ' -f1 "$work/cap-$title-$peer" | median)" "$(cut -d' ' -f2 "$work/cap-$title-$peer" | median)"
  done
done

if have oha && have nginx; then
  cat >"$work/nginx.conf" <<NGINX
worker_processes 1;
daemon off;
pid $work/nginx.pid;
error_log stderr crit;
events {}
http {
  access_log off;
  keepalive_requests 1000000000;
  server {
    listen 127.0.0.1:18089;
    location / { default_type application/json; return 200 '{"Code":0,"Message":"success","RequestId":"343649807833778782"}'; }
  }
}
NGINX
  nginx -c "$work/nginx.conf" &
  server=$!
  port=18089
  sleep 0.5
  rows 200000 >"$work/many.csv"
  for ((run = 0; run < runs; run++)); do
    oha -n 200000 -c 64 --no-tui "$(signed_url)" | awk '/Requests\/sec/ {print $2}' >>"$work/bare"
    "$bin" clear "$work/many.csv" --report "$work/out.csv" --overwrite --endpoint http://127.0.0.1:$port --rate 1000000 \
      --max-in-flight 64 --json --progress none | field rate >>"$work/rows"
  done
  printf '\nuncapped, 64 in flight, nginx on the same machine\n%-28s %10.0f\n%-28s %10.0f\n%-28s %10s\n' \
    "oha, bare requests/s" "$(median <"$work/bare")" "zim-batch, rows/s" "$(median <"$work/rows")" \
    "ratio, median of the pairs" "$(paste "$work/rows" "$work/bare" | awk '{printf "%.2f\n", $1 / $2}' | median)"
fi
