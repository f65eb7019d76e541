#!/usr/bin/env bash
# Usage: curl_loop.sh rows.csv > results.csv
tail -n +2 "$1" | while IFS=, read -r user conv type; do
  nonce=$(openssl rand -hex 8)
  now=$(date +%s)
  signature=$(printf %s "$ZIM_APP_ID$nonce$ZIM_SERVER_SECRET$now" | md5sum | cut -c 1-32)
  if curl -sf -o /dev/null --get "$ZIM_ENDPOINT/" -d Action=ClearConversationUnread \
    --data-urlencode "FromUserId=$user" --data-urlencode "ConvId=$conv" -d "ConvType=$type" \
    -d "AppId=$ZIM_APP_ID" -d "SignatureNonce=$nonce" -d "Timestamp=$now" \
    -d SignatureVersion=2.0 -d "Signature=$signature"; then
    echo "$user,$conv,ok"
  else
    echo "$user,$conv,failed"
  fi
  sleep 0.05
done
