/* ---
description: What each organisation used and was charged per day, over all services.
owner: finops@example.com
kind: view
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
    sum(daily.daily_cost_usd)::DECIMAL(38, 9) AS daily_cost_usd,
    sum(daily.requests)::DECIMAL(38, 9) AS requests,
    sum(daily.cpu_hours)::DECIMAL(38, 9) AS cpu_hours,
    sum(daily.storage_gb_hours)::DECIMAL(38, 9) AS storage_gb_hours,
    sum(daily.genai_tokens)::DECIMAL(38, 9) AS genai_tokens,
    sum(daily.carbon_kg)::DECIMAL(38, 9) AS carbon_kg,
    sum(daily.event_count)::BIGINT AS event_count,
    sum(daily.requests_reported_count)::BIGINT AS requests_reported_count,
    sum(daily.cpu_hours_reported_count)::BIGINT AS cpu_hours_reported_count,
    sum(daily.storage_gb_hours_reported_count)::BIGINT AS storage_gb_hours_reported_count,
    sum(daily.genai_reported_count)::BIGINT AS genai_reported_count,
    sum(daily.carbon_reported_count)::BIGINT AS carbon_reported_count
FROM gold.org_daily_usage_by_service AS daily
GROUP BY daily.org_id, daily.usage_date
