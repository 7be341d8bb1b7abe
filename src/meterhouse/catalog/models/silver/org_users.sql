/* ---
description: >-
  How many users an organisation has now. No event names a user, so users enrich organisations.
owner: customers@example.com
kind: view
grain: [org_id]
columns:
  org_id: Organisation.
  user_count: Users it has now.
  active_user_count: Those whose login is switched on.
  last_login_date: {unit: UTC, doc: Latest login of any of them; NULL when nobody ever logged in.}
audits:
  - unique: [org_id]
--- */
SELECT
    person.org_id::VARCHAR                      AS org_id,
    count(*)::BIGINT                            AS user_count,
    (count(*) FILTER (person.active))::BIGINT   AS active_user_count,
    max(person.last_login)::DATE                AS last_login_date
FROM silver.users AS person
WHERE person.is_current
GROUP BY person.org_id
