/* ---
description: >-
  Org-days whose cost stands out within their service: over 3 standard deviations above the mean,
  over 3.5 by the modified z-score, or over the 99th percentile. Upper side only; a row has at
  least one flag.
owner: finops@example.com
kind: view
batch_only: Each score looks at every org-day of the service, so one event can move all of them.
finalizer: anomaly
grain: [org_id, usage_date, service]
columns:
  org_id: Organisation that is charged.
  usage_date: {unit: UTC, doc: Day of the events.}
  service: Cloud service; trimmed, ASCII lower case.
  daily_cost_usd: {unit: USD, doc: Charges before credits and taxes.}
  z_score: >-
    (cost - mean) / population standard deviation of the service's org-days; 6 places,
    half-even; NULL when the deviation is 0.
  mad_score: >-
    0.6745 (cost - median) / median absolute deviation; 6 places, half-even; NULL when the
    deviation is 0.
  p99_usd: {unit: USD, doc: 99th percentile of the service's org-days by linear interpolation.}
  flag_zscore: z_score > 3, before rounding.
  flag_mad: mad_score > 3.5, before rounding.
  flag_p99: Cost above the 99th percentile.
  anomaly_score: Number of flags, 1 to 3.
serving:
  partition_key: [org_id]
  clustering: [usage_date DESC, service]
  cql: cost_anomalies_by_org_day
audits:
  - unique: [org_id, usage_date, service]
--- */
SELECT
    daily.org_id::VARCHAR                   AS org_id,
    daily.usage_date::DATE                  AS usage_date,
    daily.service::VARCHAR                  AS service,
    daily.daily_cost_usd::DECIMAL(38, 9)    AS daily_cost_usd
FROM gold.org_daily_usage_by_service AS daily
