/* ---
description: >-
  Current version of each invoice, in USD. Each component is multiplied by the rate as given and
  rounded half-even to 9 places; the total is made of the rounded parts. Credit notes are kept.
owner: finance@example.com
kind: rows
fact: bronze.billing_monthly_current
grain: [invoice_id]
columns:
  invoice_id: Invoice.
  org_id: Organisation that pays.
  month: {unit: UTC, doc: First day of the month that is charged.}
  currency: ISO 4217 code of the invoice.
  exchange_rate_to_usd: Rate applied as given, also to USD invoices.
  subtotal: {unit: as in currency, doc: Before credits and taxes; negative for a credit note.}
  credits: {unit: as in currency, doc: Taken off the subtotal; NULL counts as 0.}
  taxes: {unit: as in currency, doc: Put on top; NULL counts as 0.}
  subtotal_usd: {unit: USD, doc: Before credits and taxes.}
  credits_usd: {unit: USD, doc: Taken off the subtotal.}
  taxes_usd: {unit: USD, doc: Put on top.}
  total_cost_usd: {unit: USD, doc: subtotal_usd - credits_usd + taxes_usd.}
  org_name: Name of the organisation; NULL when it is not known.
  industry: Its industry.
  plan_tier: Plan it is on.
audits:
  - unique: [invoice_id]
  - same_count: bronze.billing_monthly_current
--- */

-- A product of two DECIMAL(38, 9) has 18 places and overflows early, so it is taken in whole
-- units of 1e-9: DECIMAL(38, 9) prints 9 places always, and without the point that is its
-- units. An amount too large for DECIMAL(38, 9) in USD is an error, never a rounding.
WITH units AS (
    SELECT
        invoice.invoice_id,
        replace(invoice.exchange_rate_to_usd::DECIMAL(38, 9)::VARCHAR, '.', '')::HUGEINT AS rate,
        list_transform(
            [invoice.subtotal, invoice.credits, invoice.taxes],
            lambda amount:
                replace(coalesce(amount, 0)::DECIMAL(38, 9)::VARCHAR, '.', '')::HUGEINT
        ) AS amounts,
        invoice.org_id,
        invoice.month,
        invoice.currency,
        invoice.exchange_rate_to_usd,
        invoice.subtotal,
        invoice.credits,
        invoice.taxes
    FROM bronze.billing_monthly_current AS invoice
),

products AS (
    SELECT
        unit.invoice_id,
        list_transform(
            unit.amounts,
            lambda amount: struct_pack(
                negative := amount < 0,
                whole := abs(amount) // 1000000000 * unit.rate
                    + abs(amount) % 1000000000 * unit.rate // 1000000000,
                rest := abs(amount) % 1000000000 * unit.rate % 1000000000
            )
        ) AS parts,
        unit.org_id,
        unit.month,
        unit.currency,
        unit.exchange_rate_to_usd,
        unit.subtotal,
        unit.credits,
        unit.taxes
    FROM units AS unit
),

rounded AS (
    SELECT
        product.invoice_id,
        list_transform(
            product.parts,
            lambda part: (
                (
                    part.whole
                    + CASE
                        WHEN part.rest > 500000000 THEN 1
                        WHEN part.rest = 500000000 AND part.whole % 2 = 1 THEN 1
                        ELSE 0
                    END
                ) * CASE WHEN part.negative THEN -1 ELSE 1 END
            )::DECIMAL(38, 0) * 0.000000001
        ) AS usd,
        product.org_id,
        product.month,
        product.currency,
        product.exchange_rate_to_usd,
        product.subtotal,
        product.credits,
        product.taxes
    FROM products AS product
)

SELECT
    invoice.invoice_id::VARCHAR                     AS invoice_id,
    invoice.org_id::VARCHAR                         AS org_id,
    date_trunc('month', invoice.month)::DATE        AS month,
    invoice.currency::VARCHAR                       AS currency,
    invoice.exchange_rate_to_usd::DECIMAL(38, 9)    AS exchange_rate_to_usd,
    invoice.subtotal::DECIMAL(38, 9)                AS subtotal,
    invoice.credits::DECIMAL(38, 9)                 AS credits,
    invoice.taxes::DECIMAL(38, 9)                   AS taxes,
    invoice.usd[1]::DECIMAL(38, 9)                  AS subtotal_usd,
    invoice.usd[2]::DECIMAL(38, 9)                  AS credits_usd,
    invoice.usd[3]::DECIMAL(38, 9)                  AS taxes_usd,
    (invoice.usd[1] - invoice.usd[2] + invoice.usd[3])::DECIMAL(38, 9) AS total_cost_usd,
    org.org_name::VARCHAR                           AS org_name,
    org.industry::VARCHAR                           AS industry,
    org.plan_tier::VARCHAR                          AS plan_tier
FROM rounded AS invoice
LEFT JOIN silver.orgs AS org ON invoice.org_id = org.org_id AND org.is_current
