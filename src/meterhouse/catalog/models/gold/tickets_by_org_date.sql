/* ---
description: Support tickets per organisation, day opened and severity, with how they went.
owner: support@example.com
kind: mergeable
grain: [org_id, ticket_date, severity]
columns:
  org_id: Organisation that opened them.
  ticket_date: {unit: UTC, doc: Day they were opened.}
  severity: How bad they are, as delivered.
  ticket_count: Tickets.
  sla_breached_count: Tickets whose promised time was missed.
  resolved_count: Tickets resolved by now.
  open_count: Tickets still open.
  csat_sum: {unit: score, doc: "Sum of all scores as given, those outside 1 to 5 too."}
  csat_count: Tickets with a score.
  resolution_hours_sum: {unit: hours, doc: Time until resolved of the resolved tickets.}
  sla_breach_rate: {unit: share, doc: "sla_breached_count / ticket_count; 6 places, half-even."}
  csat_avg: {unit: score, doc: "csat_sum / csat_count; NULL without scores."}
  avg_resolution_hours: {unit: hours, doc: resolution_hours_sum / resolved_count.}
ratios:
  sla_breach_rate: sla_breached_count / ticket_count
  csat_avg: csat_sum / csat_count
  avg_resolution_hours: resolution_hours_sum / resolved_count
serving:
  partition_key: [org_id]
  clustering: [ticket_date DESC, severity]
  cql:
    tickets_by_org_day_severity:
    tickets_by_day:
      partition_key: [severity, month(ticket_date)]
      clustering: [ticket_date, org_id]
audits:
  - unique: [org_id, ticket_date, severity]
--- */
SELECT
    ticket.org_id::VARCHAR AS org_id,
    ticket.ticket_date::DATE AS ticket_date,
    ticket.severity::VARCHAR AS severity,
    count(*)::BIGINT AS ticket_count,
    (count(*) FILTER (ticket.sla_breached_bool))::BIGINT AS sla_breached_count,
    count(ticket.resolution_hours)::BIGINT AS resolved_count,
    (count(*) FILTER (ticket.resolution_hours IS NULL))::BIGINT AS open_count,
    coalesce(sum(ticket.csat), 0)::DECIMAL(38, 9) AS csat_sum,
    count(ticket.csat)::BIGINT AS csat_count,
    coalesce(sum(ticket.resolution_hours), 0)::BIGINT AS resolution_hours_sum
FROM silver.support_tickets_enriched AS ticket
GROUP BY ticket.org_id, ticket.ticket_date, ticket.severity
