/* ---
description: Invoiced by organisation; the current version of each invoice.
owner: simulation@example.com
kind: mergeable
grain: [org]
columns:
  org: Who pays.
  amount: {unit: EUR, doc: Invoiced.}
  invoices: Invoices.
serving: {partition_key: [org]}
audits:
  - unique: [org]
  - same_total: {amount: bronze.invoices_current.amount}
--- */
SELECT
    invoice.org::VARCHAR AS org,
    coalesce(sum(invoice.amount), 0)::DECIMAL(38, 9) AS amount,
    count(*)::BIGINT AS invoices
FROM bronze.invoices_current AS invoice
GROUP BY invoice.org
