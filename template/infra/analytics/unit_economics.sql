-- What a tenant, a request and a thousand tokens cost, by month and tier.
SELECT
  month, tier, tenants, requests, tokens, cost_usd,
  CAST(cost_usd AS DOUBLE) / NULLIF(tenants, 0) AS usd_per_tenant,
  CAST(cost_usd AS DOUBLE) / NULLIF(requests, 0) AS usd_per_request,
  CAST(cost_usd AS DOUBLE) * 1000 / NULLIF(tokens, 0) AS usd_per_1000_tokens
FROM (
  SELECT month, tier, COUNT(DISTINCT tenant_id) AS tenants, CAST(SUM(requests) AS BIGINT) AS requests,
    CAST(SUM(tokens) AS BIGINT) AS tokens, SUM(cost_usd) AS cost_usd
  FROM cost_per_tenant
  WHERE tenant_id <> '-'
  GROUP BY month, tier
) AS by_tier
