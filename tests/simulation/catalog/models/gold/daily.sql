/* ---
description: Cost by organisation, day and service.
owner: simulation@example.com
kind: mergeable
grain: [org, day, service]
columns:
  org: Who pays.
  day: {unit: UTC, doc: Day.}
  service: What for.
  cost: {unit: USD, doc: Charge.}
  highest: {unit: USD, doc: Largest charge.}
  events: Events.
  average: {unit: USD, doc: Charge of an event.}
ratios:
  average: cost / events
serving: {partition_key: [org], clustering: [day, service]}
audits:
  - unique: [org, day, service]
  - same_total: {cost: silver.usage.cost}
--- */
SELECT
    usage.org::VARCHAR AS org,
    usage.day::DATE AS day,
    usage.service::VARCHAR AS service,
    coalesce(sum(usage.cost), 0)::DECIMAL(38, 9) AS cost,
    max(usage.cost)::DECIMAL(38, 9) AS highest,
    count(*)::BIGINT AS events
FROM silver.usage AS usage
GROUP BY usage.org, usage.day, usage.service
