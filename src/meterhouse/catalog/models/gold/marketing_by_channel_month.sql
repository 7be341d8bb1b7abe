/* ---
description: Marketing touches per channel, campaign and month, and what came of them.
owner: marketing@example.com
kind: mergeable
grain: [channel, campaign, month]
columns:
  channel: How organisations were reached.
  campaign: Campaign.
  month: {unit: UTC, doc: First day of the month of the touches.}
  touch_count: Touches.
  clicked_count: Touches that were clicked.
  converted_count: Touches that led to a contract.
  click_rate: {unit: share, doc: "clicked_count / touch_count; 6 places, half-even."}
  conversion_rate: {unit: share, doc: "converted_count / touch_count; 6 places, half-even."}
ratios:
  click_rate: clicked_count / touch_count
  conversion_rate: converted_count / touch_count
serving: {partition_key: [channel], clustering: [month DESC, campaign]}
audits:
  - unique: [channel, campaign, month]
--- */
SELECT
    touch.channel::VARCHAR AS channel,
    touch.campaign::VARCHAR AS campaign,
    date_trunc('month', touch.touch_date)::DATE AS month,
    count(*)::BIGINT AS touch_count,
    (count(*) FILTER (touch.clicked))::BIGINT AS clicked_count,
    (count(*) FILTER (touch.converted))::BIGINT AS converted_count
FROM silver.marketing_enriched AS touch
GROUP BY touch.channel, touch.campaign, date_trunc('month', touch.touch_date)
