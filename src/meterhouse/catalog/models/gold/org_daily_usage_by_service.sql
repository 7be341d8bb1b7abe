/* ---
description: What each organisation used and was charged, per service and day.
owner: finops@example.com
kind: mergeable
grain: [org_id, usage_date, service]
columns:
  org_id: Organisation that is charged.
  usage_date: {unit: UTC, doc: Day of the events.}
  service: Cloud service; trimmed, ASCII lower case.
  daily_cost_usd: {unit: USD, doc: Charges before credits and taxes.}
  requests: {unit: count, doc: Requests metered.}
  cpu_hours: {unit: hours, doc: CPU time metered.}
  storage_gb_hours: {unit: GB hours, doc: Storage metered.}
  genai_tokens: {unit: tokens, doc: GenAI tokens reported.}
  carbon_kg: {unit: kg CO2e, doc: Emissions reported.}
  event_count: Events.
  requests_reported_count: Events behind requests.
  cpu_hours_reported_count: Events behind cpu_hours.
  storage_gb_hours_reported_count: Events behind storage_gb_hours.
  genai_reported_count: Events behind genai_tokens.
  carbon_reported_count: Events behind carbon_kg.
serving:
  partition_key: [org_id]
  clustering: [usage_date DESC, service]
  cql: finops_usage_by_org_day
audits:
  - unique: [org_id, usage_date, service]
  - not_null: [org_id, usage_date, service]
  - same_total: {daily_cost_usd: silver.usage.cost_usd_increment}
--- */
SELECT
    usage.org_id::VARCHAR
        AS org_id,
    usage.event_date::DATE
        AS usage_date,
    usage.service::VARCHAR
        AS service,
    coalesce(sum(usage.cost_usd_increment), 0)::DECIMAL(38, 9)
        AS daily_cost_usd,
    coalesce(sum(usage.value_num) FILTER (usage.metric = 'requests'), 0)::DECIMAL(38, 9)
        AS requests,
    coalesce(sum(usage.value_num) FILTER (usage.metric = 'cpu_hours'), 0)::DECIMAL(38, 9)
        AS cpu_hours,
    coalesce(sum(usage.value_num) FILTER (usage.metric = 'storage_gb_hours'), 0)::DECIMAL(38, 9)
        AS storage_gb_hours,
    coalesce(sum(usage.genai_tokens), 0)::DECIMAL(38, 9)
        AS genai_tokens,
    coalesce(sum(usage.carbon_kg), 0)::DECIMAL(38, 9)
        AS carbon_kg,
    count(*)::BIGINT
        AS event_count,
    (count(usage.value_num) FILTER (usage.metric = 'requests'))::BIGINT
        AS requests_reported_count,
    (count(usage.value_num) FILTER (usage.metric = 'cpu_hours'))::BIGINT
        AS cpu_hours_reported_count,
    (count(usage.value_num) FILTER (usage.metric = 'storage_gb_hours'))::BIGINT
        AS storage_gb_hours_reported_count,
    count(usage.genai_tokens)::BIGINT
        AS genai_reported_count,
    count(usage.carbon_kg)::BIGINT
        AS carbon_reported_count
FROM silver.usage AS usage
GROUP BY usage.org_id, usage.event_date, usage.service
