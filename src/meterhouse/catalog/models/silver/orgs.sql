/* ---
description: >-
  Organisations and their history. One row for each version: a version is made
  when an attribute changes, and closed by the next one or by a delivery without the key.
owner: customers@example.com
kind: view
grain: [org_id, version]
columns:
  org_id: Key of the master.
  org_name: Its name.
  industry: Its industry.
  hq_region: Region of its headquarters.
  plan_tier: Plan it is on.
  is_enterprise: True for an enterprise agreement.
  signup_date: {unit: UTC, doc: Day it signed up.}
  sales_rep: Who looks after it.
  lifecycle_stage: Where it stands.
  marketing_source: What brought it here.
  nps_score: {unit: index, doc: Satisfaction index as delivered.}
  version: 1 for the first version of the key, 2 for the next, …
  valid_from: {unit: UTC, doc: When the log took the version in.}
  valid_to: {unit: UTC, doc: When it was replaced or removed; NULL while it is current.}
  valid_from_position: Log entry that brought the version.
  valid_to_position: Log entry that replaced or removed it; NULL while it is current.
  is_current: True for the version that holds now.
audits:
  - unique: [org_id, version]
  - one_current_version: >-
      SELECT org_id, count(*) AS times FROM silver.orgs WHERE is_current
      GROUP BY org_id HAVING count(*) > 1
--- */

-- A removed key is an arrival without attributes.
WITH arrivals AS (
    SELECT
        master.org_id,
        struct_pack(
            org_name := master.org_name,
            industry := master.industry,
            hq_region := master.hq_region,
            plan_tier := master.plan_tier,
            is_enterprise := master.is_enterprise,
            signup_date := master.signup_date,
            sales_rep := master.sales_rep,
            lifecycle_stage := master.lifecycle_stage,
            marketing_source := master.marketing_source,
            nps_score := master.nps_score
        ) AS attributes,
        master.log_position,
        master.row_number AS place,
        master.ingest_ts
    FROM bronze.customers_orgs AS master
    UNION ALL
    SELECT
        removed.key ->> '$[0]' AS org_id,
        NULL AS attributes,
        removed.log_position,
        removed.row_number AS place,
        removed.ingest_ts
    FROM bronze.removed_keys AS removed
    WHERE removed.source = 'customers_orgs'
),

compared AS (
    SELECT
        arrival.org_id,
        arrival.attributes,
        arrival.log_position,
        arrival.place,
        arrival.ingest_ts,
        lag(arrival.attributes) OVER (
            PARTITION BY arrival.org_id ORDER BY arrival.log_position, arrival.place
        ) AS attributes_before
    FROM arrivals AS arrival
),

changes AS (
    SELECT
        compared.org_id,
        compared.attributes,
        compared.log_position AS valid_from_position,
        compared.ingest_ts AS valid_from,
        compared.place,
        lead(compared.log_position) OVER (
            PARTITION BY compared.org_id ORDER BY compared.log_position, compared.place
        ) AS valid_to_position,
        lead(compared.ingest_ts) OVER (
            PARTITION BY compared.org_id ORDER BY compared.log_position, compared.place
        ) AS valid_to
    FROM compared
    WHERE compared.attributes IS DISTINCT FROM compared.attributes_before
),

versions AS (
    SELECT
        change.org_id,
        change.attributes,
        change.valid_from_position,
        change.valid_from,
        change.valid_to_position,
        change.valid_to,
        row_number() OVER (
            PARTITION BY change.org_id ORDER BY change.valid_from_position, change.place
        ) AS version
    FROM changes AS change
    WHERE change.attributes IS NOT NULL
)

SELECT
    version.org_id::VARCHAR                       AS org_id,
    version.attributes.org_name::VARCHAR          AS org_name,
    version.attributes.industry::VARCHAR          AS industry,
    version.attributes.hq_region::VARCHAR         AS hq_region,
    version.attributes.plan_tier::VARCHAR         AS plan_tier,
    version.attributes.is_enterprise::BOOLEAN     AS is_enterprise,
    version.attributes.signup_date::DATE          AS signup_date,
    version.attributes.sales_rep::VARCHAR         AS sales_rep,
    version.attributes.lifecycle_stage::VARCHAR   AS lifecycle_stage,
    version.attributes.marketing_source::VARCHAR  AS marketing_source,
    version.attributes.nps_score::DECIMAL(38, 9)  AS nps_score,
    version.version::BIGINT                       AS version,
    version.valid_from::TIMESTAMPTZ               AS valid_from,
    version.valid_to::TIMESTAMPTZ                 AS valid_to,
    version.valid_from_position::BIGINT           AS valid_from_position,
    version.valid_to_position::BIGINT             AS valid_to_position,
    (version.valid_to_position IS NULL)::BOOLEAN  AS is_current
FROM versions AS version
