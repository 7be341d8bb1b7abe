/* ---
description: GenAI tokens and their cost per organisation and day, over events that report tokens.
owner: finops@example.com
kind: mergeable
grain: [org_id, usage_date]
columns:
  org_id: Organisation that is charged.
  usage_date: {unit: UTC, doc: Day of the events.}
  total_tokens: {unit: tokens, doc: Tokens reported; events with none are left out.}
  genai_cost_usd: {unit: USD, doc: Charges of those events before credits and taxes.}
  event_count: Events with tokens.
  cost_per_1k_tokens_usd: {unit: USD per 1000 tokens, doc: "6 places, half-even."}
ratios:
  cost_per_1k_tokens_usd: 1000 * genai_cost_usd / total_tokens
serving:
  partition_key: [org_id]
  clustering: [usage_date DESC]
  cql: genai_tokens_by_org_day
audits:
  - unique: [org_id, usage_date]
--- */
SELECT
    usage.org_id::VARCHAR                                           AS org_id,
    usage.event_date::DATE                                          AS usage_date,
    coalesce(sum(usage.genai_tokens), 0)::DECIMAL(38, 9)            AS total_tokens,
    coalesce(sum(usage.cost_usd_increment), 0)::DECIMAL(38, 9)      AS genai_cost_usd,
    count(*)::BIGINT                                                AS event_count
FROM silver.usage AS usage
WHERE usage.genai_tokens > 0
GROUP BY usage.org_id, usage.event_date
