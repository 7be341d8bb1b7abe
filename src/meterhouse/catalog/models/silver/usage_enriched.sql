/* ---
description: >-
  Every accepted usage event with what is now known of its organisation and resource. An event
  whose organisation or resource is unknown stays, with NULLs.
owner: platform@example.com
kind: rows
fact: silver.usage
grain: [event_id]
columns:
  event_id: Assigned by the emitter; unique for ever.
  event_ts: {unit: UTC, doc: When the usage happened.}
  event_date: {unit: UTC, doc: Day of the event.}
  org_id: Organisation that is charged.
  resource_id: Resource that was used.
  service: Cloud service; trimmed, ASCII lower case.
  region: Region of the resource; "unknown" when none was given.
  metric: What value_num measures.
  unit: Unit of value_num.
  value_num: Metered quantity. NULL means that nothing was metered, which is not zero.
  cost_usd_increment: {unit: USD, doc: Charge of the event before credits and taxes.}
  schema_version: Version of the event's form.
  carbon_kg: {unit: kg CO2e, doc: Emissions of the event; NULL when not reported.}
  genai_tokens: {unit: tokens, doc: Tokens of a GenAI call; NULL when not reported.}
  org_name: Name of the organisation; NULL when it is not known.
  industry: Its industry.
  org_region: Region of its headquarters.
  plan_tier: Plan it is on.
  lifecycle_stage: Where it stands.
  is_enterprise: True for an enterprise agreement.
  resource_state: What the resource does now; NULL when it is not known.
  resource_service: Service the resource belongs to, as in silver.resources.
  resource_region: Region the resource runs in, as in silver.resources.
  resource_tags: Tags of the resource; a key can have several values.
  org_known: False when no master has the organisation.
  resource_known: False when no master has the resource.
audits:
  - same_count: silver.usage
--- */
SELECT
    usage.event_id::VARCHAR                   AS event_id,
    usage.event_ts::TIMESTAMPTZ               AS event_ts,
    usage.event_date::DATE                    AS event_date,
    usage.org_id::VARCHAR                     AS org_id,
    usage.resource_id::VARCHAR                AS resource_id,
    usage.service::VARCHAR                    AS service,
    usage.region::VARCHAR                     AS region,
    usage.metric::VARCHAR                     AS metric,
    usage.unit::VARCHAR                       AS unit,
    usage.value_num::DECIMAL(38, 9)           AS value_num,
    usage.cost_usd_increment::DECIMAL(38, 9)  AS cost_usd_increment,
    usage.schema_version::BIGINT              AS schema_version,
    usage.carbon_kg::DECIMAL(38, 9)           AS carbon_kg,
    usage.genai_tokens::DECIMAL(38, 9)        AS genai_tokens,
    org.org_name::VARCHAR                     AS org_name,
    org.industry::VARCHAR                     AS industry,
    org.hq_region::VARCHAR                    AS org_region,
    org.plan_tier::VARCHAR          AS plan_tier,
    org.lifecycle_stage::VARCHAR    AS lifecycle_stage,
    org.is_enterprise::BOOLEAN      AS is_enterprise,
    resource.state::VARCHAR                   AS resource_state,
    resource.service::VARCHAR                 AS resource_service,
    resource.region::VARCHAR                  AS resource_region,
    resource.tags::MAP(VARCHAR, VARCHAR[])    AS resource_tags,
    (org.org_id IS NOT NULL)::BOOLEAN         AS org_known,
    (resource.resource_id IS NOT NULL)::BOOLEAN AS resource_known
FROM silver.usage AS usage
LEFT JOIN silver.orgs AS org ON usage.org_id = org.org_id AND org.is_current
LEFT JOIN silver.resources AS resource
    ON usage.resource_id = resource.resource_id AND resource.is_current
