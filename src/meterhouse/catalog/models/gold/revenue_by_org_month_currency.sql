/* ---
description: Invoiced revenue per organisation, month and currency of the invoice; current versions.
owner: finance@example.com
kind: mergeable
grain: [org_id, month, currency]
columns:
  org_id: Organisation that pays.
  month: {unit: UTC, doc: First day of the month that is charged.}
  currency: ISO 4217 code of the invoices; empty when none was given.
  subtotal_usd: {unit: USD, doc: Before credits and taxes; credit notes are negative.}
  credits_usd: {unit: USD, doc: Credits.}
  taxes_usd: {unit: USD, doc: Taxes.}
  total_cost_usd: {unit: USD, doc: subtotal_usd - credits_usd + taxes_usd.}
  invoice_count: Invoices, credit notes among them.
serving: {partition_key: [org_id], clustering: [month DESC, currency]}
audits:
  - unique: [org_id, month, currency]
  - same_total: {total_cost_usd: silver.billing_enriched.total_cost_usd}
--- */
SELECT
    invoice.org_id::VARCHAR AS org_id,
    invoice.month::DATE AS month,
    coalesce(invoice.currency, '')::VARCHAR AS currency,
    coalesce(sum(invoice.subtotal_usd), 0)::DECIMAL(38, 9) AS subtotal_usd,
    coalesce(sum(invoice.credits_usd), 0)::DECIMAL(38, 9) AS credits_usd,
    coalesce(sum(invoice.taxes_usd), 0)::DECIMAL(38, 9) AS taxes_usd,
    coalesce(sum(invoice.total_cost_usd), 0)::DECIMAL(38, 9) AS total_cost_usd,
    count(*)::BIGINT AS invoice_count
FROM silver.billing_enriched AS invoice
GROUP BY invoice.org_id, invoice.month, coalesce(invoice.currency, '')
