/* ---
description: Cost by organisation and month.
owner: simulation@example.com
kind: view
grain: [org, month]
columns:
  org: Who pays.
  month: {unit: UTC, doc: First day of the month.}
  cost: {unit: USD, doc: Charge.}
  events: Events.
serving: {partition_key: [org], clustering: [month]}
audits:
  - unique: [org, month]
  - same_total: {cost: gold.daily.cost}
--- */
SELECT
    daily.org::VARCHAR AS org,
    date_trunc('month', daily.day)::DATE AS month,
    sum(daily.cost)::DECIMAL(38, 9) AS cost,
    sum(daily.events)::BIGINT AS events
FROM gold.daily AS daily
GROUP BY daily.org, date_trunc('month', daily.day)
