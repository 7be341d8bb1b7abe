/* ---
description: Every NPS survey with the class of its index.
owner: customers@example.com
kind: rows
grain: [org_id, survey_date]
columns:
  org_id: Organisation that answered.
  survey_date: {unit: UTC, doc: Day of the answer.}
  nps_score: {unit: index, doc: "As delivered, -100 to 100 by its scale; NULL when left out."}
  comment: What was written beside it; may name people.
  nps_class: >-
    promoter from 50, neutral from 0, detractor below, out_of_range beyond -100 to 100;
    NULL without a score.
audits:
  - unique: [org_id, survey_date]
--- */
SELECT
    survey.org_id::VARCHAR              AS org_id,
    survey.survey_date::DATE            AS survey_date,
    survey.nps_score::DECIMAL(38, 9)    AS nps_score,
    survey.comment::VARCHAR             AS comment,
    CASE
        WHEN survey.nps_score < -100 OR survey.nps_score > 100 THEN 'out_of_range'
        WHEN survey.nps_score >= 50 THEN 'promoter'
        WHEN survey.nps_score >= 0 THEN 'neutral'
        WHEN survey.nps_score < 0 THEN 'detractor'
    END::VARCHAR                        AS nps_class
FROM bronze.nps_surveys AS survey
