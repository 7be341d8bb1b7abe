/* ---
description: NPS surveys per organisation and day; what gold.nps_by_org is made of.
owner: customers@example.com
kind: mergeable
grain: [org_id, survey_date]
columns:
  org_id: Organisation that answered.
  survey_date: {unit: UTC, doc: Day of the answer.}
  survey_count: Surveys, those without a score too.
  scored_count: Surveys with a score.
  nps_score_sum: {unit: index, doc: Sum of the scores as given.}
serving: {partition_key: [org_id], clustering: [survey_date DESC]}
audits:
  - unique: [org_id, survey_date]
--- */
SELECT
    survey.org_id::VARCHAR AS org_id,
    survey.survey_date::DATE AS survey_date,
    count(*)::BIGINT AS survey_count,
    count(survey.nps_score)::BIGINT AS scored_count,
    coalesce(sum(survey.nps_score), 0)::DECIMAL(38, 9) AS nps_score_sum
FROM silver.nps_enriched AS survey
GROUP BY survey.org_id, survey.survey_date
