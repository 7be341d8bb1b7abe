/* ---
description: >-
  Accepted usage events with service, region, metric and unit in one spelling. A step that the
  usage tables share; no dimension is joined, so it adds up whatever the masters say.
owner: platform@example.com
kind: rows
stored: false
grain: [event_id]
columns:
  event_id: Assigned by the emitter; unique for ever.
  event_ts: {unit: UTC, doc: When the usage happened.}
  event_date: {unit: UTC, doc: Day of the event.}
  org_id: Organisation that is charged.
  resource_id: Resource that was used.
  service: Cloud service; trimmed, ASCII lower case.
  region: Region of the resource; trimmed, ASCII lower case, "unknown" when none was given.
  metric: What value_num measures; trimmed, ASCII lower case.
  unit: Unit of value_num; trimmed, ASCII lower case.
  value_num: Metered quantity. NULL means that nothing was metered, which is not zero.
  cost_usd_increment: {unit: USD, doc: Charge of the event before credits and taxes.}
  schema_version: Version of the event's form.
  carbon_kg: {unit: kg CO2e, doc: Emissions of the event; NULL when not reported.}
  genai_tokens: {unit: tokens, doc: Tokens of a GenAI call; NULL when not reported.}
--- */

-- lower() alone would change letters beyond ASCII, differently on each engine; translate()
-- alone is forty times slower. strlen counts bytes, length characters: equal means ASCII.
WITH spelled AS (
    SELECT
        event.event_id,
        event.event_ts,
        event.event_date,
        event.org_id,
        event.resource_id,
        CASE
            WHEN strlen(event.service) = length(event.service) THEN lower(trim(event.service, ' '))
            ELSE translate(
                trim(event.service, ' '), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz'
            )
        END AS service,
        CASE
            WHEN strlen(event.region) = length(event.region) THEN lower(trim(event.region, ' '))
            ELSE translate(
                trim(event.region, ' '), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz'
            )
        END AS region,
        CASE
            WHEN strlen(event.metric) = length(event.metric) THEN lower(trim(event.metric, ' '))
            ELSE translate(
                trim(event.metric, ' '), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz'
            )
        END AS metric,
        CASE
            WHEN strlen(event.unit) = length(event.unit) THEN lower(trim(event.unit, ' '))
            ELSE translate(
                trim(event.unit, ' '), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz'
            )
        END AS unit,
        event.value_num,
        event.cost_usd_increment,
        event.schema_version,
        event.carbon_kg,
        event.genai_tokens
    FROM bronze.usage_events AS event
)

SELECT
    spelled.event_id::VARCHAR                                 AS event_id,
    spelled.event_ts::TIMESTAMPTZ                             AS event_ts,
    spelled.event_date::DATE                                  AS event_date,
    spelled.org_id::VARCHAR                                   AS org_id,
    spelled.resource_id::VARCHAR                              AS resource_id,
    spelled.service::VARCHAR                                  AS service,
    coalesce(nullif(spelled.region, ''), 'unknown')::VARCHAR  AS region,
    spelled.metric::VARCHAR                                   AS metric,
    spelled.unit::VARCHAR                                     AS unit,
    spelled.value_num::DECIMAL(38, 9)                         AS value_num,
    spelled.cost_usd_increment::DECIMAL(38, 9)                AS cost_usd_increment,
    spelled.schema_version::BIGINT                            AS schema_version,
    spelled.carbon_kg::DECIMAL(38, 9)                         AS carbon_kg,
    spelled.genai_tokens::DECIMAL(38, 9)                      AS genai_tokens
FROM spelled
