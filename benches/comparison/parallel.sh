#!/usr/bin/env bash
# Usage: parallel.sh rows.csv joblog. Started again, it sends what is not in the joblog, and what failed.
clear_unread() {
  nonce=$(openssl rand -hex 8)
  now=$(date +%s)
  signature=$(printf %s "$ZIM_APP_ID$nonce$ZIM_SERVER_SECRET$now" | md5sum | cut -c 1-32)
  curl -sf -o /dev/null --get "$ZIM_ENDPOINT/" -d Action=ClearConversationUnread \
    --data-urlencode "FromUserId=$1" --data-urlencode "ConvId=$2" -d "ConvType=$3" \
    -d "AppId=$ZIM_APP_ID" -d "SignatureNonce=$nonce" -d "Timestamp=$now" \
    -d SignatureVersion=2.0 -d "Signature=$signature"
}
export -f clear_unread
tail -n +2 "$1" |
  parallel -j20 --delay 0.05 --retries 3 --joblog "$2" --resume-failed --colsep , clear_unread '{1}' '{2}' '{3}'
