/* ---
description: >-
  Where each organisation stands: all its surveys, and the last one that has a score. An
  organisation has one survey a day.
owner: customers@example.com
kind: view
grain: [org_id]
columns:
  org_id: Organisation that answered.
  survey_count: Surveys, those without a score too.
  scored_count: Surveys with a score.
  nps_score_sum: {unit: index, doc: Sum of the scores as given.}
  last_survey_date: {unit: UTC, doc: Day of the last scored survey; NULL when none has a score.}
  last_nps_score: {unit: index, doc: Its score.}
  avg_nps_score: {unit: index, doc: "nps_score_sum / scored_count; 6 places, half-even."}
  nps_class: Class of the last score, as in silver.nps_enriched.
ratios:
  avg_nps_score: nps_score_sum / scored_count
serving: {partition_key: [org_id], clustering: []}
audits:
  - unique: [org_id]
--- */
WITH dated AS (
    SELECT
        daily.org_id,
        daily.survey_date,
        daily.survey_count,
        daily.scored_count,
        daily.nps_score_sum,
        max(daily.survey_date) FILTER (daily.scored_count > 0) OVER (
            PARTITION BY daily.org_id
        ) AS last_survey_date
    FROM gold.nps_by_org_date AS daily
),

totals AS (
    SELECT
        dated.org_id,
        sum(dated.survey_count) AS survey_count,
        sum(dated.scored_count) AS scored_count,
        sum(dated.nps_score_sum) AS nps_score_sum,
        max(dated.last_survey_date) AS last_survey_date,
        max(dated.nps_score_sum) FILTER (dated.survey_date = dated.last_survey_date)
            AS last_nps_score
    FROM dated
    GROUP BY dated.org_id
)

SELECT
    org.org_id::VARCHAR AS org_id,
    org.survey_count::BIGINT AS survey_count,
    org.scored_count::BIGINT AS scored_count,
    org.nps_score_sum::DECIMAL(38, 9) AS nps_score_sum,
    org.last_survey_date::DATE AS last_survey_date,
    org.last_nps_score::DECIMAL(38, 9) AS last_nps_score,
    CASE
        WHEN org.last_nps_score < -100 OR org.last_nps_score > 100 THEN 'out_of_range'
        WHEN org.last_nps_score >= 50 THEN 'promoter'
        WHEN org.last_nps_score >= 0 THEN 'neutral'
        WHEN org.last_nps_score < 0 THEN 'detractor'
    END::VARCHAR AS nps_class
FROM totals AS org
