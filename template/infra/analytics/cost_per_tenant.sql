-- What each tenant cost in a month. Where records have no price (unpriced), the cost is a lower bound.
SELECT
  month, tenant_id, tier,
  COALESCE(SUM(cost_usd), CAST(0 AS DECIMAL(38, 18))) AS cost_usd,
  CAST(SUM(tokens) AS BIGINT) AS tokens,
  CAST(SUM(CASE WHEN kind = 'invocation' THEN calls ELSE 0 END) AS BIGINT) AS requests,
  CAST(SUM(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END) AS BIGINT) AS unpriced
FROM counted_once
GROUP BY month, tenant_id, tier
