/* ---
description: >-
  What each organisation was charged per service and region in windows of five minutes, by the
  time of the events: [window_start, window_start + 5 minutes), UTC, from the full hour on.
owner: finops@example.com
kind: mergeable
grain: [window_start, org_id, service, region]
columns:
  window_start: {unit: UTC, doc: Start of the window.}
  org_id: Organisation that is charged.
  service: Cloud service; trimmed, ASCII lower case.
  region: Region of the resource; "unknown" when none was given.
  cost_usd: {unit: USD, doc: Charges before credits and taxes.}
  event_count: Events.
  genai_tokens: {unit: tokens, doc: GenAI tokens reported.}
  genai_reported_count: Events behind genai_tokens.
serving:
  partition_key: [org_id]
  clustering: [window_start DESC, service, region]
  keep: window_start
  cql:
    usage_by_5min:
      partition_key: [org_id, day(window_start)]
      clustering: [window_start DESC, service, region]
audits:
  - unique: [window_start, org_id, service, region]
  - same_total: {cost_usd: silver.usage.cost_usd_increment}
--- */

-- In whole microseconds, 300,000,000 to a window: the remainder of a time before 1970 is
-- negative, so it is taken twice to round down always.
SELECT
    make_timestamptz(
        epoch_us(usage.event_ts) - (epoch_us(usage.event_ts) % 300000000 + 300000000) % 300000000
    )::TIMESTAMPTZ                                              AS window_start,
    usage.org_id::VARCHAR                                       AS org_id,
    usage.service::VARCHAR                                      AS service,
    usage.region::VARCHAR                                       AS region,
    coalesce(sum(usage.cost_usd_increment), 0)::DECIMAL(38, 9)  AS cost_usd,
    count(*)::BIGINT                                            AS event_count,
    coalesce(sum(usage.genai_tokens), 0)::DECIMAL(38, 9)        AS genai_tokens,
    count(usage.genai_tokens)::BIGINT                           AS genai_reported_count
FROM silver.usage AS usage
GROUP BY
    make_timestamptz(
        epoch_us(usage.event_ts) - (epoch_us(usage.event_ts) % 300000000 + 300000000) % 300000000
    ),
    usage.org_id,
    usage.service,
    usage.region
