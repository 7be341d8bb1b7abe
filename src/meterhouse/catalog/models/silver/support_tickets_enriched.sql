/* ---
description: Current version of each support ticket, with what is known of its organisation.
owner: support@example.com
kind: rows
fact: bronze.support_tickets_current
grain: [ticket_id]
columns:
  ticket_id: Ticket.
  org_id: Organisation that opened it.
  category: What it is about.
  severity: How bad it is, as delivered.
  ticket_date: {unit: UTC, doc: Day it was opened.}
  resolved_date: {unit: UTC, doc: Day it was resolved; NULL while it is open.}
  resolution_hours: {unit: hours, doc: Whole days it took × 24; NULL while open.}
  sla_breached_bool: True when the promised time was missed.
  csat: {unit: score, doc: Satisfaction score as delivered; NULL when none was given.}
  csat_valid: True when the score lies within 1 to 5; NULL without a score.
  org_name: Name of the organisation; NULL when it is not known.
  industry: Its industry.
  org_region: Region of its headquarters.
  plan_tier: Plan it is on.
  lifecycle_stage: Where it stands.
  is_enterprise: True for an enterprise agreement.
audits:
  - unique: [ticket_id]
  - same_count: bronze.support_tickets_current
--- */
SELECT
    ticket.ticket_id::VARCHAR       AS ticket_id,
    ticket.org_id::VARCHAR          AS org_id,
    ticket.category::VARCHAR        AS category,
    ticket.severity::VARCHAR        AS severity,
    ticket.created_at::DATE         AS ticket_date,
    ticket.resolved_at::DATE        AS resolved_date,
    ((ticket.resolved_at - ticket.created_at) * 24)::BIGINT AS resolution_hours,
    ticket.sla_breached::BOOLEAN    AS sla_breached_bool,
    ticket.csat::DECIMAL(38, 9)     AS csat,
    (ticket.csat BETWEEN 1 AND 5)::BOOLEAN AS csat_valid,
    org.org_name::VARCHAR           AS org_name,
    org.industry::VARCHAR           AS industry,
    org.hq_region::VARCHAR          AS org_region,
    org.plan_tier::VARCHAR          AS plan_tier,
    org.lifecycle_stage::VARCHAR    AS lifecycle_stage,
    org.is_enterprise::BOOLEAN      AS is_enterprise
FROM bronze.support_tickets_current AS ticket
LEFT JOIN silver.orgs AS org ON ticket.org_id = org.org_id AND org.is_current
