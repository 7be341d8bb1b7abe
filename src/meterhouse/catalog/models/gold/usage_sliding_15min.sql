/* ---
description: >-
  What each organisation was charged per service and region over fifteen minutes, every five:
  [window_start, window_start + 15 minutes), the merge of the three windows of
  gold.usage_by_5min that start at window_start, 5 and 10 minutes later. So each event is in
  three rows. A window in which nothing happened has no row; one that would start before year 1
  doesn't exist.
owner: finops@example.com
kind: mergeable
grain: [window_start, org_id, service, region]
columns:
  window_start: {unit: UTC, doc: Start of the fifteen minutes.}
  org_id: Organisation that is charged.
  service: Cloud service; trimmed, ASCII lower case.
  region: Region of the resource; "unknown" when none was given.
  cost_usd: {unit: USD, doc: Charges before credits and taxes.}
  event_count: Events.
  genai_tokens: {unit: tokens, doc: GenAI tokens reported.}
  genai_reported_count: Events behind genai_tokens.
stored: false
--- */

-- A window of five minutes is the first, the second and the last third of three others.
SELECT
    make_timestamptz(epoch_us(part.window_start) - shift.back_us)::TIMESTAMPTZ  AS window_start,
    part.org_id::VARCHAR                                                        AS org_id,
    part.service::VARCHAR                                                       AS service,
    part.region::VARCHAR                                                        AS region,
    coalesce(sum(part.cost_usd), 0)::DECIMAL(38, 9)                             AS cost_usd,
    coalesce(sum(part.event_count), 0)::BIGINT                                  AS event_count,
    coalesce(sum(part.genai_tokens), 0)::DECIMAL(38, 9)                         AS genai_tokens,
    coalesce(sum(part.genai_reported_count), 0)::BIGINT                         AS genai_reported_count
FROM gold.usage_by_5min AS part
CROSS JOIN unnest([0, 300000000, 600000000]) AS shift(back_us)
WHERE epoch_us(part.window_start) - shift.back_us >= -62135596800000000
GROUP BY
    make_timestamptz(epoch_us(part.window_start) - shift.back_us),
    part.org_id,
    part.service,
    part.region
