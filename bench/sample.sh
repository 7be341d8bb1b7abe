#!/usr/bin/env bash
# The whole path on the sample delivery, each step a process of its own.
#     bench/sample.sh ../shared/data/landing
set -euo pipefail
delivery=$(realpath "$1")
meterhouse=$(realpath .venv/bin/meterhouse)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
TIMEFORMAT='%R s wall, %U + %S s CPU'
echo "whole path:"
time {
    "$meterhouse" init house >/dev/null
    cd house
    for step in "ingest $delivery" batch "query daily-cost" "query top-services" \
        "query ticket-sla" "query monthly-revenue" "query genai-usage" "query anomalies" verify; do
        TIMEFORMAT="  ${step%% /*}: %R s wall, %U + %S s CPU"
        time "$meterhouse" $step >/dev/null 2>&1
    done
    TIMEFORMAT='%R s wall, %U + %S s CPU'
}
