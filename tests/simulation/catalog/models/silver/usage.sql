/* ---
description: Events in one spelling.
owner: simulation@example.com
kind: rows
stored: false
grain: [id]
columns:
  id: Event.
  org: Who pays.
  day: {unit: UTC, doc: Day.}
  service: What for.
  cost: {unit: USD, doc: Charge.}
--- */
SELECT
    event.id::VARCHAR AS id,
    event.org::VARCHAR AS org,
    event.day::DATE AS day,
    event.service::VARCHAR AS service,
    coalesce(event.cost, 0)::DECIMAL(38, 9) AS cost
FROM bronze.events AS event
