/* ---
description: What services an organisation uses.
owner: simulation@example.com
kind: view
grain: [org]
columns:
  org: Who pays.
  services: Services, sorted.
  cost: {unit: USD, doc: Charge.}
serving: {partition_key: [org]}
audits:
  - unique: [org]
--- */
SELECT
    daily.org::VARCHAR AS org,
    list(DISTINCT daily.service ORDER BY daily.service)::VARCHAR[] AS services,
    sum(daily.cost)::DECIMAL(38, 9) AS cost
FROM gold.daily AS daily
GROUP BY daily.org
