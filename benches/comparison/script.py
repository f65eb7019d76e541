#!/usr/bin/env python3
"""Usage: script.py rows.csv > results.csv"""

import csv
import hashlib
import os
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import requests

APP_ID, SECRET = os.environ["ZIM_APP_ID"], os.environ["ZIM_SERVER_SECRET"]
session = requests.Session()


def send(row):
    nonce, now = secrets.token_hex(8), str(int(time.time()))
    params = {
        "Action": "ClearConversationUnread",
        "FromUserId": row["user"],
        "ConvId": row["conv"],
        "ConvType": row["type"],
        "AppId": APP_ID,
        "SignatureNonce": nonce,
        "Timestamp": now,
        "SignatureVersion": "2.0",
        "Signature": hashlib.md5((APP_ID + nonce + SECRET + now).encode()).hexdigest(),
    }
    answer = session.get(os.environ["ZIM_ENDPOINT"], params=params, timeout=10)
    answer.raise_for_status()
    return answer.json()["Code"] == 0


def clear(row):
    outcome = "failed"
    for _ in range(3):
        try:
            if send(row):
                outcome = "ok"
                break
        except requests.RequestException:
            pass
        time.sleep(1)
    sys.stdout.write(f"{row['user']},{row['conv']},{outcome}\n")
    sys.stdout.flush()


with open(sys.argv[1], newline="") as file, ThreadPoolExecutor(20) as pool:
    for row in csv.DictReader(file):
        pool.submit(clear, row)
        time.sleep(0.05)
