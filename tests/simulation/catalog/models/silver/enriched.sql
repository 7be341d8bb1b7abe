/* ---
description: Events with the plan that their organisation is on now.
owner: simulation@example.com
kind: rows
grain: [id]
columns:
  id: Event.
  org: Who pays.
  cost: {unit: USD, doc: Charge.}
  plan: Plan of the organisation now.
audits:
  - unique: [id]
  - same_count: silver.usage
--- */
SELECT
    usage.id::VARCHAR AS id,
    usage.org::VARCHAR AS org,
    usage.cost::DECIMAL(38, 9) AS cost,
    org.plan::VARCHAR AS plan
FROM silver.usage AS usage
LEFT JOIN bronze.orgs_current AS org ON usage.org = org.org
