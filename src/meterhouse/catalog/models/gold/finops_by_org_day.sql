/* ---
description: What each organisation used and was charged per day, over all services.
owner: finops@example.com
kind: mergeable
grain: [org_id, usage_date]
columns:
  org_id: Organisation that is charged.
  usage_date: {unit: UTC, doc: Day of the events.}
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
serving: {partition_key: [org_id], clustering: [usage_date DESC]}
audits:
  - unique: [org_id, usage_date]
  - same_total: {daily_cost_usd: gold.org_daily_usage_by_service.daily_cost_usd}
--- */
SELECT
    daily.org_id::VARCHAR AS org_id,
    daily.usage_date::DATE AS usage_date,
    coalesce(sum(daily.daily_cost_usd), 0)::DECIMAL(38, 9) AS daily_cost_usd,
    coalesce(sum(daily.requests), 0)::DECIMAL(38, 9) AS requests,
    coalesce(sum(daily.cpu_hours), 0)::DECIMAL(38, 9) AS cpu_hours,
    coalesce(sum(daily.storage_gb_hours), 0)::DECIMAL(38, 9) AS storage_gb_hours,
    coalesce(sum(daily.genai_tokens), 0)::DECIMAL(38, 9) AS genai_tokens,
    coalesce(sum(daily.carbon_kg), 0)::DECIMAL(38, 9) AS carbon_kg,
    coalesce(sum(daily.event_count), 0)::BIGINT AS event_count,
    coalesce(sum(daily.requests_reported_count), 0)::BIGINT AS requests_reported_count,
    coalesce(sum(daily.cpu_hours_reported_count), 0)::BIGINT AS cpu_hours_reported_count,
    coalesce(sum(daily.storage_gb_hours_reported_count), 0)::BIGINT AS storage_gb_hours_reported_count,
    coalesce(sum(daily.genai_reported_count), 0)::BIGINT AS genai_reported_count,
    coalesce(sum(daily.carbon_reported_count), 0)::BIGINT AS carbon_reported_count
FROM gold.org_daily_usage_by_service AS daily
GROUP BY daily.org_id, daily.usage_date
