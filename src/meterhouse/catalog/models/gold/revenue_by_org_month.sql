/* ---
description: Invoiced revenue per organisation and month in USD; current version of each invoice.
owner: finance@example.com
kind: view
grain: [org_id, month]
columns:
  org_id: Organisation that pays.
  month: {unit: UTC, doc: First day of the month that is charged.}
  subtotal_usd: {unit: USD, doc: Before credits and taxes; credit notes are negative.}
  credits_usd: {unit: USD, doc: Credits.}
  taxes_usd: {unit: USD, doc: Taxes.}
  total_cost_usd: {unit: USD, doc: subtotal_usd - credits_usd + taxes_usd.}
  invoice_count: Invoices, credit notes among them.
  currencies: Currencies of the invoices, sorted.
serving: {partition_key: [org_id], clustering: [month DESC]}
audits:
  - unique: [org_id, month]
  - same_total: {total_cost_usd: silver.billing_enriched.total_cost_usd}
--- */
SELECT
    part.org_id::VARCHAR AS org_id,
    part.month::DATE AS month,
    sum(part.subtotal_usd)::DECIMAL(38, 9) AS subtotal_usd,
    sum(part.credits_usd)::DECIMAL(38, 9) AS credits_usd,
    sum(part.taxes_usd)::DECIMAL(38, 9) AS taxes_usd,
    sum(part.total_cost_usd)::DECIMAL(38, 9) AS total_cost_usd,
    sum(part.invoice_count)::BIGINT AS invoice_count,
    coalesce(
        list(part.currency ORDER BY part.currency) FILTER (part.currency <> ''), []
    )::VARCHAR[] AS currencies
FROM gold.revenue_by_org_month_currency AS part
GROUP BY part.org_id, part.month
