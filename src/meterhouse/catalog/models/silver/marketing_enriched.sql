/* ---
description: Every marketing touch, with what is known of the organisation it reached.
owner: marketing@example.com
kind: rows
fact: bronze.marketing_touches
grain: [touch_id]
columns:
  touch_id: Touch; unique for ever.
  org_id: Organisation that was reached.
  campaign: Campaign.
  channel: How it was reached.
  touch_date: {unit: UTC, doc: Day of the touch.}
  clicked: True when it was clicked.
  converted: True when it led to a contract.
  org_name: Name of the organisation; NULL when it is not known.
  industry: Its industry.
  org_region: Region of its headquarters.
  plan_tier: Plan it is on.
  lifecycle_stage: Where it stands.
  is_enterprise: True for an enterprise agreement.
audits:
  - unique: [touch_id]
  - same_count: bronze.marketing_touches
--- */
SELECT
    touch.touch_id::VARCHAR         AS touch_id,
    touch.org_id::VARCHAR           AS org_id,
    touch.campaign::VARCHAR         AS campaign,
    touch.channel::VARCHAR          AS channel,
    touch."timestamp"::DATE         AS touch_date,
    touch.clicked::BOOLEAN          AS clicked,
    touch.converted::BOOLEAN        AS converted,
    org.org_name::VARCHAR           AS org_name,
    org.industry::VARCHAR           AS industry,
    org.hq_region::VARCHAR          AS org_region,
    org.plan_tier::VARCHAR          AS plan_tier,
    org.lifecycle_stage::VARCHAR    AS lifecycle_stage,
    org.is_enterprise::BOOLEAN      AS is_enterprise
FROM bronze.marketing_touches AS touch
LEFT JOIN silver.orgs AS org ON touch.org_id = org.org_id AND org.is_current
