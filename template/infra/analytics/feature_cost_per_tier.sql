-- What each feature cost in a month, by tier.
SELECT
  month, tier, feature,
  COALESCE(SUM(cost_usd), CAST(0 AS DECIMAL(38, 18))) AS cost_usd,
  CAST(SUM(tokens) AS BIGINT) AS tokens,
  CAST(SUM(CASE WHEN kind = 'invocation' THEN calls ELSE 0 END) AS BIGINT) AS requests
FROM counted_once
GROUP BY month, tier, feature
