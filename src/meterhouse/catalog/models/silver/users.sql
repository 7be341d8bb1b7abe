/* ---
description: >-
  Users and their history. One row for each version: a version is made
  when an attribute changes, and closed by the next one or by a delivery without the key.
owner: customers@example.com
kind: view
grain: [user_id, version]
columns:
  user_id: Key of the master.
  org_id: Organisation the user belongs to.
  email: Address the user logs in with; personal.
  role: Role within the organisation.
  active: False when the login is switched off.
  created_at: {unit: UTC, doc: Day the login was made.}
  last_login: {unit: UTC, doc: Day of the last login; NULL when there was none.}
  version: 1 for the first version of the key, 2 for the next, …
  valid_from: {unit: UTC, doc: When the log took the version in.}
  valid_to: {unit: UTC, doc: When it was replaced or removed; NULL while it is current.}
  valid_from_position: Log entry that brought the version.
  valid_to_position: Log entry that replaced or removed it; NULL while it is current.
  is_current: True for the version that holds now.
audits:
  - unique: [user_id, version]
  - one_current_version: >-
      SELECT user_id, count(*) AS times FROM silver.users WHERE is_current
      GROUP BY user_id HAVING count(*) > 1
--- */

-- A removed key is an arrival without attributes.
WITH arrivals AS (
    SELECT
        master.user_id,
        struct_pack(
            org_id := master.org_id,
            email := master.email,
            role := master.role,
            active := master.active,
            created_at := master.created_at,
            last_login := master.last_login
        ) AS attributes,
        master.log_position,
        master.row_number AS place,
        master.ingest_ts
    FROM bronze.users AS master
    UNION ALL
    SELECT
        removed.key ->> '$[0]' AS user_id,
        NULL AS attributes,
        removed.log_position,
        removed.row_number AS place,
        removed.ingest_ts
    FROM bronze.removed_keys AS removed
    WHERE removed.source = 'users'
),

compared AS (
    SELECT
        arrival.user_id,
        arrival.attributes,
        arrival.log_position,
        arrival.place,
        arrival.ingest_ts,
        lag(arrival.attributes) OVER (
            PARTITION BY arrival.user_id ORDER BY arrival.log_position, arrival.place
        ) AS attributes_before
    FROM arrivals AS arrival
),

changes AS (
    SELECT
        compared.user_id,
        compared.attributes,
        compared.log_position AS valid_from_position,
        compared.ingest_ts AS valid_from,
        compared.place,
        lead(compared.log_position) OVER (
            PARTITION BY compared.user_id ORDER BY compared.log_position, compared.place
        ) AS valid_to_position,
        lead(compared.ingest_ts) OVER (
            PARTITION BY compared.user_id ORDER BY compared.log_position, compared.place
        ) AS valid_to
    FROM compared
    WHERE compared.attributes IS DISTINCT FROM compared.attributes_before
),

versions AS (
    SELECT
        change.user_id,
        change.attributes,
        change.valid_from_position,
        change.valid_from,
        change.valid_to_position,
        change.valid_to,
        row_number() OVER (
            PARTITION BY change.user_id ORDER BY change.valid_from_position, change.place
        ) AS version
    FROM changes AS change
    WHERE change.attributes IS NOT NULL
)

SELECT
    version.user_id::VARCHAR                      AS user_id,
    version.attributes.org_id::VARCHAR            AS org_id,
    version.attributes.email::VARCHAR             AS email,
    version.attributes.role::VARCHAR              AS role,
    version.attributes.active::BOOLEAN            AS active,
    version.attributes.created_at::DATE           AS created_at,
    version.attributes.last_login::DATE           AS last_login,
    version.version::BIGINT                       AS version,
    version.valid_from::TIMESTAMPTZ               AS valid_from,
    version.valid_to::TIMESTAMPTZ                 AS valid_to,
    version.valid_from_position::BIGINT           AS valid_from_position,
    version.valid_to_position::BIGINT             AS valid_to_position,
    (version.valid_to_position IS NULL)::BOOLEAN  AS is_current
FROM versions AS version
