/* ---
description: >-
  Resources and their history. One row for each version: a version is made
  when an attribute changes, and closed by the next one or by a delivery without the key.
owner: platform@example.com
kind: view
grain: [resource_id, version]
columns:
  resource_id: Key of the master.
  org_id: Organisation that owns it.
  service: Cloud service it belongs to, as delivered.
  region: Region it runs in, as delivered.
  created_at: {unit: UTC, doc: Day it was made.}
  state: What it does now.
  tags_json: Tags as delivered, the text of a JSON list of key:value.
  tags: >-
    Tags by key, each with its values in the order delivered. NULL when none were delivered,
    empty when the text is not a JSON list.
  version: 1 for the first version of the key, 2 for the next, …
  valid_from: {unit: UTC, doc: When the log took the version in.}
  valid_to: {unit: UTC, doc: When it was replaced or removed; NULL while it is current.}
  valid_from_position: Log entry that brought the version.
  valid_to_position: Log entry that replaced or removed it; NULL while it is current.
  is_current: True for the version that holds now.
audits:
  - unique: [resource_id, version]
  - one_current_version: >-
      SELECT resource_id, count(*) AS times FROM silver.resources WHERE is_current
      GROUP BY resource_id HAVING count(*) > 1
--- */

-- A removed key is an arrival without attributes.
WITH arrivals AS (
    SELECT
        master.resource_id,
        struct_pack(
            org_id := master.org_id,
            service := master.service,
            region := master.region,
            created_at := master.created_at,
            state := master.state,
            tags_json := master.tags_json
        ) AS attributes,
        master.log_position,
        master.row_number AS place,
        master.ingest_ts
    FROM bronze.resources AS master
    UNION ALL
    SELECT
        removed.key ->> '$[0]' AS resource_id,
        NULL AS attributes,
        removed.log_position,
        removed.row_number AS place,
        removed.ingest_ts
    FROM bronze.removed_keys AS removed
    WHERE removed.source = 'resources'
),

compared AS (
    SELECT
        arrival.resource_id,
        arrival.attributes,
        arrival.log_position,
        arrival.place,
        arrival.ingest_ts,
        lag(arrival.attributes) OVER (
            PARTITION BY arrival.resource_id ORDER BY arrival.log_position, arrival.place
        ) AS attributes_before
    FROM arrivals AS arrival
),

changes AS (
    SELECT
        compared.resource_id,
        compared.attributes,
        compared.log_position AS valid_from_position,
        compared.ingest_ts AS valid_from,
        compared.place,
        lead(compared.log_position) OVER (
            PARTITION BY compared.resource_id ORDER BY compared.log_position, compared.place
        ) AS valid_to_position,
        lead(compared.ingest_ts) OVER (
            PARTITION BY compared.resource_id ORDER BY compared.log_position, compared.place
        ) AS valid_to
    FROM compared
    WHERE compared.attributes IS DISTINCT FROM compared.attributes_before
),

versions AS (
    SELECT
        change.resource_id,
        change.attributes,
        change.valid_from_position,
        change.valid_from,
        change.valid_to_position,
        change.valid_to,
        row_number() OVER (
            PARTITION BY change.resource_id ORDER BY change.valid_from_position, change.place
        ) AS version
    FROM changes AS change
    WHERE change.attributes IS NOT NULL
),

-- Text that is not a JSON list has no tags; TRY keeps it from failing the whole batch.
listed AS (
    SELECT
        version.resource_id,
        version.attributes,
        version.valid_from_position,
        version.valid_from,
        version.valid_to_position,
        version.valid_to,
        version.version,
        list_transform(
            list_filter(
                coalesce(TRY(from_json(version.attributes.tags_json, '["VARCHAR"]')), []),
                lambda tag: tag IS NOT NULL
            ),
            lambda tag: struct_pack(
                name := split_part(tag, ':', 1),
                content := substr(tag, length(split_part(tag, ':', 1)) + 2)
            )
        ) AS tags
    FROM versions AS version
),

tagged AS (
    SELECT
        version.resource_id,
        version.attributes,
        version.valid_from_position,
        version.valid_from,
        version.valid_to_position,
        version.valid_to,
        version.version,
        version.tags,
        list_sort(list_distinct(list_transform(version.tags, lambda tag: tag.name))) AS names
    FROM listed AS version
)

SELECT
    version.resource_id::VARCHAR                  AS resource_id,
    version.attributes.org_id::VARCHAR            AS org_id,
    version.attributes.service::VARCHAR           AS service,
    version.attributes.region::VARCHAR            AS region,
    version.attributes.created_at::DATE           AS created_at,
    version.attributes.state::VARCHAR             AS state,
    version.attributes.tags_json::VARCHAR         AS tags_json,
    CASE
        WHEN version.attributes.tags_json IS NOT NULL THEN map(
            version.names,
            list_transform(
                version.names,
                lambda named: list_transform(
                    list_filter(version.tags, lambda tag: tag.name = named),
                    lambda tag: tag.content
                )
            )
        )
    END::MAP(VARCHAR, VARCHAR[]) AS tags,
    version.version::BIGINT                       AS version,
    version.valid_from::TIMESTAMPTZ               AS valid_from,
    version.valid_to::TIMESTAMPTZ                 AS valid_to,
    version.valid_from_position::BIGINT           AS valid_from_position,
    version.valid_to_position::BIGINT             AS valid_to_position,
    (version.valid_to_position IS NULL)::BOOLEAN  AS is_current
FROM tagged AS version
